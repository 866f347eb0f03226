package proxy

import (
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"usher/proxy/flow"
)

// startRange starts a server on so many consecutive ports, on an address of its own, where
// it is in nobody's way.
func startRange(t *testing.T, cfg ServiceConfig, workers, ports int) (*Server, Listener) {
	t.Helper()
	host := netip.AddrFrom4([4]byte{127, byte(2 + ports%200), byte(os.Getpid() >> 8), byte(os.Getpid())})
	for first := 20000; first < 30000; first += ports {
		cfg.Listeners = []Listener{{Network: "tcp", Addr: netip.AddrPortFrom(host, uint16(first)), Ports: ports}}
		s, err := newServer(Options{Engine: "epoll", Workers: workers}, cfg)
		if err != nil {
			continue
		}
		t.Cleanup(s.Close)
		s.Start()
		return s, cfg.Listeners[0]
	}
	t.Fatal("no free range of ports")
	return nil, Listener{}
}

// TestWorkersShareTheClientsOfOneSocket: the kernel wakes the worker that has waited
// longest for a shared socket.
func TestWorkersShareTheClientsOfOneSocket(t *testing.T) {
	t.Parallel()
	const clients = 60
	for _, tc := range []struct {
		name  string
		start func(t *testing.T, cfg ServiceConfig) (*Server, func(i int) (network, address string))
	}{
		{"unix", func(t *testing.T, cfg ServiceConfig) (*Server, func(int) (string, string)) {
			cfg.Listeners = []Listener{{Network: "unix", Path: t.TempDir() + "/socket"}}
			s, _ := start(t, Options{Engine: "epoll", Workers: 2}, cfg)
			return s, func(int) (string, string) { return "unix", cfg.Listeners[0].Path }
		}},
		{"one port of a range", func(t *testing.T, cfg ServiceConfig) (*Server, func(int) (string, string)) {
			s, l := startRange(t, cfg, 2, shardedPorts+1)
			return s, func(int) (string, string) { return "tcp", l.Port(3).Addr.String() }
		}},
		{"each another port of a range", func(t *testing.T, cfg ServiceConfig) (*Server, func(int) (string, string)) {
			s, l := startRange(t, cfg, 2, shardedPorts+2)
			return s, func(i int) (string, string) { return "tcp", l.Port(i).Addr.String() }
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, address := tc.start(t, service(t, echo(t)))
			for i := range clients {
				network, at := address(i)
				c, err := net.Dial(network, at)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				roundTrip(t, c)
			}
			var flows []string
			uneven := false
			for _, w := range s.engine.(*epollEngine).workers {
				n := w.table.Len()
				flows = append(flows, fmt.Sprint(n))
				uneven = uneven || n < clients/3
			}
			if uneven {
				t.Errorf("the workers have %v flows", flows)
			}
		})
	}
}

// TestPauseCostsNothingForSocketsWithoutClients: of the many sockets of a worker that has
// no descriptors, it sees to those alone that have a client.
func TestPauseCostsNothingForSocketsWithoutClients(t *testing.T) {
	t.Parallel()
	s, l := startRange(t, service(t, echo(t)), 1, shardedPorts+3)
	w := s.engine.(*epollEngine).workers[0]
	onLoop(w, func() { w.paused, w.resume = true, math.MaxInt64 })
	clients := []*net.TCPConn{dial(t, l.Port(1).Addr.String()), dial(t, l.Port(1).Addr.String()), dial(t, l.Port(7).Addr.String())}
	eventually(t, "the two sockets that have clients are blocked", func() (yes bool) {
		onLoop(w, func() { yes = len(w.blocked) == 2 })
		return yes
	})
	if n := s.Services()[0].Starved(); n != 2 || s.Open() > 0 {
		t.Errorf("%d times starved, %d flows", n, s.Open())
	}
	onLoop(w, func() { w.resume = w.now })
	for _, c := range clients {
		roundTrip(t, c)
	}
	onLoop(w, func() {
		if w.paused || w.resume > 0 || len(w.blocked) > 0 {
			t.Errorf("paused: %v, until %v, %d sockets blocked", w.paused, w.resume, len(w.blocked))
		}
	})
}

