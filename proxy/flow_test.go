package proxy

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"usher/balancer"
	"usher/conntrack"
)

// newFlow returns a flow of a service with n backends, as an engine would open it.
func newFlow(t *testing.T, n int, c ServiceConfig) (*flow, *balancer.Pool) {
	t.Helper()
	pool, err := balancer.NewPool(balancer.Options{Scheduler: "rr", Initial: balancer.Up})
	if err != nil {
		t.Fatal(err)
	}
	var specs []balancer.Spec
	for i := range n {
		specs = append(specs, balancer.Spec{
			Endpoint: balancer.Endpoint{Addr: netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:80", i+1))}, Weight: 1,
		})
	}
	pool.Update(specs)
	c.Pool = pool
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 5 * time.Second
	}
	svc := &Service{ServiceConfig: c}
	rows := conntrack.New[Service, balancer.Backend](1)
	f := new(flow)
	from, local := netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("127.0.0.1:80")
	f.id, f.ent = rows.Insert(conntrack.NewKey(conntrack.TCP, from, local), svc, 0)
	f.open(svc, from, local, 0, 0)
	return f, pool
}

func wantReserved(t *testing.T, pool *balancer.Pool, want int64) {
	t.Helper()
	var n int64
	for _, b := range pool.Backends() {
		n += b.Active()
	}
	if n != want {
		t.Errorf("%d reservations, want %d", n, want)
	}
}

func TestRefusedBackendsAreEachTriedOnce(t *testing.T) {
	t.Parallel()
	f, pool := newFlow(t, 3, ServiceConfig{})
	seen := map[string]bool{}
	for range 3 {
		if o := f.next(0); o != Running {
			t.Fatalf("next: %v after %v", o, seen)
		}
		seen[f.backend.String()] = true
		wantReserved(t, pool, 1)
		f.refused()
	}
	if len(seen) != 3 {
		t.Errorf("tried %v, want three different ones", seen)
	}
	if o := f.next(0); o != ConnectFailed {
		t.Errorf("next: %v, want %v", o, ConnectFailed)
	}
	f.account(ConnectFailed, 0)
	wantReserved(t, pool, 0)
}

func TestNoBackendAtAll(t *testing.T) {
	t.Parallel()
	f, _ := newFlow(t, 0, ServiceConfig{})
	if o := f.next(0); o != NoBackend {
		t.Errorf("next: %v, want %v", o, NoBackend)
	}
}

func TestManyRefusingBackendsEnd(t *testing.T) {
	t.Parallel()
	f, pool := newFlow(t, 100, ServiceConfig{})
	tries := 0
	for f.next(0) == Running {
		f.refused()
		if tries++; tries > 100 {
			t.Fatal("tries without end")
		}
	}
	wantReserved(t, pool, 0)
}

func TestSlowAttemptsMoveOnAndTheLastHasTheWholeBudget(t *testing.T) {
	t.Parallel()
	f, pool := newFlow(t, 2, ServiceConfig{ConnectTimeout: 5 * time.Second})
	if o := f.next(0); o != Running || f.deadline() != 250*time.Millisecond {
		t.Fatalf("first attempt: %v until %v", o, f.deadline())
	}
	first := f.backend
	now := f.deadline()
	if !f.slow(now) || f.backend == first || !f.holding {
		t.Fatalf("after a slow attempt: backend %v, holding %v", f.backend, f.holding)
	}
	if first.Failures() != 1 {
		t.Errorf("%d failures counted against the slow backend, want 1", first.Failures())
	}
	if got, want := f.deadline(), now+500*time.Millisecond; got != want {
		t.Errorf("second attempt until %v, want %v", got, want)
	}
	now = f.deadline()
	if f.slow(now) {
		t.Fatal("gave up although there is no other backend")
	}
	if f.deadline() != 5*time.Second {
		t.Errorf("the last candidate has until %v, want all of the budget", f.deadline())
	}
	wantReserved(t, pool, 1)
	if !f.slow(5*time.Second) || f.holding {
		t.Error("kept the attempt past the budget")
	}
	if o := f.next(5 * time.Second); o != ConnectFailed {
		t.Errorf("next: %v, want %v", o, ConnectFailed)
	}
	wantReserved(t, pool, 0)
}

func TestWaitHoldsTheClientAndTriesAgain(t *testing.T) {
	t.Parallel()
	f, pool := newFlow(t, 1, ServiceConfig{Wait: time.Second})
	now := time.Duration(0)
	rounds := 0
	for {
		o := f.next(now)
		if o != Running {
			if o != ConnectFailed || now < time.Second {
				t.Fatalf("ended with %v at %v", o, now)
			}
			break
		}
		if f.phase == waiting {
			if f.deadline() <= now {
				t.Fatalf("waits until %v at %v", f.deadline(), now)
			}
			now = f.deadline()
			continue
		}
		rounds++
		f.refused()
	}
	if rounds < 5 {
		t.Errorf("%d attempts in a second of waiting, want several", rounds)
	}
	wantReserved(t, pool, 0)
}

