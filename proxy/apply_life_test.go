package proxy

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/conntrack"
	"usher/proxy/flow"
)

// TestRemovedServiceTurnsWaitingClientsAway: those in the queue and those that are held.
// Clients that have a backend keep it, until CutService.
func TestRemovedServiceTurnsWaitingClientsAway(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		b := newBackend(t)
		queued, held := limited(t, 1, b), service(t)
		queued.Name, queued.QueueLength, queued.QueueTimeout = "queued", 10, time.Hour
		held.Name, held.Wait = "held", time.Hour
		s := startServer(t, Options{Engine: engine, Workers: 2}, queued, held)
		served := dial(t, at(s, 0).String())
		roundTrip(t, served)
		var waiting []*net.TCPConn
		for i := range 8 {
			waiting = append(waiting, dial(t, at(s, i%2).String()))
		}
		q, h := s.Services()[0], s.Services()[1]
		eventually(t, "all wait", func() bool { return s.Open() == 9 && q.Queued() == 4 })
		apply(t, s)
		for _, c := range waiting {
			_ = c.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := c.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
				t.Errorf("a client that waited: %v, want a reset", err)
			}
		}
		roundTrip(t, served)
		if full, none := q.Ended(flow.BackendsFull), h.Ended(flow.NoBackend); full != 4 || none != 4 {
			t.Errorf("%d and %d were turned away", full, none)
		}
		s.CutService(q, flow.Fin)
		if _, err := served.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("a client whose service was cut reads %v", err)
		}
		eventually(t, "all flows end", func() bool { return s.Open() == 0 && q.Ended(flow.BackendDown) == 1 })
	})
}

// TestQueueOutlivesItsConfig: clients that wait are served by the pool that they wait for,
// with another config and with another pool.
func TestQueueOutlivesItsConfig(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		b := newBackend(t)
		c := limited(t, 1, b)
		c.QueueLength, c.QueueTimeout = 10, time.Hour
		s := startServer(t, Options{Engine: engine, Workers: 2}, c)
		first := dial(t, at(s, 0).String())
		roundTrip(t, first)
		svc := s.Services()[0]
		one := dial(t, at(s, 0).String())
		eventually(t, "one waits", func() bool { return svc.Queued() == 1 })
		c.QueueLength, c.IdleTimeout = 0, time.Hour
		apply(t, s, c)
		if turned, err := net.Dial("tcp", at(s, 0).String()); err == nil { // else it was reset at once
			_, _ = turned.Write([]byte("x"))
			if _, err := turned.Read(make([]byte, 1)); err == nil {
				t.Error("a client was served before one that has waited longer")
			}
			turned.Close()
		}
		c.Pool = limited(t, 1, newBackend(t)).Pool
		apply(t, s, c)
		roundTrip(t, dial(t, at(s, 0).String())) // beside those that wait for the old pool
		first.Close()
		roundTrip(t, one)
	})
}

// TestApplyBeforeStart binds, moves and closes; who has connected meanwhile is served after
// Start.
func TestApplyBeforeStart(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		a, b := named(t, "a"), named(t, "b")
		s, err := newServer(Options{Engine: engine, Workers: 1}, a)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		gone := at(s, 0).String()
		apply(t, s, b)
		if _, err := net.Dial("tcp", gone); err == nil {
			t.Error("an address that nobody wants is bound")
		}
		c := dial(t, at(s, 0).String())
		apply(t, s, b, a)
		if n := s.Open(); n != 0 {
			t.Errorf("%d flows before Start", n)
		}
		s.Start()
		name := make([]byte, 1)
		if _, err := io.ReadFull(c, name); err != nil || name[0] != 'b' {
			t.Errorf("%q, %v", name, err)
		}
	})
}

// TestListenersKeepWhatTheyHave: the port that the kernel chose, and the file, whose mode
// changes in place.
func TestListenersKeepWhatTheyHave(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		c := named(t, "c")
		path := t.TempDir() + "/socket"
		c.Listeners = []Listener{loopback, {Network: "unix", Path: path, Mode: 0o600}, loopback}
		s := startServer(t, Options{Engine: engine, Workers: 2}, c)
		before := s.Services()[0].Config().Listeners
		file, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		c.Listeners[1].Mode = 0o660
		apply(t, s, c)
		after := s.Services()[0].Config().Listeners
		if before[0] != after[0] || before[2] != after[2] || before[0] == before[2] {
			t.Errorf("listeners %v, then %v", before, after)
		}
		now, err := os.Lstat(path)
		if err != nil || !os.SameFile(file, now) || now.Mode().Perm() != 0o660 {
			t.Errorf("the file has mode %v, %v", now.Mode(), err)
		}
		other := named(t, "other")
		other.Listeners = []Listener{{Network: "tcp", Addr: ownPorts(t, 1)[0]}}
		c.Listeners[1].Mode = 0o600
		c.Listeners[1].User = "no-such-user"
		if err := s.Apply([]*ServiceConfig{&other, &c}); err == nil {
			t.Error("a file was given to nobody")
		}
		if now, err := os.Lstat(path); err != nil || now.Mode().Perm() != 0o660 {
			t.Errorf("after a failure the file has mode %v, %v", now.Mode(), err)
		}
		if _, err := net.Dial("tcp", other.Listeners[0].Addr.String()); err == nil {
			t.Error("after a failure another address is bound")
		}
		unix, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close()
		apply(t, s)
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("the file of a listener that is gone: %v", err)
		}
	})
}

