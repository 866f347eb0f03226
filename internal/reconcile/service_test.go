package reconcile

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"usher/balancer"
	"usher/health"
	"usher/internal/config"
	"usher/internal/discovery"
	"usher/proxy"
)

// cutter is a server that has no flows.
type cutter struct {
	mu    sync.Mutex
	ended []string
}

func (c *cutter) Forget(*balancer.Backend) {}

func (c *cutter) CutBackend(b *balancer.Backend, how proxy.Cut) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = append(c.ended, fmt.Sprint(b, " ", how))
}

func (c *cutter) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.ended, ", ")
}

// run runs services whose names, checks and agents are played by the test, until it ends.
func run(t *testing.T, log *zap.Logger, configs ...*config.Service) (*Reconciler, *cutter, []*Service) {
	t.Helper()
	r := played(Options{Log: log, Checks: 1})
	t.Cleanup(r.Close)
	r.names.watcher.Close() // it looks nothing up
	c := new(cutter)
	var services []*Service
	for _, config := range configs {
		services = append(services, newService(t, r, config))
	}
	r.begun.Store(true)
	r.names.begin()
	r.Set(t.Context(), c, desired(services...))
	r.flush(t.Context())
	return r, c, services
}

func newService(t *testing.T, r *Reconciler, c *config.Service) *Service {
	t.Helper()
	s, err := r.NewService(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// result is one of a check.
func (s *Service) result(t health.Target, up bool, err error) { s.takeCheck(s.seen.era, t, up, err) }

// played is a reconciler whose checks and agents are played by the test.
func played(o Options) *Reconciler {
	r := newReconciler(o, nil)
	r.newMonitor = func(health.Checker, health.Policy, health.Report) *health.Monitor { return nil }
	return r
}

// desired are services as they were made.
func desired(services ...*Service) (all []Desired) {
	for _, s := range services {
		all = append(all, Desired{s, s.config})
	}
	return all
}

func target(backend string) health.Target {
	return health.Target{Name: backend, Network: "tcp", Address: backend}
}

func ups(s *Service) (n int) {
	for _, b := range s.pool.Backends() {
		if b.Status() == balancer.Up {
			n++
		}
	}
	return n
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// TestBuildsAreFew: a thousand backends whose first checks pass in one round cost a few tables, not a thousand. Observers
// do not wait for a table that is being built.
func TestBuildsAreFew(t *testing.T) {
	t.Parallel()
	const n = 1000
	var words []string
	for i := range n {
		words = append(words, fmt.Sprintf("10.0.%d.%d:80", i/250, i%250))
	}
	r, _, services := run(t, zap.NewNop(), parse(t, "8080="+strings.Join(words, ","), "scheduler=mh", "agent=9100"), parse(t, "8081=10.0.0.1:1"))
	s, other := services[0], services[1]
	var builds atomic.Int64
	entered, gate := make(chan struct{}), make(chan struct{})
	update := s.update
	s.update = func(specs []balancer.Spec, now time.Duration) ([]*balancer.Backend, time.Duration) {
		if builds.Add(1) == 1 {
			close(entered)
			<-gate
		}
		return update(specs, now)
	}
	s.result(target(words[0]), true, nil)
	<-entered
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, w := range words[1:] {
			s.result(target(w), true, nil)
		}
		s.onReport(health.Target{Name: words[0], Network: "tcp", Address: "10.0.0.0:9100"}, health.ParseAgentReport("50%"))
		r.names.onUpdate(discovery.Update{Name: "x.test"})
		other.result(target("10.0.0.1:1"), true, nil)
		for ups(other) == 0 {
			time.Sleep(time.Millisecond)
		}
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Error("somebody waits for a build")
	}
	close(gate)
	<-done
	await(t, "all are up", func() bool { return ups(s) == n })
	if got := builds.Load(); got > 3 {
		t.Errorf("%d updates for %d results", got, n)
	}
}

// TestOutliers: backends that fail flow after flow leave the pool and come back.
func TestOutliers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, _, services := run(t, zap.NewNop(), parse(t, "8080=10.0.0.1:1,10.0.0.2:1,10.0.0.3:1,10.0.0.4:1", "health=off", "eject=3,time=10s,share=50%"))
		defer r.Close()
		all, x := services[0].pool.Backends(), services[0].Observer(services[0].config)
		want := func(step string, ejected ...bool) {
			t.Helper()
			synctest.Wait()
			for i, b := range all {
				if b.Ejected() != ejected[i] || (b.Status() == balancer.Down) != ejected[i] {
					t.Errorf("%s: backend %d is %v, ejected: %v", step, i, b.Status(), b.Ejected())
				}
			}
		}
		fail := func(i, times int) {
			for range times {
				x.OnFailure(all[i])
			}
		}
		fail(0, 2)
		x.OnSuccess(all[0])
		fail(0, 2)
		want("no three in a row", false, false, false, false)
		fail(0, 1)
		time.Sleep(time.Second)
		want("three in a row", true, false, false, false)
		for i := 1; i < 4; i++ {
			fail(i, 3)
		}
		time.Sleep(time.Second)
		want("half of them at the most", true, true, false, false)
		time.Sleep(8500 * time.Millisecond)
		want("after the time of the first", false, true, false, false)
		time.Sleep(time.Second)
		want("after the time of the second", false, false, false, false)
	})
}

