package proxy

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"usher/balancer"
)

// queueing is a flow of a service with a queue and two backends, the second of which
// is full; fill gives it back.
func queueing(t *testing.T) (f *flow, free *balancer.Backend, empty func()) {
	t.Helper()
	f, pool := newFlow(t, 2, ServiceConfig{QueueLength: 2, QueueTimeout: 5 * time.Second})
	f.svc.queue.most = 2
	f.ticket = &ticket{wake: func() {}}
	all := make([]balancer.Spec, 2)
	for i, b := range pool.Backends() {
		all[i] = balancer.Spec{Endpoint: b.Endpoint(), Weight: 1}
	}
	all[0].Weight, all[1].Limits.Max = 0, 1
	pool.Update(all)
	full, _ := pool.Acquire(balancer.Flow{}, nil)
	all[0].Weight = 1
	pool.Update(all)
	return f, pool.Backends()[0], func() { f.svc.release(full) }
}

// TestRefusingBackendDoesNotKeepTheQueueBusy: while one backend is full and another one
// refuses, a client tries that once, and again only after it has waited.
func TestRefusingBackendDoesNotKeepTheQueueBusy(t *testing.T) {
	t.Parallel()
	f, free, empty := queueing(t)
	now := time.Duration(0)
	// try lets the flow look until it waits, and returns how often it tried to connect.
	try := func() (tries int) {
		for {
			if o := f.next(now); o != Running {
				t.Fatalf("at %v: %v", now, o)
			}
			if f.phase == waiting {
				return tries
			}
			if f.backend != free {
				t.Fatalf("the full backend was reserved")
			}
			f.refused()
			if tries++; tries > 10 {
				t.Fatal("the flow tries for ever")
			}
		}
	}
	if n := try(); n != 1 {
		t.Errorf("%d attempts when it came, want 1", n)
	}
	now += time.Millisecond // room came for somebody, who does not need it
	f.svc.queue.wake()
	if n := try(); n != 0 {
		t.Errorf("%d attempts when it was woken, want none", n)
	}
	now = f.deadline()
	if n := try(); n != 1 {
		t.Errorf("%d attempts after it has waited, want 1", n)
	}
	empty()
	if o := f.next(now); o != Running || f.phase == waiting || f.backend == free {
		t.Fatalf("%v, with backend %v, after the full one has room", o, f.backend)
	}
	f.account(ConnectFailed, now)
	if n := f.svc.queue.n.Load(); n != 0 {
		t.Errorf("%d in the queue at the end", n)
	}
}

// TestPatienceIsNotRenewed by a backend that was reserved and did not take the client.
func TestPatienceIsNotRenewed(t *testing.T) {
	t.Parallel()
	f, _, _ := queueing(t)
	now := time.Duration(0)
	for f.next(now) == Running {
		if f.phase == waiting {
			now = f.deadline()
		} else {
			f.refused()
		}
		if now > 6*time.Second {
			t.Fatal("the client waits for longer than its patience")
		}
	}
	if now != 5*time.Second {
		t.Errorf("the client has waited %v, want 5s", now)
	}
}

// TestQueueBesideARefusingBackend: clients are served when the other one has room, not
// one at each look, and do not flood the one that refuses.
func TestQueueBesideARefusingBackend(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		b := newBackend(t)
		c := limited(t, 1, b)
		const clients = 30
		c.QueueLength, c.QueueTimeout = clients, time.Hour
		s, addr := start(t, Options{Engine: engine, Workers: 1}, c)
		holder := dial(t, addr)
		roundTrip(t, holder)
		all := specs(refusing(t), b.addr)
		all[1].Limits.Max = 1
		c.Pool.Update(all)
		var waiting []*net.TCPConn
		for range clients {
			waiting = append(waiting, dial(t, addr))
		}
		eventually(t, "the clients wait", func() bool { return s.Services()[0].queue.n.Load() == clients })
		begin := time.Now()
		holder.Close()
		var served sync.WaitGroup
		for _, w := range waiting {
			served.Go(func() {
				defer w.Close()
				_, _ = w.Write([]byte{'x'})
				if _, err := io.ReadFull(w, make([]byte, 1)); err != nil {
					t.Error(err)
				}
			})
		}
		served.Wait()
		if d := time.Since(begin); d > clients/3*queueLook {
			t.Errorf("it took %v until all were served", d)
		}
		if n := c.Pool.Backends()[0].Failures(); n > 10*clients {
			t.Errorf("the refusing backend was tried %d times", n)
		}
	})
}

// TestQueueTakesRoomThatComesOtherwise: a limit is raised, and all who wait are served
// soon, not one at each look.
func TestQueueTakesRoomThatComesOtherwise(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		b := newBackend(t)
		c := limited(t, 1, b)
		const clients = 60
		c.QueueLength, c.QueueTimeout = clients, time.Hour
		s, addr := start(t, Options{Engine: engine, Workers: 2}, c)
		roundTrip(t, dial(t, addr))
		var waiting []*net.TCPConn
		for i := range clients {
			waiting = append(waiting, dial(t, addr))
			eventually(t, "the client waits", func() bool { return s.Services()[0].queue.n.Load() == int64(i+1) })
		}
		all := specs(b.addr)
		all[0].Limits.Max = 100
		c.Pool.Update(all)
		begin := time.Now()
		for _, w := range waiting {
			roundTrip(t, w)
		}
		if d := time.Since(begin); d > clients/3*queueLook {
			t.Errorf("it took %v until all were served", d)
		}
	})
}

// TestAgeBeginsWithTheBackend: what a client has waited in the queue is not taken off.
func TestAgeBeginsWithTheBackend(t *testing.T) {
	t.Parallel()
	f, _ := newFlow(t, 1, ServiceConfig{MaxAge: 5 * time.Second})
	f.next(10 * time.Second)
	f.established(10 * time.Second)
	if o, _ := f.overdue(14 * time.Second); o != Running {
		t.Errorf("%v four seconds after the flow was connected", o)
	}
	if o, _ := f.overdue(15 * time.Second); o != Aged {
		t.Errorf("%v five seconds after the flow was connected, want %v", o, Aged)
	}
}

// TestWantOfAPortIsNoFailure of the backend.
func TestWantOfAPortIsNoFailure(t *testing.T) {
	t.Parallel()
	w := new(witness)
	f, pool := newFlow(t, 1, ServiceConfig{Witness: w})
	f.next(0)
	f.unable()
	if o := f.next(0); o != ConnectFailed {
		t.Errorf("next: %v, want %v", o, ConnectFailed)
	}
	wantReserved(t, pool, 0)
	if n := pool.Backends()[0].Failures(); n != 0 || w.bad.Load() != 0 {
		t.Errorf("%d failures counted, %d told", n, w.bad.Load())
	}
}
