package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"usher/balancer"
	"usher/proxy/flow"
)

// limited is a service whose backends may have so many flows each.
func limited(t *testing.T, limit int, backends ...*backendOf) ServiceConfig {
	t.Helper()
	c := service(t)
	var all []balancer.Spec
	for _, b := range backends {
		s := specs(b.addr)[0]
		s.Limits.Max = limit
		all = append(all, s)
	}
	c.Pool.Update(all, 0)
	return c
}

func TestQueueServesInOrder(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		b := newBackend(t)
		c := limited(t, 1, b)
		c.QueueLength, c.QueueTimeout = 10, time.Minute
		s, addr := start(t, Options{Engine: engine, Workers: 1}, c)
		svc := s.Services()[0]
		holder := dial(t, addr)
		roundTrip(t, holder)
		var waiting []*net.TCPConn
		for i := range 5 {
			waiting = append(waiting, dial(t, addr))
			eventually(t, "the client waits", func() bool { return svc.Queued() == int64(i+1) })
		}
		holder.Close()
		for _, w := range waiting {
			roundTrip(t, w)
			if n := svc.Config().Pool.Backends()[0].Active(); n != 1 {
				t.Errorf("the backend has %d flows, want 1", n)
			}
			w.Close()
		}
		eventually(t, "all flows end", func() bool { return s.Open() == 0 })
		if n := svc.Queued(); n != 0 {
			t.Errorf("%d clients left in the queue", n)
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		c := limited(t, 1, newBackend(t))
		c.QueueLength, c.QueueTimeout = 1, time.Hour
		s, addr := start(t, Options{Engine: engine, Workers: 1}, c)
		svc := s.Services()[0]
		holder := dial(t, addr)
		roundTrip(t, holder)
		patient := dial(t, addr)
		eventually(t, "the client waits", func() bool { return svc.Queued() == 1 })
		wantTurnedAway(t, addr)
		eventually(t, "it is counted", func() bool { return svc.Ended(flow.QueueFull) == 1 })
		roundTrip(t, holder)
		holder.Close()
		roundTrip(t, patient)
	})
}

func TestQueueLosesPatience(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		c := limited(t, 1, newBackend(t))
		c.QueueLength, c.QueueTimeout = 1, 200*time.Millisecond
		s, addr := start(t, Options{Engine: engine, Workers: 1}, c)
		svc := s.Services()[0]
		holder := dial(t, addr)
		roundTrip(t, holder)
		came := time.Now()
		wantTurnedAway(t, addr)
		if waited := time.Since(came); waited < c.QueueTimeout {
			t.Errorf("turned away after %v, want %v", waited, c.QueueTimeout)
		}
		eventually(t, "the flow is settled", func() bool { return s.Open() == 1 })
		if n := svc.Ended(flow.QueueTimeout); n != 1 || svc.Ended(flow.QueueFull) != 0 {
			t.Errorf("%d lost patience, want 1; %d over the limit", n, svc.Ended(flow.QueueFull))
		}
		roundTrip(t, holder)
	})
}

// TestWithoutQueueFullIsRefused counts it as a limit, not as the want of a backend.
func TestWithoutQueueFullIsRefused(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, addr := start(t, Options{Engine: engine, Workers: 1}, limited(t, 1, newBackend(t)))
		roundTrip(t, dial(t, addr))
		wantTurnedAway(t, addr)
		eventually(t, "it is counted", func() bool { return s.Services()[0].Ended(flow.BackendsFull) == 1 })
	})
}

// TestClientThatLeavesTheQueueIsForgotten: its place is free for the next one.
func TestClientThatLeavesTheQueueIsForgotten(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		c := limited(t, 1, newBackend(t))
		c.QueueLength, c.QueueTimeout = 1, time.Minute
		s, addr := start(t, Options{Engine: engine, Workers: 1}, c)
		svc := s.Services()[0]
		holder := dial(t, addr)
		roundTrip(t, holder)
		leaver := dial(t, addr)
		eventually(t, "the client waits", func() bool { return svc.Queued() == 1 })
		leaver.SetLinger(0)
		leaver.Close()
		eventually(t, "it has left", func() bool { return svc.Queued() == 0 })
		next := dial(t, addr)
		eventually(t, "the next one waits", func() bool { return svc.Queued() == 1 })
		holder.Close()
		roundTrip(t, next)
	})
}

// TestQueueUnderLoad has many clients of several workers share few places: all are
// served, and no backend ever has more than it may.
func TestQueueUnderLoad(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		const limit, clients, rounds = 3, 24, 20
		a, b := newBackend(t), newBackend(t)
		c := limited(t, limit, a, b)
		c.QueueLength, c.QueueTimeout = clients, time.Minute
		s, addr := start(t, Options{Engine: engine, Workers: 2}, c)
		var running sync.WaitGroup
		for range clients {
			running.Go(func() {
				for range rounds {
					conn, err := net.Dial("tcp", addr)
					if err != nil {
						t.Error(err)
						return
					}
					var one [1]byte
					if _, err := conn.Write([]byte{'x'}); err != nil {
						t.Error(err)
					} else if _, err := io.ReadFull(conn, one[:]); err != nil {
						t.Error(err)
					}
					conn.Close()
				}
			})
		}
		running.Wait()
		eventually(t, "all flows end", func() bool { return s.Open() == 0 })
		svc := s.Services()[0]
		if n := svc.Ended(flow.Finished); n != clients*rounds {
			t.Errorf("%d flows ended well, want %d", n, clients*rounds)
		}
		for i, b := range []*backendOf{a, b} {
			// On a busy machine an attempt is given up that the backend has seen.
			if n, given := b.most.Load(), svc.Config().Pool.Backends()[i].Failures(); n > limit+int64(given) {
				t.Errorf("a backend had %d connections at once, more than %d", n, limit)
			}
		}
	})
}

// wantTurnedAway connects and wants to be reset, which may be before the connect returns.
func wantTurnedAway(t *testing.T, addr string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	wantReset(t, c.(*net.TCPConn))
}

func wantReset(t *testing.T, c *net.TCPConn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want a reset", err)
	}
}

// TestQueueBesideARefusingBackend: clients are served when the other one has room, not
// one at each look, and do not flood the one that refuses. It bounds a time, so it runs
// beside no other test of the package.
func TestQueueBesideARefusingBackend(t *testing.T) {
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
		c.Pool.Update(all, 0)
		var waiting []*net.TCPConn
		for range clients {
			waiting = append(waiting, dial(t, addr))
		}
		eventually(t, "the clients wait", func() bool { return s.Services()[0].Queued() == clients })
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
		if d := time.Since(begin); d > clients*promisedLook*4/5 {
			t.Errorf("it took %v until all were served", d)
		}
		if n := c.Pool.Backends()[0].Failures(); n > 10*clients {
			t.Errorf("the refusing backend was tried %d times", n)
		}
	})
}

// TestQueueTakesRoomThatComesOtherwise: a limit is raised, and all who wait are served
// soon, not one at each look. It bounds a time, so it runs beside no other test of the
// package.
func TestQueueTakesRoomThatComesOtherwise(t *testing.T) {
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
			eventually(t, "the client waits", func() bool { return s.Services()[0].Queued() == int64(i+1) })
		}
		all := specs(b.addr)
		all[0].Limits.Max = 100
		c.Pool.Update(all, 0)
		begin := time.Now()
		for _, w := range waiting {
			roundTrip(t, w)
		}
		if d := time.Since(begin); d > clients*promisedLook*4/5 {
			t.Errorf("it took %v until all were served", d)
		}
	})
}
