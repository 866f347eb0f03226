package proxy

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"usher/balancer"
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
	c.Pool.Update(all)
	return c
}

// TestQueueEqualsAList drives a queue and a plain list of who waits in which order.
func TestQueueEqualsAList(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	q := queue{most: 20}
	var line, lookers []*ticket // in order; those that were woken
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	drop := func(list []*ticket, x *ticket) []*ticket {
		return slices.DeleteFunc(list, func(o *ticket) bool { return o == x })
	}
	for step := range 50_000 {
		switch op := rnd.IntN(10); {
		case op < 4: // a client comes
			x := new(ticket)
			place, look := q.enter(x, func() {
				line = drop(line, x)
				lookers = append(lookers, x)
			})
			if want := len(line)+len(lookers) < 20; place != want {
				t.Fatalf("step %d: place %v with %d in line and %d looking", step, place, len(line), len(lookers))
			}
			if place && look {
				lookers = append(lookers, x)
			} else if place {
				line = append(line, x)
			}
		case op < 7: // there is room
			first, n := (*ticket)(nil), len(lookers)
			if len(line) > 0 {
				first = line[0]
			}
			q.wake()
			if first != nil && (len(lookers) != n+1 || lookers[n] != first) {
				t.Fatalf("step %d: the first in line was not woken", step)
			}
		case op < 9 && len(lookers) > 0: // somebody has looked
			x := lookers[rnd.IntN(len(lookers))]
			if rnd.IntN(2) == 0 {
				lookers = drop(lookers, x)
				q.leave(x, true)
			} else if q.stay(x) {
				lookers = drop(lookers, x)
				line = slices.Insert(line, 0, x)
			}
		case len(line) > 0: // somebody goes
			x := line[rnd.IntN(len(line))]
			line = drop(line, x)
			q.leave(x, false)
		}
		if n := int(q.n.Load()); n != len(line)+len(lookers) {
			t.Fatalf("step %d: %d in the queue, want %d and %d", step, n, len(line), len(lookers))
		}
		i := 0
		for x := q.first; x != nil; x = x.next {
			if i >= len(line) || line[i] != x {
				t.Fatalf("step %d: the line differs at %d", step, i)
			}
			i++
		}
		if i != len(line) {
			t.Fatalf("step %d: %d in line, want %d", step, i, len(line))
		}
	}
}

// TestRoomIsNotMissed: room that comes while somebody looks in vain is looked at again.
func TestRoomIsNotMissed(t *testing.T) {
	t.Parallel()
	q, x := queue{most: 2}, new(ticket)
	if place, look := q.enter(x, func() {}); !place || !look {
		t.Fatal("the first client does not look")
	}
	q.wake()
	if q.stay(x) {
		t.Error("the client stands in line although room has come")
	}
	if !q.stay(x) {
		t.Error("the client looks for ever")
	}
}

// TestLookerThatGoesPassesItsChanceOn: a woken client that has gone must not take the
// room with it.
func TestLookerThatGoesPassesItsChanceOn(t *testing.T) {
	t.Parallel()
	q, first, second, woken := queue{most: 3}, new(ticket), new(ticket), 0
	q.enter(first, func() {})
	q.stay(first)
	q.enter(second, func() { woken++ })
	q.wake()
	q.leave(first, false)
	if woken != 1 {
		t.Errorf("the second client was woken %d times, want once", woken)
	}
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
			eventually(t, "the client waits", func() bool { return svc.queue.n.Load() == int64(i+1) })
		}
		holder.Close()
		for _, w := range waiting {
			roundTrip(t, w)
			if n := svc.Pool.Backends()[0].Active(); n != 1 {
				t.Errorf("the backend has %d flows, want 1", n)
			}
			w.Close()
		}
		eventually(t, "all flows end", func() bool { return s.Open() == 0 })
		if n := svc.queue.n.Load(); n != 0 {
			t.Errorf("%d clients left in the queue", n)
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		c := limited(t, 1, newBackend(t))
		c.QueueLength, c.QueueTimeout = 1, 300*time.Millisecond
		s, addr := start(t, Options{Engine: engine, Workers: 1}, c)
		svc := s.Services()[0]
		holder := dial(t, addr)
		roundTrip(t, holder)
		patient := dial(t, addr)
		eventually(t, "the client waits", func() bool { return svc.queue.n.Load() == 1 })
		wantTurnedAway(t, addr)
		if n := svc.Ended(LimitReached); n != 1 {
			t.Errorf("%d refused for want of a place, want 1", n)
		}
		wantReset(t, patient)
		eventually(t, "the flow is settled", func() bool { return s.Open() == 1 })
		if n := svc.Ended(QueueTimeout); n != 1 {
			t.Errorf("%d lost patience, want 1", n)
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
		eventually(t, "it is counted", func() bool { return s.Services()[0].Ended(LimitReached) == 1 })
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
		eventually(t, "the client waits", func() bool { return svc.queue.n.Load() == 1 })
		leaver.SetLinger(0)
		leaver.Close()
		eventually(t, "it has left", func() bool { return svc.queue.n.Load() == 0 })
		next := dial(t, addr)
		eventually(t, "the next one waits", func() bool { return svc.queue.n.Load() == 1 })
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
		if n := svc.Ended(Finished); n != clients*rounds {
			t.Errorf("%d flows ended well, want %d", n, clients*rounds)
		}
		for _, b := range []*backendOf{a, b} {
			if n := b.most.Load(); n > limit {
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
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want a reset", err)
	}
}