// TestEjectedStaysWhenAnotherComes: the backend that goes is listed before the one that comes, and both are news of one
// moment. There is always one in service, so none that is ejected has to come back.
func TestEjectedStaysWhenAnotherComes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, _, services := run(t, zap.NewNop(), parse(t, "8080=10.0.0.1:1,10.0.0.2:1,10.0.0.3:1", "eject=1,time=1h"))
		defer r.Close()
		s := services[0]
		check := func(up ...bool) {
			s.mu.Lock()
			for i, is := range up {
				status := map[bool]balancer.Status{true: balancer.Up, false: balancer.Down}[is]
				s.pending = append(s.pending, targetResult(s.seen.era, target(fmt.Sprintf("10.0.0.%d:1", i+1)), checkResult{status: status}))
			}
			s.mu.Unlock()
			r.queue.add(s.job, 0)
			synctest.Wait()
		}
		check(true, true, true)
		s.Observer(s.config).OnFailure(s.pool.Backends()[2])
		check(true, false, true)
		check(false, true, true)
		check(true, false, true)
		if got := table(s.pool); got != "10.0.0.1:1@1 up, 10.0.0.2:1@1 down, 10.0.0.3:1@1 down" {
			t.Error(got)
		}
	})
}

// TestAllGoWhileManyAreEjected: those that are ejected and down do not come back one after the other, with a table for each.
func TestAllGoWhileManyAreEjected(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var backends []string
		for i := range 200 {
			backends = append(backends, fmt.Sprintf("10.0.0.%d:1", i+1))
		}
		r, _, services := run(t, zap.NewNop(), parse(t, "8080="+strings.Join(backends, ","), "eject=1,time=1h"))
		defer r.Close()
		s := services[0]
		var updates atomic.Int64
		s.update = func(specs []balancer.Spec, now time.Duration) ([]*balancer.Backend, time.Duration) {
			updates.Add(1)
			return s.pool.Update(specs, now)
		}
		check := func(up bool) {
			for _, b := range backends {
				s.result(target(b), up, nil)
			}
			time.Sleep(time.Second)
		}
		check(true)
		for _, b := range s.pool.Backends() {
			s.Observer(s.config).OnFailure(b)
		}
		time.Sleep(time.Second)
		if n := ups(s); n != 100 {
			t.Errorf("%d are not ejected, want half of 200", n)
		}
		updates.Store(0)
		check(false)
		time.Sleep(time.Minute)
		if n := updates.Load(); n > 10 {
			t.Errorf("%d updates when all go down", n)
		}
	})
}

// TestRefusals: a backend of datagrams leaves the pool with its first refusal, for longer each time, and comes back with
// the first sign of life. Each outage has one line, and its end.
func TestRefusals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logged := observer.New(zap.InfoLevel)
		r, _, services := run(t, zap.New(core), parse(t, "udp:8080=10.0.0.1:1,10.0.0.2:1,10.0.0.3:1,10.0.0.4:1", "health=off"))
		defer r.Close()
		s := services[0]
		all, x := s.pool.Backends(), s.Observer(s.config)
		want := func(step string, lines int, ejected ...bool) {
			t.Helper()
			synctest.Wait()
			for i, b := range all {
				if b.Ejected() != ejected[i] {
					t.Errorf("%s: backend %d ejected: %v", step, i, b.Ejected())
				}
			}
			if logged.Len() != lines {
				t.Errorf("%s: %d lines: %v", step, logged.Len(), logged.All())
			}
		}
		x.OnFailure(all[0])
		want("refused", 1, true, false, false, false)
		x.OnFailure(all[0])
		x.OnSuccess(all[1])
		x.OnSuccess(all[0])
		want("answers that were under way", 1, true, false, false, false)
		x.OnFailure(all[1])
		x.OnFailure(all[2])
		x.OnFailure(all[3])
		want("half of them at the most", 2, true, true, false, false)
		time.Sleep(200 * time.Millisecond)
		x.OnSuccess(all[1])
		want("a sign of life", 3, true, false, false, false)
		time.Sleep(time.Second)
		want("a second", 3, false, false, false, false)
		x.OnFailure(all[0])
		time.Sleep(1500 * time.Millisecond)
		want("longer this time", 3, true, false, false, false)
		time.Sleep(time.Second)
		want("and over", 3, false, false, false, false)
		x.OnSuccess(all[0])
		want("it answers", 4, false, false, false, false)
		x.OnFailure(all[1])
		want("soon again", 4, false, true, false, false)
		s.config.Backends, s.seen.isNew = nil, true
		s.enqueue()
		synctest.Wait()
		if n := len(*s.outliers.doubted.Load()); n > 0 {
			t.Errorf("%d backends that are gone are doubted", n)
		}
	})
}

