//go:build unix

package proxy

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"usher/conntrack"
	"usher/proxy/flow"
)

// fullSocket returns a socket that never has room, and one that is not connected.
func fullSocket(t *testing.T) (full, loose syscall.RawConn) {
	t.Helper()
	folder, err := os.MkdirTemp("", "full") // t.TempDir may be too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	at := &net.UnixAddr{Name: filepath.Join(folder, "s"), Net: "unixgram"}
	sink, err := net.ListenUnixgram("unixgram", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sink.Close() })
	c, err := net.DialUnix("unixgram", nil, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	raws := make([]syscall.RawConn, 2)
	for i, conn := range []*net.UnixConn{c, sink} {
		if raws[i], err = conn.SyscallConn(); err != nil {
			t.Fatal(err)
		}
	}
	w := newDatagramWriter()
	v := flow.SendDone
	for v == flow.SendDone {
		v = w.send(nil, raws[0], []byte("x"))
	}
	if v != flow.SendFull {
		t.Fatal(v)
	}
	return raws[0], raws[1]
}

// disturb runs do with the socket of each session of a portable server.
func disturb(s *Server, do func(id conntrack.ID, p *packetSocket)) {
	u := s.engine.(*portableEngine).udp
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, p := range u.sockets {
		do(id, p)
	}
}

// TestFullSocketHoldsUpNobody has one client whose backend's way is congested. What
// it sends is dropped, and others are served by the same goroutine.
func TestFullSocketHoldsUpNobody(t *testing.T) {
	t.Parallel()
	full, _ := fullSocket(t)
	s, svc, at := startUDP(t, "portable", udpService(t, UDPConfig{}, udpEcho(t)))
	stuck, other := dialUDP(t, at), dialUDP(t, at)
	ask(t, stuck, "x")
	disturb(s, func(_ conntrack.ID, p *packetSocket) { p.raw = full })
	for i := range uint64(100) {
		say(t, stuck, "no way")
		if got := ask(t, other, "who?"); got != "who?" {
			t.Errorf("got %q", got)
		}
		if n := svc.Dropped(flow.DropFull); n != i+1 {
			t.Fatalf("%d datagrams dropped, want %d", n, i+1)
		}
	}
	if n := svc.Ended(flow.Refused); n != 0 {
		t.Errorf("%d flows refused: a full socket is no refusal", n)
	}
}

// TestBrokenWayIsLeft has a socket that can send no more, for another reason than
// that nobody listens.
func TestBrokenWayIsLeft(t *testing.T) {
	t.Parallel()
	_, loose := fullSocket(t)
	_, at1 := udpNamed(t, "a")
	_, at2 := udpNamed(t, "b")
	s, svc, at := startUDP(t, "portable", udpService(t, UDPConfig{}, at1, at2))
	c := dialUDP(t, at)
	first := ask(t, c, "who?")
	disturb(s, func(_ conntrack.ID, p *packetSocket) { p.raw = loose })
	second := ask(t, c, "who?") // not even this one is lost
	if first[0] == second[0] || svc.Ended(flow.Refused) != 0 {
		t.Errorf("%q answers after %q, %d flows refused", second, first, svc.Ended(flow.Refused))
	}
	if got := ask(t, c, "who?"); got != second {
		t.Errorf("%q answers after %q", got, second)
	}
}

// TestLinkLocalClients asks by link-local addresses, whose link is a part of the
// client's address.
func TestLinkLocalClients(t *testing.T) {
	t.Parallel()
	at := linkLocal(t)
	eachEngine(t, func(t *testing.T, engine string) {
		for _, listen := range []netip.Addr{at, netip.IPv6Unspecified()} {
			config := udpService(t, UDPConfig{}, udpEcho(t))
			config.Listeners[0].Addr = netip.AddrPortFrom(listen, 0)
			_, _, bound := startUDP(t, engine, config)
			c := dialUDP(t, netip.AddrPortFrom(at, bound.Port()))
			for range 2 {
				if got := ask(t, c, "who?"); got != "who?" {
					t.Errorf("%v: got %q", listen, got)
				}
			}
			// And a backend there.
			b, err := net.ListenUDP("udp6", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
			if err != nil {
				t.Skip(err)
			}
			defer b.Close()
			_, _, bound = startUDP(t, engine, udpService(t, UDPConfig{}, netip.AddrPortFrom(at, uint16(b.LocalAddr().(*net.UDPAddr).Port))))
			say(t, dialUDP(t, bound), "hello")
			if got := heard(t, b); got != "hello" {
				t.Errorf("the backend got %q", got)
			}
		}
	})
}

// linkLocal returns a link-local address of this machine, with its zone.
func linkLocal(t *testing.T) netip.Addr {
	links, _ := net.Interfaces()
	for _, link := range links {
		addrs, _ := link.Addrs()
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err == nil && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() && link.Flags&net.FlagUp != 0 {
				return p.Addr().WithZone(link.Name)
			}
		}
	}
	t.Skip("no link-local address here")
	return netip.Addr{}
}

// TestDroppedDatagramsAreNotCountedAsSent: they are no bytes of the flow, and nothing
// is owed for them.
func TestDroppedDatagramsAreNotCountedAsSent(t *testing.T) {
	t.Parallel()
	full, _ := fullSocket(t)
	s, svc, at := startUDP(t, "portable", udpService(t, UDPConfig{Replies: 2}, udpEcho(t)))
	c := dialUDP(t, at)
	ask(t, c, "x")
	var before syscall.RawConn
	disturb(s, func(_ conntrack.ID, p *packetSocket) { before, p.raw = p.raw, full })
	say(t, c, "no way")
	eventually(t, "it is dropped", func() bool { return svc.Dropped(flow.DropFull) == 1 })
	disturb(s, func(_ conntrack.ID, p *packetSocket) { p.raw = before })
	for range 2 {
		ask(t, c, "x")
	}
	for r := range s.Flows() {
		if r.Up != 3 || r.Down != 3 {
			t.Errorf("%d bytes up, %d down, want 3", r.Up, r.Down)
		}
	}
}
