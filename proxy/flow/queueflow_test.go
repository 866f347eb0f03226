package flow

import (
	"testing"
	"time"

	"usher/balancer"
)

// queueing is a flow of a service with a queue and two backends, the second of which
// is full; fill gives it back.
func queueing(t *testing.T) (f *Flow, free *balancer.Backend, empty func()) {
	t.Helper()
	f, pool := newFlow(t, 2, ServiceConfig{QueueLength: 2, QueueTimeout: 5 * time.Second})
	all := make([]balancer.Spec, 2)
	for i, b := range pool.Backends() {
		all[i] = balancer.Spec{Endpoint: b.Endpoint(), Weight: 1, Check: balancer.Up}
	}
	all[0].Weight, all[1].Limits.Max = 0, 1
	pool.Update(all, 0)
	full, _ := pool.Acquire(balancer.Flow{}, nil)
	all[0].Weight = 1
	pool.Update(all, 0)
	return f, pool.Backends()[0], func() { f.Settings.release(full) }
}

// TestRefusingBackendDoesNotKeepTheQueueBusy: while one backend is full and another one
// refuses, a client tries that once, and again only after it has waited.
func TestRefusingBackendDoesNotKeepTheQueueBusy(t *testing.T) {
	t.Parallel()
	f, free, empty := queueing(t)
	now := time.Duration(0)
	// try lets the flow look until it waits, and returns how often it tried to connect.
	try := func() (tries int) {
		a := f.Next(now)
		for ; a.Do == Dial; a = f.DialFailed(ClassRefused, now) {
			if f.backend != free {
				t.Fatalf("the full backend was reserved")
			}
			if tries++; tries > 10 {
				t.Fatal("the flow tries for ever")
			}
		}
		if a.Do != Wait {
			t.Fatalf("at %v: %+v", now, a)
		}
		return tries
	}
	if n := try(); n != 1 {
		t.Errorf("%d attempts when it came, want 1", n)
	}
	now += time.Millisecond // room came for somebody, who does not need it
	f.Settings.queue.wake()
	if n := try(); n != 0 {
		t.Errorf("%d attempts when it was woken, want none", n)
	}
	now = f.Deadline()
	if n := try(); n != 1 {
		t.Errorf("%d attempts after it has waited, want 1", n)
	}
	empty()
	if a := f.Next(now); a.Do != Dial || f.backend == free {
		t.Fatalf("%+v, with backend %v, after the full one has room", a, f.backend)
	}
	f.account(ConnectFailed, now)
	if n := f.Settings.queue.n.Load(); n != 0 {
		t.Errorf("%d in the queue at the end", n)
	}
}

// TestPatienceIsNotRenewed by a backend that was reserved and did not take the client.
func TestPatienceIsNotRenewed(t *testing.T) {
	t.Parallel()
	f, _, _ := queueing(t)
	now := time.Duration(0)
	for a := f.Next(now); a.Do != End; {
		if a.Do == Wait {
			now = a.Until
			a = f.Expired(now)
		} else {
			a = f.DialFailed(ClassRefused, now)
		}
		if now > 6*time.Second {
			t.Fatal("the client waits for longer than its patience")
		}
	}
	if now != 5*time.Second {
		t.Errorf("the client has waited %v, want 5s", now)
	}
}

// TestAgeBeginsWithTheBackend: what a client has waited in the queue is not taken off.
func TestAgeBeginsWithTheBackend(t *testing.T) {
	t.Parallel()
	f, _ := newFlow(t, 1, ServiceConfig{MaxAge: 5 * time.Second})
	f.Next(3 * time.Second)
	f.Connected(3 * time.Second)
	if a := f.Expired(7 * time.Second); a.Do == End {
		t.Errorf("%+v four seconds after the flow was connected", a)
	}
	wantEnd(t, f.Expired(8*time.Second), Aged)
}

// TestWantOfAPortIsNoFailure of the backend.
func TestWantOfAPortIsNoFailure(t *testing.T) {
	t.Parallel()
	w := new(testObserver)
	f, pool := newFlow(t, 1, ServiceConfig{Observer: w})
	f.Next(0)
	wantEnd(t, f.DialFailed(ClassNoLocalPort, 0), NoLocalPort)
	wantReserved(t, pool, 0)
	if n := pool.Backends()[0].Failures(); n != 0 || w.bad.Load() != 0 {
		t.Errorf("%d failures counted, %d told", n, w.bad.Load())
	}
}

// TestBackendThatMustPassACheckWakesTheQueue: a flow that has reserved it for a moment has
// maybe kept the first in line from its place.
func TestBackendThatMustPassACheckWakesTheQueue(t *testing.T) {
	t.Parallel()
	f, pool := newFlow(t, 2, ServiceConfig{Wait: time.Minute, WaitUp: true, QueueLength: 1, QueueTimeout: time.Minute})
	all := make([]balancer.Spec, 2)
	for i, b := range pool.Backends() {
		all[i] = balancer.Spec{Endpoint: b.Endpoint(), Weight: 1, Check: balancer.Up}
		all[i].Limits.Max = 1
	}
	pool.Update(all, 0)
	a := f.Next(0)
	refused, _ := pool.Acquire(balancer.Flow{}, nil)
	woken := 0
	second := new(Flow)
	second.GiveTicket(func() { woken++ })
	second.Begin(f.Settings, f.ID, f.ent, &f.Origin, 0)
	if a := second.Next(0); a.Do != Wait {
		t.Fatalf("while all backends are full: %+v", a)
	}
	refused.NoteRefusal()
	pool.Release(refused)
	if a = f.Expired(a.Until); a.Do != GoOn {
		t.Fatalf("sent to one that has refused: %+v", a)
	}
	if woken != 1 {
		t.Errorf("the first in line was woken %d times", woken)
	}
}