// TestTerminationsAreScheduled: they come when they are due without any other news.
func TestTerminationsAreScheduled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, c, services := run(t, zap.NewNop(), parse(t, "8080=10.0.0.1:1,10.0.0.2:1", "on-down=reset,10s"))
		defer r.Close()
		s := services[0]
		for i, err := range []error{errors.New("refused"), nil} {
			s.result(target(fmt.Sprintf("10.0.0.%d:1", i+1)), err == nil, err)
		}
		time.Sleep(9 * time.Second)
		if got := c.String(); got != "" {
			t.Errorf("after 9 s: %s", got)
		}
		time.Sleep(2 * time.Second)
		if got := c.String(); got != "10.0.0.1:1 reset" {
			t.Errorf("after 11 s: %s", got)
		}
	})
}

// TestBurstOfAnswers is one line of the log, and one update of the services that use the names, and of no other.
func TestBurstOfAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const hosts = 1000
		var words []string
		for i := range hosts {
			words = append(words, fmt.Sprintf("h%d.test:80", i))
		}
		core, logs := observer.New(zap.DebugLevel)
		r, _, services := run(t, zap.New(core), parse(t, "8000="+strings.Join(words, ","), "health=off"),
			parse(t, "8001=h7.test:80", "health=off"), parse(t, "8002=10.0.0.1:80", "health=off"))
		defer r.Close()
		var updates [3]int
		for i, s := range services {
			update := s.update
			s.update = func(specs []balancer.Spec, now time.Duration) ([]*balancer.Backend, time.Duration) {
				updates[i]++
				return update(specs, now)
			}
		}
		for i := range hosts {
			host := fmt.Sprintf("h%d.test", i)
			r.names.onUpdate(discovery.Update{Name: host, Records: recordsOf(host, netip.AddrFrom4([4]byte{10, 1, byte(i / 250), byte(i % 250)}))})
		}
		time.Sleep(time.Second)
		if got := [3]int{ups(services[0]), ups(services[1]), ups(services[2])}; got != [3]int{hosts, 1, 1} || updates != [3]int{1, 1, 0} {
			t.Errorf("up %v after %v updates", got, updates)
		}
		if got := logs.FilterMessage("names resolve").All(); len(got) != 1 || got[0].ContextMap()["count"] != int64(hosts) {
			t.Errorf("logged %v", logs.All())
		}
		r.names.onUpdate(discovery.Update{Name: "h8.test", Err: errors.New("no such host")})
		time.Sleep(time.Second)
		if ups(services[0]) != hosts-1 || updates != [3]int{2, 1, 0} {
			t.Errorf("%d up after %v updates", ups(services[0]), updates)
		}
	})
}

// TestSet: services come and go, those that stay go on, and one that comes gets what is known of its names.
func TestSet(t *testing.T) {
	t.Parallel()
	r, c, services := run(t, zap.NewNop(), parse(t, "8000=a.test:1", "health=off"), parse(t, "8001=10.0.0.1:1"))
	first, second := services[0], services[1]
	r.names.onUpdate(discovery.Update{Name: "a.test", Records: recordsOf("a.test", netip.MustParseAddr("10.0.0.7"))})
	second.result(target("10.0.0.1:1"), true, nil)
	r.flush(t.Context())
	third := newService(t, r, parse(t, "8002=a.test:2", "health=off"))
	r.Set(t.Context(), c, desired(third, first))
	r.flush(t.Context())
	if got := table(first.pool) + "; " + table(third.pool); got != "10.0.0.7:1@1 up; 10.0.0.7:2@1 up" {
		t.Errorf("pools: %s", got)
	}
	// A name more is a change of one service alone.
	var updates atomic.Int64
	first.update = func(specs []balancer.Spec, now time.Duration) ([]*balancer.Backend, time.Duration) {
		updates.Add(1)
		return first.pool.Update(specs, now)
	}
	changed := desired(third, first)
	more := *changed[0].Config
	changed[0].Config = &more
	more.Backends = append(slices.Clone(more.Backends), parse(t, "8002=10.0.0.8:1,a.test:3").Backends...)
	r.Set(t.Context(), c, changed)
	r.queue.flush(t.Context(), third.job)
	if got := table(third.pool); got != "10.0.0.7:2@1 up, 10.0.0.8:1@1 up, 10.0.0.7:3@1 up" || updates.Load() > 0 {
		t.Errorf("a changed service: %s; %d updates of the other one", got, updates.Load())
	}
	r.Set(t.Context(), c, desired(third))
	second.result(target("10.0.0.1:1"), false, errors.New("late"))
	r.flush(t.Context())
	r.queue.flush(t.Context(), second.job)
	if got := table(second.pool); got != "10.0.0.1:1@1 up" {
		t.Errorf("the pool of a service that is gone follows its checks: %s", got)
	}
}

