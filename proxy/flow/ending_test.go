package flow

import (
	"testing"
	"time"

	"usher/balancer"
	"usher/conntrack"
)

// lookAt is what an engine does when the flow's timer fires.
func lookAt(f *Flow, now time.Duration, peers [2]PeerState) Outcome {
	a := f.Expired(now)
	if a.Do == Inspect {
		a = f.Inspected(&peers, now)
	}
	return a.Outcome
}

// relayed returns a flow that is relayed from time zero on.
func relayed(t *testing.T, c ServiceConfig) *Flow {
	t.Helper()
	f, _ := newFlow(t, 1, c)
	f.Next(0)
	f.Connected(0)
	return f
}

// runPeers has a flow's timer fire until the flow ends, or until the time is up. peers
// gives the state of both at a time. It returns the end, when that was, and how often the
// peers were asked.
func runPeers(f *Flow, until time.Duration, peers func(now time.Duration) [2]PeerState) (o Outcome, now time.Duration, asked int) {
	for now = f.Deadline(); now < until; now = f.Deadline() {
		a := f.Expired(now)
		if a.Do == Inspect {
			p := peers(now)
			a = f.Inspected(&p, now)
			asked++
		}
		if a.Do == End {
			return a.Outcome, now, asked
		}
		if f.Deadline() <= now {
			return Failed, now, asked // the timer spins
		}
	}
	return Running, until, asked
}

// TestTimeoutsWaitForProgress has the client take what was sent to it at a rate, until it
// stops or has all of it.
func TestTimeoutsWaitForProgress(t *testing.T) {
	t.Parallel()
	const (
		s     = time.Second
		limit = 3 * s
		sent  = 1 << 20
	)
	for _, tc := range []struct {
		name       string
		idle, half time.Duration
		rate       int           // bytes a second
		stops      time.Duration // zero: never
		want       Outcome
		from, to   time.Duration // when it ends
	}{
		{"half-closed, taken at once", 0, limit, sent * 10, 0, HalfCloseTimeout, limit, limit + s},
		{"half-closed, slow", 0, limit, sent / 20, 0, HalfCloseTimeout, 20*s + limit, 20*s + limit + s},
		{"half-closed, stops", 0, limit, sent / 20, 10 * s, HalfCloseTimeout, 10*s + limit, 10*s + limit + s},
		{"half-closed, never taken", 0, limit, 0, 0, HalfCloseTimeout, limit, limit + s},
		{"idle, slow", limit, 0, sent / 20, 0, IdleTimeout, 20*s + limit, 20*s + limit + s},
		{"idle, stops", limit, 0, sent / 20, 10 * s, IdleTimeout, 10*s + limit, 10*s + limit + s},
		{"idle, never taken", limit, 0, 0, 0, IdleTimeout, limit, limit + s},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := relayed(t, ServiceConfig{IdleTimeout: tc.idle, HalfCloseTimeout: tc.half})
			f.Passed(Backend, sent, 1)
			if tc.half > 0 {
				f.PassedFIN(Backend, 1)
			}
			o, at, asked := runPeers(f, time.Hour, func(now time.Duration) [2]PeerState {
				until := now
				if tc.stops > 0 {
					until = min(now, tc.stops)
				}
				left := max(0, sent-int(until.Seconds()*float64(tc.rate)))
				silent := now - until
				if tc.rate == 0 {
					silent = now
				} else if left == 0 {
					silent = now - time.Duration(float64(sent)/float64(tc.rate)*float64(s))
				}
				return [2]PeerState{Client: {Unacked: left, Silent: silent}, Backend: {Silent: now}}
			})
			if o != tc.want || at < tc.from || at > tc.to {
				t.Errorf("%v at %v, want %v between %v and %v", o, at, tc.want, tc.from, tc.to)
			}
			if most := int(at/(limit/2)) + 2; asked > most {
				t.Errorf("the kernel was asked %d times in %v", asked, at)
			}
		})
	}
}

// TestIdleFlowsAreLeftAlone: with nothing unacknowledged there is nothing to ask, until
// bytes move again.
func TestIdleFlowsAreLeftAlone(t *testing.T) {
	t.Parallel()
	f := relayed(t, ServiceConfig{HalfCloseTimeout: time.Minute})
	calm := func(now time.Duration) [2]PeerState {
		return [2]PeerState{{Silent: now}, {Silent: now}}
	}
	if o, _, asked := runPeers(f, time.Hour, calm); o != Running || asked != 1 {
		t.Errorf("in an hour: %v, asked %d times, want once", o, asked)
	}
	f.Passed(Client, 1, f.inspected+1)
	if o, _, asked := runPeers(f, 2*time.Hour, calm); o != Running || asked != 1 {
		t.Errorf("after a byte: %v, asked %d times, want once", o, asked)
	}
}

// TestKeepaliveEndsWithTheFIN: whatever else happens to the flow, the side that has
// finished is inspected well before its keepalive could send a probe.
func TestKeepaliveEndsWithTheFIN(t *testing.T) {
	t.Parallel()
	for _, unread := range []bool{false, true} {
		for fin := time.Duration(1); fin < 2*KeepaliveIdle; fin += 700 * time.Millisecond {
			f := relayed(t, ServiceConfig{HalfCloseTimeout: 5 * time.Minute})
			// Bytes move all the time, with a reader that is behind.
			peers := func(now time.Duration) [2]PeerState {
				f.Passed(Backend, 1, now)
				return [2]PeerState{
					Client:  {Unacked: 1 << 20},
					Backend: {HasFinished: unread && now >= fin, Silent: max(0, now-fin)},
				}
			}
			runPeers(f, fin, peers)
			if !unread {
				f.PassedFIN(Backend, fin)
			}
			runPeers(f, fin+KeepaliveIdle*3/4, peers)
			if f.WantsKeepalive(Backend) || f.muted&(1<<Backend) == 0 {
				t.Fatalf("FIN at %v (unread: %v): keepalive is still on at %v", fin, unread, fin+KeepaliveIdle*3/4)
			}
			if !f.WantsKeepalive(Client) {
				t.Fatal("the client has not finished and has no keepalive")
			}
		}
	}
}

