package flow

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"usher/balancer"
	"usher/conntrack"
)

// newFlow returns a flow of a service with n backends, as an engine would open it.
func newFlow(t *testing.T, n int, c ServiceConfig) (*Flow, *balancer.Pool) {
	t.Helper()
	f := new(Flow)
	return f, beginFlow(t, f, n, c)
}

// beginFlow is newFlow for one that is part of an engine's connection.
func beginFlow(t *testing.T, f *Flow, n int, c ServiceConfig) *balancer.Pool {
	t.Helper()
	pool, err := balancer.NewPool(balancer.Options{Scheduler: "rr"})
	if err != nil {
		t.Fatal(err)
	}
	var specs []balancer.Spec
	for i := range n {
		specs = append(specs, balancer.Spec{
			Endpoint: balancer.Endpoint{Addr: netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:80", i+1))}, Weight: 1, Check: balancer.Up,
		})
	}
	pool.Update(specs, 0)
	c.Pool = pool
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 5 * time.Second
	}
	svc := testService(c)
	rows := conntrack.New[Service, balancer.Backend](1)
	from, local := netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("127.0.0.1:80")
	id, ent := rows.Insert(conntrack.NewKey(conntrack.TCP, from, local), svc, 0)
	f.GiveTicket(func() {})
	f.Begin(svc.Settings(), id, ent, &Origin{Client: from, Local: local}, 0)
	return pool
}

// wantDial checks that an action sends the flow to b, or to any backend if that is nil.
func wantDial(t *testing.T, f *Flow, a Action, b *balancer.Backend) {
	t.Helper()
	if a.Do != Dial || !f.holding || b != nil && f.backend != b {
		t.Fatalf("%+v with backend %v, want to dial %v", a, f.backend, b)
	}
}

// wantEnd checks that an action ends the flow.
func wantEnd(t *testing.T, a Action, o Outcome) {
	t.Helper()
	if a != EndAs(o) {
		t.Errorf("%+v, want the end: %v", a, o)
	}
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
	a := f.Next(0)
	for range 3 {
		wantDial(t, f, a, nil)
		seen[f.backend.String()] = true
		wantReserved(t, pool, 1)
		a = f.DialFailed(ClassRefused, 0)
	}
	if len(seen) != 3 {
		t.Errorf("tried %v, want three different ones", seen)
	}
	wantEnd(t, a, ConnectFailed)
	f.account(ConnectFailed, 0)
	wantReserved(t, pool, 0)
}

func TestNoBackendAtAll(t *testing.T) {
	t.Parallel()
	f, _ := newFlow(t, 0, ServiceConfig{})
	wantEnd(t, f.Next(0), NoBackend)
}

func TestManyRefusingBackendsEnd(t *testing.T) {
	t.Parallel()
	f, pool := newFlow(t, 100, ServiceConfig{})
	tries := 0
	for a := f.Next(0); a.Do != End; a = f.DialFailed(ClassRefused, 0) {
		if tries++; tries > 100 {
			t.Fatal("tries without end")
		}
	}
	wantReserved(t, pool, 0)
}

func TestSlowAttemptsMoveOnAndTheLastHasTheWholeBudget(t *testing.T) {
	t.Parallel()
	f, pool := newFlow(t, 2, ServiceConfig{ConnectTimeout: 5 * time.Second})
	a := f.Next(0)
	wantDial(t, f, a, nil)
	if a.Until != 250*time.Millisecond {
		t.Fatalf("first attempt until %v", a.Until)
	}
	first, now := f.backend, a.Until
	if a = f.Expired(now); a.Do != Dial || f.backend == first {
		t.Fatalf("after a slow attempt: %+v, backend %v", a, f.backend)
	}
	if first.FailuresBy(balancer.FailedTimeout) != 1 {
		t.Errorf("%d attempts timed out at the slow backend, want 1", first.FailuresBy(balancer.FailedTimeout))
	}
	if want := now + 500*time.Millisecond; a.Until != want {
		t.Errorf("second attempt until %v, want %v", a.Until, want)
	}
	for _, until := range []time.Duration{4750 * time.Millisecond, 5 * time.Second} {
		if a = f.Expired(a.Until); a != (Action{Until: until}) {
			t.Fatalf("%+v although there is no other backend, want to go on until %v", a, until)
		}
	}
	wantReserved(t, pool, 1)
	wantEnd(t, f.Expired(a.Until), ConnectFailed)
	wantReserved(t, pool, 0)
}

func TestWaitHoldsTheClientAndTriesAgain(t *testing.T) {
	t.Parallel()
	f, pool := newFlow(t, 1, ServiceConfig{Wait: time.Second})
	now := time.Duration(0)
	rounds := 0
	for a := f.Next(now); a.Do != End || now < time.Second; {
		switch a.Do {
		case Wait:
			if a.Until <= now {
				t.Fatalf("waits until %v at %v", a.Until, now)
			}
			now = a.Until
			a = f.Expired(now)
		case Dial:
			rounds++
			a = f.DialFailed(ClassRefused, now)
		default:
			t.Fatalf("%+v at %v", a, now)
		}
	}
	if rounds < 5 {
		t.Errorf("%d attempts in a second of waiting, want several", rounds)
	}
	wantReserved(t, pool, 0)
}