// TestClientsForgetARemovedService, and keep their backends at one that stays.
func TestClientsForgetARemovedService(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		persist := func(name string) ServiceConfig {
			c := service(t, echo(t), echo(t))
			c.Name = name
			c.Persist = Persist{On: true, AffinityConfig: conntrack.AffinityConfig{Timeout: time.Hour}}
			return c
		}
		a, b := persist("a"), persist("b")
		s := startServer(t, Options{Engine: engine, Workers: 2}, a, b)
		lasting := dial(t, at(s, 0).String())
		roundTrip(t, lasting)
		roundTrip(t, dial(t, at(s, 1).String()))
		clients := func() (names string) {
			for c := range s.Clients() {
				names += c.Service.Name
			}
			return names
		}
		if got := clients(); got != "ab" && got != "ba" {
			t.Errorf("clients of %q", got)
		}
		b.IdleTimeout = time.Hour
		apply(t, s, b)
		if got := clients(); got != "b" {
			t.Errorf("clients of %q after a is gone", got)
		}
		roundTrip(t, lasting)
	})
}

// TestApplyBesideCuts: whatever is called at once, nothing waits for ever.
func TestApplyBesideCuts(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		a, b := named(t, "a"), namedUDP(t, "b", UDPConfig{})
		s := startServer(t, Options{Engine: engine, Workers: 2}, a, b)
		tcp := at(s, 0).String()
		var stop atomic.Bool
		var all sync.WaitGroup
		for _, do := range []func(){
			func() { s.CutBackend(a.Pool.Backends()[0], flow.Reset) },
			func() {
				for _, svc := range s.Services() {
					s.CutService(svc, flow.Reset)
				}
			},
			func() { _, _ = whose(tcp, 1) },
			func() {
				for range s.Flows() {
					_ = s.Notes()
				}
			},
		} {
			all.Go(func() {
				for !stop.Load() {
					do()
				}
			})
		}
		for i := range 20 {
			if i%2 == 0 {
				apply(t, s, a)
			} else {
				apply(t, s, a, b)
			}
		}
		s.Close()
		if err := s.Apply([]*ServiceConfig{&a}); err != ErrShutDown {
			t.Errorf("after Close: %v", err)
		}
		stop.Store(true)
		all.Wait()
	})
}

// TestAllAddressesGiveWayToOne: a listener on all addresses is replaced by one on a single
// address with the same port, in one step.
func TestAllAddressesGiveWayToOne(t *testing.T) {
	t.Parallel()
	if err := probeEpoll(); err != nil {
		t.Skip(err) // elsewhere it takes two steps
	}
	for _, network := range []string{"tcp", "udp"} {
		for _, all := range []string{"0.0.0.0", "::"} {
			c := named(t, "c")
			if network == "udp" {
				c = namedUDP(t, "c", UDPConfig{})
			}
			c.Listeners = []Listener{{Network: network, Addr: netip.AddrPortFrom(netip.MustParseAddr(all), 0)}}
			s := startServer(t, Options{Engine: "epoll", Workers: 2}, c)
			one := netip.AddrPortFrom(ownPorts(t, 1)[0].Addr(), at(s, 0).Port())
			c.Listeners = []Listener{{Network: network, Addr: one}}
			apply(t, s, c)
			got, err := "", error(nil)
			if network == "udp" {
				got, err = askOnce(one)
			} else {
				got, err = whose(one.String(), 1)
			}
			if got != "c" || err != nil {
				t.Errorf("%s %v answers %q, %v", network, one, got, err)
			}
			other := one.Addr().As4()
			other[1] = 250 // no test listens there; on 127.0.0.1 others may get the port
			if _, err := net.Dial("tcp", netip.AddrPortFrom(netip.AddrFrom4(other), one.Port()).String()); err == nil {
				t.Errorf("another address than %v has a listener", one)
			}
		}
	}
}