// TestSideFails says what the failure of a side means for the other.
func TestSideFails(t *testing.T) {
	t.Parallel()
	const limit = 3 * time.Second
	queued := func(n int) func(time.Duration) [2]PeerState {
		return func(now time.Duration) [2]PeerState {
			return [2]PeerState{Client: {Unacked: n, Silent: now}, Backend: {Silent: NeverHeard}}
		}
	}
	for _, tc := range []struct {
		name     string
		received bool // the backend's FIN
		passed   bool
		why      Outcome
		peers    func(time.Duration) [2]PeerState
		want     Outcome
		until    time.Duration // of the end
	}{
		{"before its FIN", false, false, BackendReset, queued(100), BackendReset, 0},
		{"after its FIN, all taken", true, true, BackendReset, queued(0), BackendReset, time.Second},
		{"after its FIN, lost, all taken", true, true, BackendLost, queued(0), BackendLost, time.Second},
		{"after its FIN, cut, all taken", true, true, BackendDown, queued(0), BackendDown, time.Second},
		{"after its FIN, taken later", true, true, BackendReset, func(now time.Duration) [2]PeerState {
			if now < 2*time.Second {
				return queued(100)(now)
			}
			return queued(0)(now)
		}, BackendReset, limit},
		{"after its FIN, never taken", true, true, BackendReset, queued(100), HalfCloseTimeout, limit + time.Second},
		{"after its FIN, which nobody has read", true, false, BackendReset, queued(0), HalfCloseTimeout, limit + time.Second},
		{"after its FIN, the other side vanishes", true, true, BackendReset, func(time.Duration) [2]PeerState {
			return [2]PeerState{Client: {Unacked: 100, HasTimedOut: true, Silent: GoneAfter}, Backend: {Silent: NeverHeard}}
		}, BackendReset, time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := relayed(t, ServiceConfig{HalfCloseTimeout: limit})
			f.Passed(Backend, 1000, 1)
			if tc.received {
				f.ReceivedFIN(Backend)
			}
			if tc.passed {
				f.PassedFIN(Backend, 1)
			}
			a, at := f.SideFailed(Backend, tc.why, 2), time.Duration(0)
			o := a.Outcome
			if a.Do == Deliver {
				if again := f.SideFailed(Backend, BackendDown, 3); again != a {
					t.Errorf("failing once more: %+v", again)
				}
				o, at, _ = runPeers(f, time.Hour, tc.peers)
			}
			if o != tc.want || at > tc.until {
				t.Errorf("%v at %v, want %v by %v", o, at, tc.want, tc.until)
			}
		})
	}
}

// TestWhatNobodyTookIsNotCounted: the FIN that is not acknowledged is no byte.
func TestWhatNobodyTookIsNotCounted(t *testing.T) {
	t.Parallel()
	f := relayed(t, ServiceConfig{HalfCloseTimeout: time.Second})
	f.Passed(Client, 10, 1)
	f.Passed(Backend, 1000, 1)
	f.PassedFIN(Backend, 1)
	o, _, _ := runPeers(f, time.Hour, func(now time.Duration) [2]PeerState {
		return [2]PeerState{Client: {Unacked: 401, Silent: now}, Backend: {Silent: now}}
	})
	f.uncount()
	if o != HalfCloseTimeout || f.ent.Up() != 10 || f.ent.Down() != 600 {
		t.Errorf("%v with %d bytes up and %d down, want 10 and 600", o, f.ent.Up(), f.ent.Down())
	}
}

// TestDrainingFlowIsNotMarkedIdle: a client that still takes what was sent is not idle.
// One that has stopped is.
func TestDrainingFlowIsNotMarkedIdle(t *testing.T) {
	t.Parallel()
	const (
		after = 3 * time.Second
		stops = 20 * time.Second
	)
	f := relayed(t, ServiceConfig{ReclaimIdle: after})
	rows := conntrack.New[Service, balancer.Backend](1)
	f.ID, f.ent = rows.Insert(conntrack.NewKey(conntrack.TCP, f.Client, f.Local), f.Service, 0)
	f.Passed(Backend, 1<<30, 1)
	for now := f.Deadline(); ; now = f.Deadline() {
		until := min(now, stops)
		o := lookAt(f, now, [2]PeerState{
			Client:  {Unacked: 1<<30 - int(until.Milliseconds()), Silent: now - until},
			Backend: {Silent: now},
		})
		if o != Running {
			t.Fatalf("%v after %v", o, now)
		}
		f.markIdle(rows, now)
		if _, marked := rows.OldestIdle(nil); marked {
			if now < stops+after || now > stops+2*after {
				t.Errorf("marked after %v", now)
			}
			return
		}
		if f.Deadline() <= now || now > stops+2*after {
			t.Fatalf("after %v the flow is not marked, and its timer set to %v", now, f.Deadline())
		}
	}
}