func TestHalfCloseEndsTheFlowOnTheSecondFIN(t *testing.T) {
	t.Parallel()
	f, _ := newFlow(t, 1, ServiceConfig{HalfCloseTimeout: time.Minute})
	f.next(0)
	f.established(0)
	if f.finished(client, 10*time.Minute) {
		t.Error("one FIN ended the flow")
	}
	if s := f.ent.State(); s != conntrack.HalfClosed {
		t.Errorf("state %v, want %v", s, conntrack.HalfClosed)
	}
	if o, _ := f.overdue(10*time.Minute + time.Second); o != Running {
		t.Errorf("%v a second after the FIN of a flow that was silent before", o)
	}
	if !f.finished(backend, 10*time.Minute) {
		t.Error("two FINs did not end the flow")
	}
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, tc := range []struct {
		name       string
		idle, half time.Duration
		touched    time.Duration // a byte was moved then
		fin        time.Duration // one side's FIN; zero is none
		now        time.Duration
		want       Outcome
	}{
		{"no timeouts", 0, 0, 0, 0, 1000 * s, Running},
		{"not yet idle", 60 * s, 0, 10 * s, 0, 69 * s, Running},
		{"idle", 60 * s, 0, 10 * s, 0, 70 * s, IdleTimeout},
		{"half-closed, silent since before", 0, 60 * s, 10 * s, 100 * s, 159 * s, Running},
		{"half-closed too long", 0, 60 * s, 10 * s, 100 * s, 160 * s, HalfCloseTimeout},
		{"half-closed and still moving", 0, 60 * s, 150 * s, 100 * s, 209 * s, Running},
		{"half-close timeout off", 0, 0, 10 * s, 100 * s, 10000 * s, Running},
		{"idle before half-close", 30 * s, 60 * s, 100 * s, 90 * s, 130 * s, IdleTimeout},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f, _ := newFlow(t, 1, ServiceConfig{IdleTimeout: tc.idle, HalfCloseTimeout: tc.half})
			f.next(0)
			f.established(0)
			if tc.fin > 0 {
				f.finished(client, tc.fin)
			}
			f.ent.CountDown(1, tc.touched)
			got, _ := f.overdue(tc.now)
			if got != tc.want {
				t.Errorf("overdue at %v: %v, want %v", tc.now, got, tc.want)
			}
			if got == Running && f.deadline() <= tc.now {
				t.Errorf("at %v the next deadline is %v: the timer would spin", tc.now, f.deadline())
			}
		})
	}
}

func TestTargetPorts(t *testing.T) {
	t.Parallel()
	at := netip.MustParseAddrPort
	for _, tc := range []struct {
		name   string
		ep     balancer.Endpoint
		local  string
		offset uint16
		want   string
	}{
		{"one port", balancer.Endpoint{Addr: at("10.0.0.1:80")}, "127.0.0.1:8000", 7, "10.0.0.1:80"},
		{"range", balancer.Endpoint{Addr: at("10.0.0.1:9000"), Ports: 100}, "127.0.0.1:8007", 7, "10.0.0.1:9007"},
		{"same port", balancer.Endpoint{Addr: at("10.0.0.1:0")}, "127.0.0.1:8007", 7, "10.0.0.1:8007"},
		{"unix", balancer.Endpoint{Path: "/run/x.sock"}, "127.0.0.1:8007", 7, "/run/x.sock"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f, pool := newFlow(t, 0, ServiceConfig{})
			pool.Update([]balancer.Spec{{Endpoint: tc.ep, Weight: 1}})
			f.local, f.offset = at(tc.local), tc.offset
			if o := f.next(0); o != Running {
				t.Fatal(o)
			}
			addr, path := f.target()
			got := path
			if path == "" {
				got = addr.String()
			}
			if got != tc.want {
				t.Errorf("target %s, want %s", got, tc.want)
			}
		})
	}
}

// TestAttemptGivenUpIsAFailureOnlyBesideAFasterOne: where every backend is as far, to give
// one up says nothing about it.
func TestAttemptGivenUpIsAFailureOnlyBesideAFasterOne(t *testing.T) {
	t.Parallel()
	for took, want := range map[time.Duration]int64{time.Millisecond: 1, 249 * time.Millisecond: 1, 250 * time.Millisecond: 0, 400 * time.Millisecond: 0} {
		w := new(witness)
		f, pool := newFlow(t, 2, ServiceConfig{ConnectTimeout: 5 * time.Second, Witness: w})
		f.next(0)
		now := f.deadline()
		if !f.slow(now) {
			t.Fatal("a slow attempt goes on although there is another backend")
		}
		f.established(now + took)
		if got := w.bad.Load(); got != want {
			t.Errorf("the next backend accepted after %v: %d failures told, want %d", took, got, want)
		}
		f.account(Finished, now+took)
		wantReserved(t, pool, 0)
	}
}

// TestAttemptGivenUpIsNoFailureOfWhoAcceptsInTheEnd: one that was slow, and is tried again
// when all others have failed, is not worse than itself.
func TestAttemptGivenUpIsNoFailureOfWhoAcceptsInTheEnd(t *testing.T) {
	t.Parallel()
	w := new(witness)
	f, pool := newFlow(t, 2, ServiceConfig{Wait: 5 * time.Second, Witness: w})
	f.next(0)
	doubted, now := f.backend, f.deadline()
	if !f.slow(now) {
		t.Fatal("a slow attempt goes on although there is another backend")
	}
	f.refused()
	f.next(now) // held
	now = f.deadline()
	for f.next(now); f.backend != doubted; f.next(now) {
		f.refused()
	}
	before := w.bad.Load()
	f.established(now + time.Millisecond)
	if n := w.bad.Load() - before; n != 0 {
		t.Errorf("%d failures told of the backend that has accepted", n)
	}
	f.account(Finished, now+time.Millisecond)
	wantReserved(t, pool, 0)
}
