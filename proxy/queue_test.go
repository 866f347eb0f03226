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
			x.wake = func() {
				line = drop(line, x)
				lookers = append(lookers, x)
			}
			back := rnd.IntN(4) == 0
			place, look := q.enter(x, back)
			if want := back || len(line)+len(lookers) < 20; place != want {
				t.Fatalf("step %d: place %v with %d in line and %d looking", step, place, len(line), len(lookers))
			}
			switch {
			case place && look:
				lookers = append(lookers, x)
			case place:
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
		if q.missed && len(line) > 0 {
			t.Fatalf("step %d: room is left while %d are in line", step, len(line))
		}
		for i, x := range line {
			if q.closed(x) != (i > 0) {
				t.Fatalf("step %d: closed to number %d in line: %v", step, i, q.closed(x))
			}
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
	if place, look := q.enter(x, false); !place || !look {
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

// TestRoomIsNotMissedByTheNext: room that came while another one was looking and nobody
// was in line is there for who comes then.
func TestRoomIsNotMissedByTheNext(t *testing.T) {
	t.Parallel()
	q, first, second := queue{most: 3}, new(ticket), new(ticket)
	q.enter(first, false)
	q.wake()
	if place, look := q.enter(second, false); !place || !look {
		t.Error("the second client does not look although there is room")
	}
}

// TestLookerThatGoesPassesItsChanceOn: a woken client that has gone must not take the
// room with it.
func TestLookerThatGoesPassesItsChanceOn(t *testing.T) {
	t.Parallel()
	woken := 0
	q, first, second := queue{most: 3}, &ticket{wake: func() {}}, &ticket{wake: func() { woken++ }}
	q.enter(first, false)
	q.stay(first)
	q.enter(second, false)
	q.wake()
	q.leave(first, false)
	if woken != 1 {
		t.Errorf("the second client was woken %d times, want once", woken)
	}
}

// TestNewRoomIsPassedOn: who finds room without having been woken by the end of a flow
// has the next one look, and so on; the end of one flow is room for one.
func TestNewRoomIsPassedOn(t *testing.T) {
	t.Parallel()
	q, woken := queue{most: 9}, 0
	var all [5]*ticket
	for i := range all {
		all[i] = &ticket{wake: func() { woken++ }}
		q.enter(all[i], false)
		q.stay(all[i])
	}
	q.wake()
	q.leave(all[0], true)
	if woken != 1 {
		t.Errorf("the end of one flow woke %d", woken)
	}
	for i := 1; i < len(all); i++ { // the second looks by itself
		q.leave(all[i], true)
		if want := min(i+1, len(all)-1); woken != want {
			t.Errorf("after number %d was served %d had been woken, want %d", i, woken, want)
		}
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
		c.QueueLength, c.QueueTimeout = 1, time.Hour
		s, addr := start(t, Options{Engine: engine, Workers: 1}, c)
		svc := s.Services()[0]
		holder := dial(t, addr)
		roundTrip(t, holder)
		patient := dial(t, addr)
		eventually(t, "the client waits", func() bool { return svc.queue.n.Load() == 1 })
		wantTurnedAway(t, addr)
		eventually(t, "it is counted", func() bool { return svc.Ended(LimitReached) == 1 })
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
		if n := svc.Ended(QueueTimeout); n != 1 || svc.Ended(LimitReached) != 0 {
			t.Errorf("%d lost patience, want 1; %d over the limit", n, svc.Ended(LimitReached))
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
		for i, b := range []*backendOf{a, b} {
			// On a busy machine an attempt is given up that the backend has seen.
			if n, given := b.most.Load(), svc.Pool.Backends()[i].Failures(); n > limit+int64(given) {
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
