package flow

import (
	"testing"
	"time"

	"usher/balancer"
)

// TestHeldUntilABackendIsUp follows clients through the first look, the hold and its end.
func TestHeldUntilABackendIsUp(t *testing.T) {
	t.Parallel()
	const wait = time.Second
	for _, tt := range []struct {
		name   string
		status []balancer.Status // of both backends, in the first half of the time and then
		up     bool              // ServiceConfig.WaitUp
		want   time.Duration     // when it is sent to a backend
	}{
		{"up", []balancer.Status{balancer.Up, balancer.Up}, true, 0},
		{"down, and up", []balancer.Status{balancer.Down, balancer.Up}, true, wait / 2},
		{"not known, and up", []balancer.Status{balancer.Unknown, balancer.Up}, true, wait / 2},
		{"not known, and down", []balancer.Status{balancer.Unknown, balancer.Down}, true, wait},
		{"down", []balancer.Status{balancer.Down, balancer.Down}, true, wait},
		{"down, of a plain check", []balancer.Status{balancer.Down, balancer.Down}, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, pool := newFlow(t, 2, ServiceConfig{Wait: wait, WaitUp: tt.up})
			set := func(s balancer.Status) {
				for _, b := range pool.Backends() {
					setCheck(pool, b, s)
				}
			}
			set(tt.status[0])
			now := time.Duration(0)
			a := f.Next(now)
			for ; a.Do == Wait; a = f.Expired(now) {
				if now = a.Until; now >= wait/2 {
					set(tt.status[1])
				}
			}
			wantDial(t, f, a, nil)
			if now < tt.want || now > tt.want+waitStep {
				t.Errorf("sent to a backend after %v, want %v", now, tt.want)
			}
			f.account(ConnectFailed, now)
			wantReserved(t, pool, 0)
		})
	}
}

// TestHeldClientIsNotSentToOneThatIsDown although the one that is up has refused it, or is
// slow.
func TestHeldClientIsNotSentToOneThatIsDown(t *testing.T) {
	t.Parallel()
	f, pool := newFlow(t, 2, ServiceConfig{Wait: 10 * time.Second, WaitUp: true})
	up := pool.Backends()[0]
	setCheck(pool, pool.Backends()[1], balancer.Down)
	a := f.Next(0)
	for now := time.Duration(0); now < 9*time.Second; {
		if a.Do == Wait {
			now = a.Until
			a = f.Expired(now)
			continue
		}
		wantDial(t, f, a, up)
		now = a.Until
		if a = f.Expired(now); a.Do != GoOn {
			t.Fatalf("left %v after %v: %+v", up, now, a)
		}
		a = f.DialFailed(ClassRefused, now)
	}
	f.account(ConnectFailed, 9*time.Second)
	wantReserved(t, pool, 0)
}

// TestRefusalIsNewerThanTheStatus: a backend that is thought to be up, but has refused a
// client, may listen again before it is ready. Nobody who may wait is sent there before a
// check has passed, and others serve meanwhile.
func TestRefusalIsNewerThanTheStatus(t *testing.T) {
	t.Parallel()
	const wait = 2 * time.Second
	f, pool := newFlow(t, 2, ServiceConfig{Wait: wait, WaitUp: true})
	b, other := pool.Backends()[0], pool.Backends()[1]
	wantDial(t, f, f.Next(0), b)
	wantDial(t, f, f.DialFailed(ClassRefused, 0), other)
	for range 4 {
		n := new(Flow)
		n.Begin(f.Settings, f.ID, f.ent, &f.Origin, 0)
		wantDial(t, n, n.Next(0), other)
		n.release()
	}
	a, now := f.DialFailed(ClassRefused, 0), time.Duration(0) // there is nobody left
	for now = a.Until; now < wait/2; now = a.Until {
		if a = f.Expired(now); a.Do != Wait {
			t.Fatalf("%+v after %v, without a check", a, now)
		}
	}
	b.CheckPassed()
	wantDial(t, f, f.Expired(now), b)
	for a = f.DialFailed(ClassRefused, now); a.Do == Wait; a = f.Expired(now) {
		now = a.Until
	}
	if now < wait {
		t.Errorf("sent to one that has refused after %v, not %v", now, wait)
	}
	f.account(ConnectFailed, now)
	wantReserved(t, pool, 0)
}

// TestTimerOfHeldClientDoesNotSpin: an attempt that goes on because the client is held has
// until the end of the budget.
func TestTimerOfHeldClientDoesNotSpin(t *testing.T) {
	t.Parallel()
	const budget = 5 * time.Second
	f, pool := newFlow(t, 2, ServiceConfig{Wait: 10 * time.Second, WaitUp: true, ConnectTimeout: budget})
	setCheck(pool, pool.Backends()[0], balancer.Up)
	setCheck(pool, pool.Backends()[1], balancer.Down)
	f.Next(0)
	for now := f.Deadline(); now < budget; now = f.Deadline() {
		if a := f.Expired(now); a.Do != GoOn || a.Until <= now {
			t.Fatalf("%+v after %v", a, now)
		}
	}
	f.account(ConnectFailed, budget)
	wantReserved(t, pool, 0)
}
