package reconcile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"usher/balancer"
	"usher/health"
)

// answers are those of checkers, by the beginning of their type's name, or by a target's address.
type answers struct {
	mu   sync.Mutex
	sick map[string]bool
}

func (a *answers) set(sick ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sick = make(map[string]bool)
	for _, s := range sick {
		a.sick[s] = true
	}
}

// answering is a checker that answers instead of another one.
type answering struct {
	answers *answers
	kind    string
}

func (a answering) Check(_ context.Context, t health.Target) error {
	time.Sleep(time.Millisecond)
	a.answers.mu.Lock()
	defer a.answers.mu.Unlock()
	if a.answers.sick[a.kind] || a.answers.sick[t.Address] {
		return errors.New(a.kind + " refused")
	}
	return nil
}

// TestOptionsChange changes the options of a service that runs. What was known stays until something else is found, and
// nothing is refused or reported meanwhile.
func TestOptionsChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logged := observer.New(zap.InfoLevel)
		var reported reader
		r := newReconciler(Options{Log: zap.New(core), Checks: 9, OnTransition: reported.take}, nil)
		defer r.Close()
		r.names.watcher.Close()
		said := new(answers)
		r.newMonitor = func(c health.Checker, p health.Policy, report health.Report) *health.Monitor {
			kind := strings.TrimPrefix(strings.TrimPrefix(fmt.Sprintf("%T", c), "*"), "health.")
			return health.NewMonitor(answering{said, kind}, p, report)
		}
		const mapping = "8080=10.0.0.1:1,10.0.0.2:1"
		s := newService(t, r, parse(t, mapping))
		pool := s.Pool()
		r.Set(t.Context(), new(cutter), desired(s))
		r.WaitFirst(t.Context())
		r.Begin(t.Context())
		first := pool.Backends()[0]
		first.CountFailure(balancer.FailedRefused)
		const up, oneDown = "10.0.0.1:1@1 up, 10.0.0.2:1@1 up", "10.0.0.1:1@1 up, 10.0.0.2:1@1 down"
		for _, step := range []struct {
			options, sick  string
			at, after      string // the pool at once, and after a second
			reported, more string // within that second, and in a minute
		}{
			{"", "", up, up, "", ""},
			{"health=tcp,interval=9s", "10.0.0.2:1", up, up, "", "status 10.0.0.2:1 up>down ConnectLoop refused, status up>degraded"},
			{"health=tcp,interval=9s,proxy", "", oneDown, up, "status 10.0.0.2:1 down>up, status degraded>up", ""},
			{"health=tcp,interval=9s,proxy", "10.0.0.2:1", up, up, "", "status 10.0.0.2:1 up>down prefaced refused, status up>degraded"},
			{"health=http:/", "10.0.0.2:1", oneDown, oneDown, "", ""},
			{"health=http:/", "", oneDown, oneDown, "", "status 10.0.0.2:1 down>up, status degraded>up"},
			{"health=http:/,port=7", "10.0.0.2:7", up, oneDown, "status 10.0.0.2:1 up>down HTTP refused, status up>degraded", ""},
			{"health=off", "10.0.0.2:7", up, up, "status 10.0.0.2:1 down>up not checked, status degraded>up", ""},
			{"health=tcp scheduler=mh slow-start=1s", "", up, up, "", ""},
			{"health=tcp fail=closed scheduler=ewma agent=9100", "Agent", up, up, "", ""},
			{"health=exec:/bin/true scheduler=lc", "10.0.0.2:1", up, oneDown, "status 10.0.0.2:1 up>down Exec refused, status up>degraded", ""},
		} {
			synctest.Wait()
			reported.read()
			said.set(step.sick)
			d := desired(s)
			d[0].Config = parse(t, mapping, strings.Fields(step.options)...)
			r.Set(t.Context(), new(cutter), d)
			got := []string{table(pool)}
			time.Sleep(time.Second)
			synctest.Wait()
			got = append(got, table(pool), reported.read())
			time.Sleep(time.Minute)
			synctest.Wait()
			got = append(got, reported.read())
			if want := []string{step.at, step.after, step.reported, step.more}; strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("%s: got\n%s\nwant\n%s", step.options, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if latency := strings.Contains(step.options, "ewma"); pool.ObservesLatency() != latency {
				t.Errorf("%s: observes latency %v", step.options, !latency)
			}
		}
		if first != pool.Backends()[0] || first.Failures() != 1 {
			t.Error("backends are others than before")
		}
		before := len(s.monitors)
		d := desired(s)
		d[0].Config = parse(t, mapping)
		d[0].Config.Health.Kind, d[0].Config.Health.CAFile = "https", "/nowhere/ca.pem"
		if err := Check(d[0].Config); err == nil {
			t.Error("a file that is not there is no error")
		}
		r.Set(t.Context(), new(cutter), d)
		if n := logged.FilterMessage("the service stays as it was").Len(); n != 1 || len(s.monitors) != before {
			t.Errorf("%d lines, %d monitors of %d", n, len(s.monitors), before)
		}
	})
}

// TestEjectionChanges: another policy is followed, and without one all that were ejected come back.
func TestEjectionChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const mapping = "8080=10.0.0.1:1,10.0.0.2:1,10.0.0.3:1,10.0.0.4:1"
		r, c, services := run(t, zap.NewNop(), parse(t, mapping, "health=off"))
		defer r.Close()
		s := services[0]
		for _, step := range []struct {
			eject    string
			failures int // of the first two, one after the other
			ejected  int
		}{{"off", 9, 0}, {"3,time=1h", 2, 0}, {"2,time=1h,share=25%", 2, 1}, {"2,time=1h", 2, 2}, {"off", 0, 0}, {"1,time=1h", 0, 0}, {"1,time=1h", 1, 2}} {
			d := desired(s)
			d[0].Config = parse(t, mapping, "health=off", "eject="+step.eject)
			r.Set(t.Context(), c, d)
			if is := s.Observer(d[0].Config) != nil; is != (step.eject != "off") {
				t.Errorf("%s: observed %v", step.eject, is)
			}
			for _, b := range s.pool.Backends()[:2] {
				for range step.failures {
					s.outliers.OnFailure(b)
				}
			}
			time.Sleep(time.Second)
			synctest.Wait()
			n := 0
			for _, b := range s.pool.Backends() {
				if b.Ejected() {
					n++
				}
			}
			if n != step.ejected {
				t.Errorf("%s, %d failures: %d are ejected, want %d", step.eject, step.failures, n, step.ejected)
			}
		}
	})
}
