package proxy

import (
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"usher/balancer"
	"usher/conntrack"
)

// stall has a server take no more clients and datagrams until resume is called: they wait
// in the kernel's queues. One client of each listener may still be taken.
func stall(s *Server) (resume func()) {
	switch e := s.engine.(type) {
	case *portableEngine:
		e.udp.mu.Lock()
		e.lacking.Store(true)
		return func() {
			e.lacking.Store(false)
			e.udp.mu.Unlock()
		}
	default:
		return stallLoops(s)
	}
}

// TestServiceChangesItsProtocol from tcp to udp and back under one name. Clients and
// datagrams that wait at the listener which goes get what it was when they came.
func TestServiceChangesItsProtocol(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		stream, datagrams := named(t, "x"), namedUDP(t, "x", UDPConfig{})
		stream.Listeners = []Listener{{Network: "tcp", Addr: ownPorts(t, 1)[0]}}
		datagrams.Listeners = []Listener{{Network: "udp", Addr: ownPorts(t, 1)[0]}}
		s := startServer(t, Options{Engine: engine, Workers: 2}, stream)
		svc := s.Services()[0]
		// change applies a config while the server stalls.
		change := func(to ServiceConfig, clients func()) {
			t.Helper()
			resume := stall(s)
			clients()
			var applied sync.WaitGroup
			applied.Go(func() { apply(t, s, to) })
			eventually(t, "the new config is there", func() bool { return svc.IsUDP() == to.IsUDP() })
			resume()
			applied.Wait()
		}
		for range 3 {
			change(datagrams, func() {
				for range 4 {
					c := dial(t, stream.Listeners[0].String())
					t.Cleanup(func() {
						_ = c.SetDeadline(time.Now().Add(time.Minute))
						if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
							t.Errorf("a client that waited at a tcp listener: %v", err)
						}
					})
				}
			})
			change(stream, func() {
				for range 4 {
					c := dialUDP(t, datagrams.Listeners[0].Addr)
					say(t, c, "who?")
					t.Cleanup(func() {
						if got := heard(t, c); got[:2] != "x " {
							t.Errorf("a client that waited at a udp listener got %q", got)
						}
					})
				}
			})
		}
	})
}

// TestPoolChangesBelowItsClients: whom a service has kept at a backend of another pool gets
// one of the pool that it has now.
func TestPoolChangesBelowItsClients(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		greets := func(name string) *balancer.Pool { return named(t, name).Pool }
		pool := func(of ...*balancer.Pool) *balancer.Pool {
			p, err := balancer.NewPool(balancer.Options{Scheduler: "lc"})
			if err != nil {
				t.Fatal(err)
			}
			var all []balancer.Spec
			for _, o := range of {
				all = append(all, specs(o.Backends()[0].Endpoint().Addr)...)
			}
			p.Update(all, 0)
			return p
		}
		old, other, next := greets("o"), greets("o"), greets("n")
		c := named(t, "x")
		c.Persist = Persist{On: true, AffinityConfig: conntrack.AffinityConfig{Timeout: time.Hour}}
		c.Pool = pool(old, other)
		s := startServer(t, Options{Engine: engine, Workers: 2}, c)
		addr := at(s, 0).String()
		for _, want := range []string{"o", "n", "o", "n"} {
			if want == "n" {
				c.Pool = pool(next)
			} else {
				c.Pool = pool(old, other)
			}
			apply(t, s, c)
			for range 3 {
				if got, err := whose(addr, 1); got != want {
					t.Errorf("a client is at %q, %v, want %q", got, err, want)
				}
			}
		}
	})
}

// TestV6OnlyMeansNothingOfOneAddress: the listener stays what it was.
func TestV6OnlyMeansNothingOfOneAddress(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		c := named(t, "x")
		c.Listeners = []Listener{{Network: "tcp", Addr: netip.MustParseAddrPort("[::1]:0")}}
		s := startServer(t, Options{Engine: engine, Workers: 1}, c)
		before := at(s, 0)
		for _, only := range []bool{false, true, false} {
			c.Listeners[0].Addr, c.Listeners[0].V6Only = before, only
			apply(t, s, c)
			if got, err := whose(before.String(), 1); got != "x" {
				t.Errorf("%q, %v", got, err)
			}
		}
	})
}

// TestTablesStayAsLarge as they were made: a descriptor limit that was raised since lets no
// more flows in.
func TestTablesStayAsLarge(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, err := New(Options{Engine: engine, Workers: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.capacity = 5
		apply(t, s, named(t, "x"))
		if _, n := s.Services()[0].Shares(); n != 5 || !slices.Contains(s.Notes(), "max-conns 5 (as many as at the start)") {
			t.Errorf("at most %d flows; %q", n, s.Notes())
		}
	})
}

// TestSlowServerServesWhoWaits at a listener that goes, however long it takes to come to that.
func TestSlowServerServesWhoWaits(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		c := named(t, "x")
		s := startServer(t, Options{Engine: engine, Workers: 2}, c)
		addr := at(s, 0).String()
		resume := stall(s)
		if e, ok := s.engine.(*portableEngine); ok {
			resume()
			e.mu.Lock()
			resume = e.mu.Unlock
		}
		var clients []*net.TCPConn
		for range 16 {
			clients = append(clients, dial(t, addr))
		}
		var applied sync.WaitGroup
		applied.Go(func() { apply(t, s) })
		eventually(t, "the service is gone", func() bool { return len(s.Services()) == 0 })
		time.Sleep(3 * drainGrace) // the time is over that the portable engine has at least
		resume()
		applied.Wait()
		for i, client := range clients {
			_ = client.SetDeadline(time.Now().Add(time.Minute))
			if _, err := client.Read(make([]byte, 1)); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		}
	})
}

// TestRemovedServicesAreLetGo: once its last flow has ended nothing holds one in memory.
func TestRemovedServicesAreLetGo(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s := startServer(t, Options{Engine: engine, Workers: 2})
		gone := make(chan string, 2)
		func() {
			stream, datagrams := named(t, "stream"), namedUDP(t, "datagrams", UDPConfig{Replies: 1})
			stream.Persist = Persist{On: true, AffinityConfig: conntrack.AffinityConfig{Timeout: time.Hour}}
			apply(t, s, stream, datagrams)
			for _, svc := range s.Services() {
				runtime.AddCleanup(svc, func(name string) { gone <- name }, svc.Name)
			}
			for range 20 {
				if _, err := whose(at(s, 0).String(), 6); err != nil {
					t.Error(err)
				}
				if _, err := askOnce(at(s, 1)); err != nil {
					t.Error(err)
				}
			}
			stream.Persist.On = false
			apply(t, s, stream, datagrams)
			apply(t, s)
		}()
		eventually(t, "all flows end", func() bool { return s.Open() == 0 })
		for range 2 {
			eventually(t, "another one is let go", func() bool {
				runtime.GC()
				return len(gone) > 0
			})
			t.Log(<-gone)
		}
	})
}
