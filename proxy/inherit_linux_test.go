package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// passed is a socket as a service manager has it: it keeps its own copy.
func passed(t testing.TB, network, address string) (copied func() Inherited, at Listener) {
	t.Helper()
	var socket interface {
		File() (*os.File, error)
		Close() error
	}
	var err error
	if strings.HasPrefix(network, "udp") {
		pc, failed := net.ListenPacket(network, address)
		if err = failed; err == nil {
			socket = pc.(*net.UDPConn)
		}
	} else {
		var config net.ListenConfig
		config.SetMultipathTCP(false)
		l, failed := config.Listen(t.Context(), network, address)
		if err = failed; err == nil {
			socket = l.(interface {
				File() (*os.File, error)
				Close() error
			})
		}
		if l, ok := l.(*net.UnixListener); ok {
			l.SetUnlinkOnClose(false)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	f, err := socket.File()
	if err != nil {
		t.Fatal(err)
	}
	socket.Close()
	t.Cleanup(func() { f.Close() })
	if at, err = inspectSocket(int(f.Fd())); err != nil {
		t.Fatal(err)
	}
	return func() Inherited {
		fd, err := unix.Dup(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		return Inherited{Name: "web", FD: fd}
	}, at
}

// inheritedKinds are sockets that a service manager may pass.
func inheritedKinds(t *testing.T) [][2]string {
	kinds := [][2]string{
		{"tcp4", "127.0.0.1:0"}, {"tcp4", "0.0.0.0:0"}, {"udp4", "127.0.0.1:0"}, {"udp4", "0.0.0.0:0"},
		{"unix", filepath.Join(t.TempDir(), "s")}, {"unix", fmt.Sprintf("@usher-%d-%s", os.Getpid(), t.Name())},
	}
	if l, err := net.Listen("tcp6", "[::1]:0"); err == nil {
		l.Close()
		kinds = append(kinds, [][2]string{{"tcp6", "[::]:0"}, {"tcp", "[::]:0"}, {"udp6", "[::]:0"}}...)
	}
	return kinds
}

// inheriting returns a service that listens where a socket does.
func inheriting(t testing.TB, at Listener, backend, datagrams netip.AddrPort) ServiceConfig {
	c := service(t, backend)
	if at.Network == "udp" {
		c = udpService(t, UDPConfig{}, datagrams)
	}
	c.Listeners = []Listener{at}
	return c
}

// talk makes a round trip to a listener, by a client that stays.
func talk(t *testing.T, at Listener) (again func()) {
	t.Helper()
	if at.Network == "unix" {
		c, err := net.Dial("unix", at.Path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		roundTrip(t, c)
		return func() { roundTrip(t, c) }
	}
	to := at.Addr
	if to.Addr() == netip.IPv4Unspecified() || at.BothFamilies() {
		to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), to.Port())
	} else if to.Addr().IsUnspecified() {
		to = netip.AddrPortFrom(netip.IPv6Loopback(), to.Port())
	}
	if at.Network == "udp" {
		c := dialUDP(t, to)
		again = func() {
			t.Helper()
			if got := ask(t, c, "hello"); got != "hello" {
				t.Errorf("the reply is %q", got)
			}
		}
		again()
		return again
	}
	c := dial(t, to.String())
	roundTrip(t, c)
	return func() { roundTrip(t, c) }
}

// A server accepts from the sockets that it was given. When it ends they are as they were, for the next one.
func TestInheritedSockets(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		backend, datagrams := echo(t), udpEcho(t)
		for _, kind := range inheritedKinds(t) {
			copied, at := passed(t, kind[0], kind[1])
			c := inheriting(t, at, backend, datagrams)
			for range 3 {
				s, err := newServer(Options{Engine: engine, Workers: 3, Inherited: []Inherited{copied()}}, c)
				if err != nil {
					t.Fatalf("%v: %v", kind, err)
				}
				if left := s.Unclaimed(); len(left) > 0 {
					t.Errorf("%v: %v was not taken", kind, left)
				}
				s.Start()
				for range 5 {
					talk(t, at)
				}
				s.Close()
			}
			if at.Network == "unix" && !isAbstract(at.Path) {
				if _, err := os.Lstat(at.Path); err != nil {
					t.Errorf("the file of the service manager: %v", err)
				}
			}
		}
	})
}

// A listener that is removed leaves clients to whoever has the socket, too. What is not removed goes on.
func TestInheritedSocketIsGivenUp(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		backend, datagrams := echo(t), udpEcho(t)
		for _, kind := range inheritedKinds(t) {
			copied, at := passed(t, kind[0], kind[1])
			s := startServer(t, Options{Engine: engine, Workers: 2, Inherited: []Inherited{copied()}}, inheriting(t, at, backend, datagrams))
			again := talk(t, at)
			apply(t, s)
			again()
			next, err := newServer(Options{Engine: engine, Workers: 2, Inherited: []Inherited{copied()}}, inheriting(t, at, backend, datagrams))
			if err != nil {
				t.Fatal(err)
			}
			next.Start()
			for range 5 {
				talk(t, at)
			}
			next.Close()
			s.Close()
		}
	})
}

// Only a listener of the very address takes a socket.
func TestInheritedSocketOfAnotherAddress(t *testing.T) {
	t.Parallel()
	copied, both := passed(t, "tcp", "[::]:0")
	if !both.BothFamilies() {
		t.Skip("no socket of both families here")
	}
	v6, v4, one, udp := both, both, both, both
	v6.V6Only = true
	v4.Addr = netip.AddrPortFrom(netip.IPv4Unspecified(), both.Addr.Port())
	one.Addr = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), both.Addr.Port())
	udp.Network = "udp"
	s, err := New(Options{Inherited: []Inherited{copied()}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, l := range []Listener{v6, v4, one, udp} {
		c := inheriting(t, l, echo(t), udpEcho(t))
		err := s.Apply(pointers([]ServiceConfig{c}))
		if left := s.Unclaimed(); len(left) != 1 || left[0].At != both {
			t.Fatalf("%v (%v): %v is left", l, err, left)
		}
		if (err == nil) != (l.Network == "udp") {
			t.Errorf("%v: %v", l, err)
		}
	}
	if _, err := New(Options{Inherited: []Inherited{copied(), copied()}}); err == nil || !strings.Contains(err.Error(), "both listen on") {
		t.Errorf("one address twice: %v", err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if _, err := New(Options{Inherited: []Inherited{{Name: "null", FD: int(null.Fd())}}}); err == nil || !strings.Contains(err.Error(), "socket null (descriptor ") {
		t.Errorf("no socket: %v", err)
	}
}

// Inherited sockets are handed over as others are, also those that are given up and have flows.
func TestInheritedSocketsAreHandedOver(t *testing.T) {
	t.Parallel()
	backend, datagrams := echo(t), udpEcho(t)
	for _, kind := range inheritedKinds(t) {
		copied, at := passed(t, kind[0], kind[1])
		c := inheriting(t, at, backend, datagrams)
		s, err := newServer(Options{Engine: "epoll", Workers: 3, Inherited: []Inherited{copied()}}, c)
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		again := talk(t, at)
		for range 2 {
			s = handOver(t, s, &c)
			again()
			talk(t, at)
		}
		apply(t, s)
		again()
		s = handOver(t, s)
		again()
		s.Close()
		next, err := newServer(Options{Engine: "epoll", Inherited: []Inherited{copied()}}, c)
		if err != nil {
			t.Fatal(err)
		}
		next.Start()
		talk(t, at)
		next.Close()
	}
}
