package proxy

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"usher/proxy/flow"
)

// stallLoops holds the event loops up.
func stallLoops(s *Server) (resume func()) {
	held := make(chan struct{})
	var stalled sync.WaitGroup
	for _, w := range s.engine.(*epollEngine).workers {
		stalled.Add(1)
		w.enqueue(func() {
			stalled.Done()
			<-held
		})
	}
	stalled.Wait()
	return func() { close(held) }
}

// TestLastSessionEndsWhileItsListenerLeaves: the listening socket stays until what waits at
// it is served.
func TestLastSessionEndsWhileItsListenerLeaves(t *testing.T) {
	t.Parallel()
	s := startServer(t, Options{Engine: "epoll", Workers: 1}, namedUDP(t, "x", UDPConfig{}))
	addr, svc := at(s, 0), s.Services()[0]
	ask(t, dialUDP(t, addr), "who?")
	waits := dialUDP(t, addr)
	e := s.engine.(*epollEngine)
	var gone []*binding
	for a, b := range s.bindings {
		gone = append(gone, b)
		delete(s.bindings, a)
	}
	e.all(func(w *worker) {
		w.beginClose(gone)
		say(t, waits, "who?")
		w.udp.sessions.CutFlows(flow.CutTarget{Service: svc}, 0, w.now)
	})
	e.giveUpAddresses()
	if got := heard(t, waits); got[:2] != "x " {
		t.Errorf("got %q", got)
	}
	s.CutService(svc, flow.Reset)
	e.all(func(w *worker) {
		if fd := w.udp.listeners[gone[0].sockets.(*epollSockets).slots[0]].fd; fd >= 0 {
			t.Error("the listening socket is left")
		}
	})
}

// TestCutServiceTurnsNewcomersAway: a client that has no place yet begins no flow of a
// service after that was cut.
func TestCutServiceTurnsNewcomersAway(t *testing.T) {
	t.Parallel()
	s := startServer(t, Options{Engine: "epoll", Workers: 1}, named(t, "x"))
	svc := s.Services()[0]
	e := s.engine.(*epollEngine)
	e.all(func(w *worker) {
		fd, _ := newSocket(2)
		w.newcomers = append(w.newcomers, newcomer{fd: fd, at: w.acceptors[0].at, cfg: svc.Settings(), short: flow.ServerFull})
	})
	s.CutService(svc, flow.Reset)
	e.all(func(w *worker) {
		if n := len(w.newcomers); n > 0 {
			t.Errorf("%d newcomers are left", n)
		}
	})
	if n := svc.Ended(flow.ServerFull); n != 1 {
		t.Errorf("%d were turned away", n)
	}
}

// TestManyListenersTakeManyTurns: however many come and go with one call, flows have their
// turns meanwhile.
func TestManyListenersTakeManyTurns(t *testing.T) {
	t.Parallel()
	const n = 2*adoptShare + 1
	c, u := named(t, "c"), namedUDP(t, "u", UDPConfig{})
	c.Listeners, u.Listeners = nil, nil
	for _, p := range ownPorts(t, n) {
		c.Listeners = append(c.Listeners, Listener{Network: "tcp", Addr: p})
		u.Listeners = append(u.Listeners, Listener{Network: "udp", Addr: p})
	}
	s, err := newServer(Options{Engine: "epoll", Workers: 1}, c, u)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	all := slices.Collect(maps.Values(s.bindings))
	clear(s.bindings)
	w := s.engine.(*epollEngine).workers[0]
	// turns counts those that a step takes, which has or frees some sockets in each.
	turns := func(step func(round int) (more bool)) (n int) {
		for more := true; more; n++ {
			more = step(n)
		}
		return n
	}
	if got := turns(func(round int) bool { return w.adoptSome(all, round*adoptShare, true) }); got != 2*n/adoptShare+1 {
		t.Errorf("%d turns to begin", got)
	}
	if len(w.acceptors) != n || len(w.udp.listeners) != n {
		t.Errorf("%d and %d sockets are served", len(w.acceptors), len(w.udp.listeners))
	}
	w.beginClose(all)
	for what, step := range map[string]func(int) bool{
		"close":           func(int) bool { return w.closeAcceptors() },
		"share and leave": func(round int) bool { return w.udp.shareAddresses(round * adoptShare) },
	} {
		if got := turns(step); got < n/adoptShare+1 {
			t.Errorf("%d turns to %s", got, what)
		}
	}
	turns(func(int) bool { return w.udp.leaveAddress() })
	if got := turns(func(int) bool { return w.udp.endLeave() }); got < n/closeShare {
		t.Errorf("%d turns to end", got)
	}
	if len(w.freeSlots) != n || len(w.udp.freeSlots) != n {
		t.Errorf("%d and %d slots are free at the end", len(w.freeSlots), len(w.udp.freeSlots))
	}
}

// TestSessionsStayWhenAllAddressesBecomeOne and when one becomes all.
func TestSessionsStayWhenAllAddressesBecomeOne(t *testing.T) {
	t.Parallel()
	c := namedUDP(t, "x", UDPConfig{})
	for _, hosts := range [][2]string{{"0.0.0.0", "127.0.0.1"}, {"::", "127.0.0.1"}, {"127.0.0.1", "0.0.0.0"}, {"127.0.0.1", "::"}} {
		c.Listeners = []Listener{{Network: "udp", Addr: netip.AddrPortFrom(netip.MustParseAddr(hosts[0]), 0)}}
		s := startServer(t, Options{Engine: "epoll", Workers: 4}, c)
		port := at(s, 0).Port()
		var clients []*net.UDPConn
		var first []string
		for range 40 {
			client := dialUDP(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))
			clients, first = append(clients, client), append(first, ask(t, client, "who?"))
		}
		c.Listeners = []Listener{{Network: "udp", Addr: netip.AddrPortFrom(netip.MustParseAddr(hosts[1]), port)}}
		apply(t, s, c)
		for i, client := range clients {
			if got := ask(t, client, "who?"); got != first[i] {
				t.Errorf("%v: the flow of %q went on as %q", hosts, first[i], got)
			}
		}
	}
}
