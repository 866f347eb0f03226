package reconcile

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"usher/balancer"
	"usher/health"
	"usher/internal/discovery"
)

// TestRestore: a service that is restored is at once what it was, without a check, a line or a transition, and goes on
// from there: ejections, overrides and ends of flows come when they would have come.
func TestRestore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		said := new(answers)
		core, logged := observer.New(zap.InfoLevel)
		var reported reader
		start := func(before *Service) (*Reconciler, *Service, *cutter) {
			r := newReconciler(Options{Log: zap.New(core), Checks: 9, OnTransition: reported.take}, nil)
			r.newMonitor = func(c health.Checker, p health.Policy, report health.Report) *health.Monitor {
				return health.NewMonitor(answering{said, "check"}, p, report)
			}
			r.names.watcher.Close()
			s := newService(t, r, parse(t, "8080=10.0.0.1:1,10.0.0.2:1,x.test:1,10.0.0.4:1,10.0.0.5:1", "on-down=reset,60s", "eject=3,time=50s,share=90%"))
			if before != nil {
				text, err := json.Marshal(before.State())
				if err != nil {
					t.Fatal(err)
				}
				var st ServiceState
				if err := json.Unmarshal(text, &st); err != nil {
					t.Fatal(err)
				}
				restorePool(t, s.pool, before.pool)
				if err := s.Restore(&st, nil); err != nil {
					t.Fatal(err)
				}
			}
			c := new(cutter)
			r.Set(t.Context(), c, desired(s))
			began := time.Now()
			r.WaitFirst(t.Context())
			if waited := time.Since(began); before != nil && waited > 0 {
				t.Errorf("waited %s for first results", waited)
			}
			return r, s, c
		}
		r, s, _ := start(nil)
		r.names.onUpdate(discovery.Update{Name: "x.test", Records: recordsOf("x.test", netip.MustParseAddr("10.0.0.3"))})
		r.flush(t.Context())
		r.Begin(t.Context())
		time.Sleep(time.Second)
		said.set("10.0.0.2:1")
		drain := balancer.Drain
		for address, o := range map[string]Override{"10.0.0.1:1": {Admin: &drain, Timeout: 70 * time.Second}, "x.test:1": {Admin: &drain}} {
			if err := s.SetOverride(t.Context(), address, o); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			s.outliers.OnFailure(s.pool.Backends()[3])
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		show := func(s *Service) string {
			var all []string
			for _, b := range s.Backends() {
				all = append(all, fmt.Sprintf("%s %s %s %q since %s", b.Backend, b.Status, b.Override, b.Reason, b.Since.Format(time.RFC3339Nano)))
			}
			return strings.Join(all, ", ")
		}
		before, lines := show(s), logged.Len()
		for _, want := range []string{"10.0.0.1:1 drain drain", "10.0.0.2:1 down", "10.0.0.3:1 drain drain", "10.0.0.4:1 down  \"ejected: 3 failures in a row\" since 2000-01-01T00:00:01", "10.0.0.5:1 up"} {
			if !strings.Contains(before, want) {
				t.Fatalf("before: %s, want %s", before, want)
			}
		}
		reported.read()
		r.Close()
		r, s, c := start(s)
		defer r.Close()
		r.Begin(t.Context())
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if got := show(s); got != before || s.Status() != ServiceDegraded {
			t.Errorf("restored\n%s\nwant\n%s", got, before)
		}
		if got := reported.read(); got != "" || logged.Len() != lines {
			t.Errorf("reported %s, %d lines: %v", got, logged.Len()-lines, logged.All()[lines:])
		}
		time.Sleep(32 * time.Second)
		synctest.Wait()
		if got, want := reported.read(), "readmitted 10.0.0.4:1 >, status 10.0.0.4:1 down>up"; got != want {
			t.Errorf("after the ejection: %s, want %s", got, want)
		}
		if c.String() != "" {
			t.Errorf("flows end early: %s", c)
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if got, want := reported.read(), "override 10.0.0.1:1 drain> its time is over, status 10.0.0.1:1 drain>up"; got != want {
			t.Errorf("after the override: %s, want %s", got, want)
		}
		if got, want := c.String(), "10.0.0.2:1 reset"; got != want {
			t.Errorf("ended %q, want %q", got, want)
		}
	})
}

// restorePool gives a pool the backends of another one, as the data path does.
func restorePool(t *testing.T, p, before *balancer.Pool) {
	t.Helper()
	st, backends := before.State(nil)
	if _, err := p.Restore(&st, make([]int64, len(backends)), 0); err != nil {
		t.Fatal(err)
	}
}

// FuzzRestore: whatever a state says, it is refused or the service runs.
func FuzzRestore(f *testing.F) {
	f.Add(uint8(2), uint8(2), uint8(1), uint8(1), uint8(2), 3, int64(5), int64(7), 2, "10.0.0.1:1", "refused", true)
	f.Add(uint8(0), uint8(3), uint8(3), uint8(2), uint8(1), 1<<31, int64(-5), int64(1)<<62, 1<<40, "10.0.0.9:1", "", false)
	f.Fuzz(func(t *testing.T, status, found, cause, how, admin uint8, weight int, age, left int64, count int, address, text string, is bool) {
		at, _ := netip.ParseAddrPort(address)
		target := &health.Target{Name: text, Network: "tcp", Address: address}
		terminations := []TerminationRecord{{cause, is, time.Duration(left), how}}
		st := ServiceState{
			Backends: []BackendRecord{{
				Endpoint: balancer.Endpoint{Addr: at}, Status: status, Weight: weight, Since: age, Why: text, HasRefused: is,
				Check: target, Agent: target, Found: found, Error: text, Terminations: terminations,
				Report:   health.AgentReport{Weight: health.OptionalInt{IsSet: is, Value: weight}, Admin: health.AdminState(admin), Reason: text},
				Ejection: &health.Ejection{IsEjected: is, Count: count, Age: time.Duration(age), Left: time.Duration(left)},
				Refusal:  RefusalRecord{is, is, is, time.Duration(age)},
			}},
			Removed:      []RemovedRecord{{balancer.Endpoint{Addr: at}, terminations}},
			Names:        []NameRecord{{"x.test", []discovery.Record{{Host: text, Addr: at.Addr()}}, is}, {text, nil, is}},
			Overrides:    []OverrideRecord{{balancer.Endpoint{Addr: at}, admin, is, weight, time.Duration(left), time.Duration(age)}},
			LeftOut:      []string{text},
			Availability: found, Status: status, IsKnown: is,
		}
		r := played(Options{Log: zap.NewNop(), Checks: 1})
		defer r.Close()
		r.names.watcher.Close()
		s := newService(t, r, parse(t, "8080=10.0.0.1:1,x.test:1,10.0.0.2:1", "agent=9", "eject=2", "on-down=reset"))
		s.pool.Update([]balancer.Spec{{Endpoint: balancer.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.1:1")}, Weight: 1}}, 0)
		if err := s.Restore(&st, s.pool.Backends()); err != nil {
			return
		}
		r.begun.Store(true)
		r.Set(t.Context(), new(cutter), desired(s))
		again := s.State()
		if err := again.Check(); err != nil {
			t.Errorf("restored, and then: %v", err)
		}
		if n := len(s.Backends()); n < 2 || n > 3 {
			t.Errorf("%d backends", n)
		}
	})
}
