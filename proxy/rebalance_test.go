package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"usher/balancer"
	"usher/proxy/flow"
)

// lopsided is a server with a service of two backends, whose n clients are all with the first
// one. The second one is ready now.
func lopsided(t *testing.T, engine string, n int, change func(*ServiceConfig)) (*Server, *Service, []*net.TCPConn) {
	t.Helper()
	c := service(t, newBackend(t).addr, newBackend(t).addr)
	if err := c.Pool.Configure(balancer.Options{Scheduler: "lc"}); err != nil {
		t.Fatal(err)
	}
	setAdmin(c.Pool, c.Pool.Backends()[1], balancer.Drain)
	if change != nil {
		change(&c)
	}
	s, addr := start(t, Options{Engine: engine, Workers: 2}, c)
	var conns []*net.TCPConn
	for range n {
		conn := dial(t, addr)
		roundTrip(t, conn)
		conns = append(conns, conn)
	}
	eventually(t, "all bytes are counted", func() bool {
		for row := range s.Flows() {
			if row.Up != 1 || row.Down != 1 {
				return false
			}
		}
		return true
	})
	setAdmin(c.Pool, c.Pool.Backends()[1], balancer.Ready)
	return s, s.Services()[0], conns
}

// TestRebalance: those over the fair share end in good order, the longest idle first, and
// their clients get the other backend.
func TestRebalance(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, svc, conns := lopsided(t, engine, 9, nil)
		idle := s.Now()
		for _, busy := range conns[:5] {
			roundTrip(t, busy)
		}
		eventually(t, "five flows are known to be busy", func() bool {
			n := 0
			for row := range s.Flows() {
				if row.Touched > idle {
					n++
				}
			}
			return n == 5
		})
		var last [2]int
		n, err := s.Rebalance(t.Context(), svc, 1000, func(ended, of int) { last = [2]int{ended, of} })
		if n != 4 || err != nil { // 4.5 is the fair share, and 5 is what stays
			t.Fatalf("%d flows ended, %v; want 4", n, err)
		}
		if last != [2]int{4, 4} {
			t.Errorf("the last progress is %v, want 4 of 4", last)
		}
		for i, conn := range conns {
			if i < 5 {
				roundTrip(t, conn)
				continue
			}
			if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("client %d, which was idle longest, read %v, want the end", i, err)
			}
		}
		eventually(t, "the flows are counted", func() bool { return svc.Ended(flow.Rebalanced) == 4 && svc.Active() == 5 })
		for range 4 {
			roundTrip(t, dial(t, svc.Config().Listeners[0].String()))
		}
		for i, want := range []int64{5, 4} {
			if n := svc.Config().Pool.Backends()[i].Active(); n != want {
				t.Errorf("backend %d has %d flows, want %d", i, n, want)
			}
		}
		if n, err := s.Rebalance(t.Context(), svc, 1000, nil); n != 0 || err != nil {
			t.Errorf("%d more flows ended, %v", n, err)
		}
	})
}

// TestRebalanceSlowly: it keeps its rate, can be cancelled, and is one at a time.
func TestRebalanceSlowly(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, svc, _ := lopsided(t, engine, 8, nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		type result struct {
			n   int
			err error
		}
		done := make(chan result)
		go func() {
			n, err := s.Rebalance(ctx, svc, 0.001, nil)
			done <- result{n, err}
		}()
		eventually(t, "the first flow ends", func() bool { return svc.Ended(flow.Rebalanced) == 1 })
		if _, err := s.Rebalance(t.Context(), svc, 1, nil); !errors.Is(err, ErrRebalancing) {
			t.Errorf("a second one: %v", err)
		}
		cancel()
		if r := <-done; r.n != 1 || !errors.Is(r.err, context.Canceled) {
			t.Errorf("%d flows ended, %v; want 1, cancelled", r.n, r.err)
		}
		if n, err := s.Rebalance(t.Context(), svc, 1e9, nil); n != 3 || err != nil {
			t.Errorf("%d flows ended after that, %v; want 3", n, err)
		}
	})
}

// TestRebalanceEndsWithTheServer: a shutdown does not wait for it, nor it for more.
func TestRebalanceEndsWithTheServer(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, svc, _ := lopsided(t, engine, 8, nil)
		done := make(chan error)
		go func() {
			_, err := s.Rebalance(context.Background(), svc, 0.001, nil)
			done <- err
		}()
		eventually(t, "the first flow ends", func() bool { return svc.Ended(flow.Rebalanced) == 1 })
		s.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestRebalanceNeedsShares(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*ServiceConfig){
		"clients are kept at their backends": func(c *ServiceConfig) { c.Persist.On, c.Persist.Timeout = true, time.Minute },
		"sends a client back to the backend": func(c *ServiceConfig) {
			if err := c.Pool.Configure(balancer.Options{Scheduler: "mh"}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		s, svc, _ := lopsided(t, "", 3, change)
		if n, err := s.Rebalance(t.Context(), svc, 0, nil); n != 0 || err == nil {
			t.Errorf("%d flows ended, %v; want: %s", n, err, name)
		}
	}
	s, svc, _ := lopsided(t, "", 0, nil)
	if _, err := s.Rebalance(t.Context(), svc, -1, nil); err == nil {
		t.Error("a negative rate is no error")
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rate float64
		want pace
	}{
		{1000, pace{rebalanceStep, 100}}, {10, pace{rebalanceStep, 1}}, {2, pace{500 * time.Millisecond, 1}},
		{0.5, pace{2 * time.Second, 1}}, {25, pace{120 * time.Millisecond, 3}}, {1e30, pace{rebalanceStep, 1<<31 - 1}},
	} {
		if got := newPace(test.rate); got != test.want {
			t.Errorf("%v a second: %+v, want %+v", test.rate, got, test.want)
		}
	}
	if got := newPace(1e-300); got.flows != 1 || got.step < 24*time.Hour {
		t.Errorf("next to never: %+v", got)
	}
}