// TestDrainTakesAShareInEachTurn: clients that the kernel has accepted are served, but
// nobody waits for all of them to be.
func TestDrainTakesAShareInEachTurn(t *testing.T) {
	t.Parallel()
	s, addr := start(t, Options{Engine: "epoll", Workers: 1}, service(t, echo(t)))
	w := s.engine.(*epollEngine).workers[0]
	held, release := make(chan struct{}), make(chan struct{})
	w.enqueue(func() {
		close(held)
		<-release
	})
	<-held
	var clients []*net.TCPConn
	for range closeShare + closeShare/2 {
		clients = append(clients, dial(t, addr))
	}
	more := make(chan bool)
	gone := slices.Collect(maps.Values(s.bindings))
	s.bindings = nil // the test closes them
	w.enqueue(func() {
		w.beginClose(gone)
		more <- w.closeAcceptors()
		if n := s.Open(); n != closeShare {
			t.Errorf("%d clients were accepted in one turn, want %d", n, closeShare)
		}
		more <- w.closeAcceptors()
	})
	close(release)
	if first, second := <-more, <-more; !first || second {
		t.Errorf("more to do after the first turn: %v, after the second: %v", first, second)
	}
	for _, c := range clients {
		roundTrip(t, c)
	}
}

func TestWaitMillis(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		d    time.Duration
		want int
	}{
		{-time.Hour, 0},
		{0, 0},
		{1, 1},
		{time.Millisecond, 1},
		{time.Millisecond + 1, 2},
		{24 * time.Hour, 86_400_000},
		{25 * 24 * time.Hour, math.MaxInt32},
		{math.MaxInt64, math.MaxInt32},
	} {
		if got := waitMillis(tc.d); got != tc.want {
			t.Errorf("%v: %d ms, want %d", tc.d, got, tc.want)
		}
	}
}

// TestStaleEventOfAListener has an event that was meant for a listener that is closed. It
// must not be taken for one of the listener that has the slot now.
func TestStaleEventOfAListener(t *testing.T) {
	t.Parallel()
	for _, c := range []ServiceConfig{service(t, echo(t)), udpService(t, UDPConfig{}, udpEcho(t))} {
		s, err := newServer(Options{Engine: "epoll", Workers: 1}, c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		e := s.engine.(*epollEngine)
		w := e.workers[0] // it does not run: the test is its loop
		serve := func() (gone []*binding, event unix.EpollEvent) {
			gone = slices.Collect(maps.Values(s.bindings))
			e.serve(gone)
			network, to := "tcp", at(s, 0).String()
			event = unix.EpollEvent{Events: unix.EPOLLIN, Fd: 0, Pad: tagListener}
			if c.IsUDP() {
				network = "udp"
				event.Pad = tagDatagrams | w.udp.listeners[0].gen
			} else {
				event.Pad |= w.acceptors[0].gen
			}
			client, err := net.Dial(network, to)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { client.Close() })
			_, _ = client.Write([]byte("x"))
			return gone, event
		}
		gone, stale := serve()
		e.close(gone)
		w.udp.sessions.CutFlows(flow.CutTarget{Service: s.Services()[0]}, 0, s.Now())
		w.udp.closeLeft()
		before := s.Open()
		clear(s.bindings)
		clear(s.byName)
		s.given = nil
		apply(t, s, c)
		gone, event := serve()
		w.now = s.Now()
		if w.dispatch(&stale); stale == event || s.Open() != before {
			t.Errorf("event %v was taken for %v: %d flows", stale, event, s.Open()-before)
		}
		if w.dispatch(&event); s.Open() != before+1 {
			t.Errorf("%d flows, want one", s.Open()-before)
		}
		e.close(gone)
		s.bindings = nil
	}
}