// TestReportsAreNotLost: whatever happens meanwhile, what was said last counts in the end.
func TestReportsAreNotLost(t *testing.T) {
	t.Parallel()
	const seed = 1 // another one tests other cases
	r, _, services := run(t, zap.NewNop(), parse(t, "8080=db.test:1", "agent=9100", "on-drain=reset,1h", "on-down=reset,1h"))
	s := services[0]
	var addrs []netip.Addr
	for i := range 4 {
		addrs = append(addrs, netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}))
	}
	resolve := func(addrs []netip.Addr) {
		r.names.onUpdate(discovery.Update{Name: "db.test", Records: recordsOf("db.test", addrs...)})
		r.flush(t.Context())
	}
	resolve(addrs)
	var running sync.WaitGroup
	for i, addr := range addrs[:3] { // the last one comes and goes
		running.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(i)))
			name := netip.AddrPortFrom(addr, 1).String()
			agent := health.Target{Name: name, Network: "tcp", Address: netip.AddrPortFrom(addr, 9100).String()}
			words := []string{"drain", "maint", "ready", "up", "down", "0%", "10%", "maxconn:3"}
			for range 300 {
				s.onReport(agent, health.ParseAgentReport(words[rnd.IntN(len(words))]))
				s.result(target(name), rnd.IntN(2) == 0, errors.New("refused"))
			}
			s.result(target(name), true, nil)
			s.onReport(agent, health.ParseAgentReport([]string{"up ready 50% maxconn:0", "up drain 100% maxconn:7", "down ready 0% maxconn:0"}[i]))
		})
	}
	running.Go(func() {
		for i := range 50 {
			resolve(addrs[:3+i%2])
		}
	})
	running.Wait()
	r.flush(t.Context())
	var rows []string
	for _, b := range s.pool.Backends()[:3] {
		rows = append(rows, fmt.Sprintf("%s@%d %s %d", b, b.Weight(), b.Status(), b.Limits().Max))
	}
	if got := strings.Join(rows, ", "); got != "10.0.0.1:1@1 up 0, 10.0.0.2:1@1 drain 7, 10.0.0.3:1@0 down 0" {
		t.Error(got)
	}
}

// TestServiceThatCannotBe leaves nothing behind.
func TestServiceThatCannotBe(t *testing.T) {
	t.Parallel()
	r := newReconciler(Options{Log: zap.NewNop(), Checks: 1}, nil)
	defer r.Close()
	for _, spoil := range []func(*config.Service){
		func(s *config.Service) { s.Health.Kind, s.Health.CAFile = "https", "/nowhere/ca.pem" },
		func(s *config.Service) { s.Eject = config.Eject{Failures: 1<<31 - 1} },
	} {
		s := parse(t, "8080=10.0.0.1:1", "agent=9100")
		spoil(s)
		if _, err := r.NewService(s); err == nil || !strings.Contains(err.Error(), "service 8080: ") {
			t.Errorf("a service of what cannot be: %v", err)
		}
	}
}

// TestClosedServiceKeepsNothing: flows that outlive their service leave nothing behind in it.
func TestClosedServiceKeepsNothing(t *testing.T) {
	t.Parallel()
	r := played(Options{Log: zap.NewNop(), Checks: 1})
	defer r.Close()
	s := newService(t, r, parse(t, "8080=10.0.0.1:1", "health=off"))
	r.Set(t.Context(), new(cutter), desired(s))
	r.Set(t.Context(), new(cutter), nil)
	s.observe(liveBackend(s.pool.Backends()[0]))
	if n := len(s.pending); n != 0 {
		t.Errorf("%d observations wait for nobody", n)
	}
}