func TestHalfCloseEndsTheFlowOnTheSecondFIN(t *testing.T) {
	t.Parallel()
	f, _ := newFlow(t, 1, ServiceConfig{HalfCloseTimeout: time.Minute})
	f.Next(0)
	f.Connected(0)
	if a := f.PassedFIN(Client, 10*time.Minute); a.Do != GoOn {
		t.Errorf("one FIN: %+v", a)
	}
	if s := f.ent.State(); s != conntrack.HalfClosed {
		t.Errorf("state %v, want %v", s, conntrack.HalfClosed)
	}
	if o := lookAt(f, 10*time.Minute+time.Second, [2]PeerState{}); o != Running {
		t.Errorf("%v a second after the FIN of a flow that was silent before", o)
	}
	wantEnd(t, f.PassedFIN(Backend, 10*time.Minute), Finished)
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
			f.Next(0)
			f.Connected(0)
			if tc.fin > 0 {
				f.PassedFIN(Client, tc.fin)
			}
			f.ent.CountDown(1, tc.touched)
			got := lookAt(f, tc.now, [2]PeerState{{Silent: NeverHeard}, {Silent: NeverHeard}})
			if got != tc.want {
				t.Errorf("overdue at %v: %v, want %v", tc.now, got, tc.want)
			}
			if got == Running && f.Deadline() <= tc.now {
				t.Errorf("at %v the next deadline is %v: the timer would spin", tc.now, f.Deadline())
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
			pool.Update([]balancer.Spec{{Endpoint: tc.ep, Weight: 1, Check: balancer.Up}}, 0)
			f.Local, f.Offset = at(tc.local), tc.offset
			wantDial(t, f, f.Next(0), nil)
			addr, path := f.Target()
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

// TestSlowAttemptGivesWayToOneThatIsDownInTheEnd: until then it is the better one.
func TestSlowAttemptGivesWayToOneThatIsDownInTheEnd(t *testing.T) {
	t.Parallel()
	f, pool := newFlow(t, 3, ServiceConfig{ConnectTimeout: 5 * time.Second})
	up := pool.Backends()[1]
	setCheck(pool, pool.Backends()[0], balancer.Down)
	setCheck(pool, pool.Backends()[2], balancer.Down)
	wantDial(t, f, f.Next(0), up)
	const last = 4750 * time.Millisecond
	if a := f.Expired(250 * time.Millisecond); a != (Action{Until: last}) {
		t.Fatalf("%v is given up for one that is down: %+v", up, a)
	}
	if a := f.Expired(last); a.Do != Dial || f.backend == up || a.Until != 5*time.Second {
		t.Fatalf("then %+v with %v", a, f.backend)
	}
	if a := f.DialFailed(ClassRefused, last); a.Do != Dial || f.backend == up {
		t.Errorf("the other one that is down: %+v with %v", a, f.backend)
	}
	wantEnd(t, f.DialFailed(ClassRefused, last), ConnectFailed)
	f.account(ConnectFailed, 5*time.Second)
	wantReserved(t, pool, 0)
}

// TestAttemptGivenUpIsAFailureOnlyBesideAFasterOne: where every backend is as far, to give
// one up says nothing about it.
func TestAttemptGivenUpIsAFailureOnlyBesideAFasterOne(t *testing.T) {
	t.Parallel()
	for took, want := range map[time.Duration]int64{time.Millisecond: 1, 249 * time.Millisecond: 1, 250 * time.Millisecond: 0, 400 * time.Millisecond: 0} {
		w := new(testObserver)
		f, pool := newFlow(t, 2, ServiceConfig{ConnectTimeout: 5 * time.Second, Observer: w})
		f.Next(0)
		now := f.Deadline()
		wantDial(t, f, f.Expired(now), nil)
		f.Connected(now + took)
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
	w := new(testObserver)
	f, pool := newFlow(t, 2, ServiceConfig{Wait: 5 * time.Second, Observer: w})
	f.Next(0)
	doubted, now := f.backend, f.Deadline()
	wantDial(t, f, f.Expired(now), nil)
	now = f.DialFailed(ClassRefused, now).Until // held
	for f.Expired(now); f.backend != doubted; {
		f.DialFailed(ClassRefused, now)
	}
	before := w.bad.Load()
	f.Connected(now + time.Millisecond)
	if n := w.bad.Load() - before; n != 0 {
		t.Errorf("%d failures told of the backend that has accepted", n)
	}
	f.account(Finished, now+time.Millisecond)
	wantReserved(t, pool, 0)
}
