package proxy

import (
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/proxy/flow"
	"usher/proxy/proxyheader"
)

// namedUDP is a udp service in front of a backend that says the service's name and the
// flow's port.
func namedUDP(t *testing.T, name string, u UDPConfig) ServiceConfig {
	t.Helper()
	_, backend := udpNamed(t, name)
	c := udpService(t, u, backend)
	c.Name = name
	return c
}

// TestDatagramListenerMoves between services while clients ask without a pause. Sessions
// stay with the service that they began with, and new ones belong to the new one.
func TestDatagramListenerMoves(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		a, b := namedUDP(t, "a", UDPConfig{}), namedUDP(t, "b", UDPConfig{})
		a.Listeners[0].Addr = ownPorts(t, 1)[0]
		b.Listeners = nil
		s := startServer(t, Options{Engine: engine, Workers: 2}, a, b)
		addr := at(s, 0)
		var stop atomic.Bool
		var clients sync.WaitGroup
		for range 4 {
			c := dialUDP(t, addr)
			first := ask(t, c, "who?")
			clients.Go(func() {
				for !stop.Load() {
					if got := ask(t, c, "who?"); got != first {
						t.Errorf("the flow of %q went on as %q", first, got)
						return
					}
				}
			})
		}
		for range 20 {
			a.Listeners, b.Listeners = b.Listeners, a.Listeners
			apply(t, s, a, b)
			want := "a"
			if len(b.Listeners) > 0 {
				want = "b"
			}
			if got := ask(t, dialUDP(t, addr), "who?"); !strings.HasPrefix(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		}
		stop.Store(true)
		clients.Wait()
	})
}

// TestSessionsOutliveTheirListener: replies leave from an address that was given up, also
// after another service has it, and what clients send to it still comes to their flows. The
// last session closes what it needed.
func TestSessionsOutliveTheirListener(t *testing.T) {
	t.Parallel()
	header := proxyheader.AppendV2(nil, &proxyheader.Header{
		Source: netip.MustParseAddrPort("192.0.2.1:1"), Destination: netip.MustParseAddrPort("192.0.2.9:53"), Datagram: true,
	})
	t.Run("clients", func(t *testing.T) { sessionsOutlive(t, flow.AccessConfig{}, "") })
	t.Run("named clients", func(t *testing.T) { sessionsOutlive(t, ofLoopback, string(header)) })
}

// sessionsOutlive has clients begin by a header.
func sessionsOutlive(t *testing.T, access flow.AccessConfig, header string) {
	eachEngine(t, func(t *testing.T, engine string) {
		a, b := namedUDP(t, "a", UDPConfig{}), namedUDP(t, "b", UDPConfig{})
		a.Listeners[0].Addr = ownPorts(t, 1)[0]
		b.Listeners[0].Addr = a.Listeners[0].Addr
		a.Access = access
		s := startServer(t, Options{Engine: engine, Workers: 2}, a)
		var old []*net.UDPConn
		var first []string
		for i := range 8 {
			c := dialUDP(t, a.Listeners[0].Addr)
			if header != "" { // each is of another client
				header = header[:len(header)-3] + string(rune(i)) + header[len(header)-2:]
			}
			old, first = append(old, c), append(first, ask(t, c, header+"who?"))
		}
		removed := s.Services()[0]
		stays := func(when string) {
			for i, c := range old {
				if got := ask(t, c, "who?"); got != first[i] {
					t.Errorf("%s the flow of %q went on as %q", when, first[i], got)
				}
			}
		}
		apply(t, s)
		stays("without a listener")
		c := dialUDP(t, a.Listeners[0].Addr)
		say(t, c, "who?")
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := c.Read(make([]byte, 10)); err == nil {
			t.Errorf("%d bytes from an address that nobody has", n)
		}
		for range 3 {
			apply(t, s, b)
			stays("beside another service")
			c := dialUDP(t, a.Listeners[0].Addr)
			if got := ask(t, c, "who?"); !strings.HasPrefix(got, "b ") {
				t.Errorf("%q answers for b", got)
			}
			apply(t, s)
		}
		if removed.Active() != 8 {
			t.Errorf("%d flows of the removed service", removed.Active())
		}
		s.CutService(removed, flow.Reset)
		if n := removed.Ended(flow.BackendDown); removed.Active() != 0 || n != 8 {
			t.Errorf("%d flows are left, %d were cut", removed.Active(), n)
		}
	})
}

// TestSessionsThatBeginAtTheEnd of their listener go on as those before do: the datagrams
// that begin them wait while the address is given up.
func TestSessionsThatBeginAtTheEnd(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere flows keep the address")
	}
	eachEngine(t, func(t *testing.T, engine string) {
		c := namedUDP(t, "x", UDPConfig{})
		s := startServer(t, Options{Engine: engine, Workers: 2}, c)
		addr := at(s, 0)
		ask(t, dialUDP(t, addr), "who?")
		var clients []*net.UDPConn
		resume := stall(s)
		for range 16 {
			client := dialUDP(t, addr)
			say(t, client, "who?")
			clients = append(clients, client)
		}
		var applied sync.WaitGroup
		applied.Go(func() { apply(t, s) })
		eventually(t, "the service is gone", func() bool { return len(s.Services()) == 0 })
		resume()
		applied.Wait()
		for _, client := range clients {
			first := heard(t, client)
			if again := ask(t, client, "who?"); again != first {
				t.Errorf("the flow of %q went on as %q", first, again)
			}
		}
	})
}

// TestOnePacketIsAConfig: a service begins and ceases to schedule every datagram by itself.
// Sessions that there are go on as they began.
func TestOnePacketIsAConfig(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		_, one := udpNamed(t, "one")
		_, two := udpNamed(t, "two")
		c := udpService(t, UDPConfig{}, one, two)
		s := startServer(t, Options{Engine: engine, Workers: 2}, c)
		names := func(conn *net.UDPConn) map[string]bool {
			seen := make(map[string]bool)
			for range 6 {
				seen[ask(t, conn, "who?")] = true
			}
			return seen
		}
		before := dialUDP(t, at(s, 0))
		if n := names(before); len(n) != 1 {
			t.Errorf("a session at %v", n)
		}
		c.UDP.OnePacket = true
		apply(t, s, c)
		if n := names(before); len(n) != 1 {
			t.Errorf("the session went on at %v", n)
		}
		single := dialUDP(t, at(s, 0))
		if n := names(single); len(n) != 2 {
			t.Errorf("datagrams by themselves at %v", n)
		}
		c.UDP.OnePacket = false
		apply(t, s, c)
		if n := names(single); len(n) != 1 {
			t.Errorf("datagrams at %v, want a session", n)
		}
		if n := names(dialUDP(t, at(s, 0))); len(n) != 1 {
			t.Errorf("a new session at %v", n)
		}
		svc := s.Services()[0]
		apply(t, s)
		s.CutService(svc, flow.Reset)
		noneLeft(t, s, svc)
	})
}

// askOnce returns the name that a new client is answered with.
func askOnce(to netip.AddrPort) (name string, err error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := c.Write([]byte("who?")); err != nil {
		return "", err
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	buffer := make([]byte, 100)
	n, err := c.Read(buffer)
	name, _, _ = strings.Cut(string(buffer[:n]), " ")
	return name, err
}
