package proxy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// namedAt returns a service with listeners at an address for clients with server names.
func namedAt(t *testing.T, name string, l Listener, serverNames ...string) ServiceConfig {
	t.Helper()
	c := named(t, name)
	c.Listeners = nil
	for _, l.ServerName = range serverNames {
		c.Listeners = append(c.Listeners, l)
	}
	return c
}

// boundAt returns the only binding of a server.
func boundAt(t *testing.T, s *Server) *binding {
	t.Helper()
	for _, b := range s.bindings {
		if len(s.bindings) == 1 {
			return b
		}
	}
	t.Fatalf("%d bindings", len(s.bindings))
	return nil
}

// wantNames checks whose clients with server names are: "NAME SERVICE", or "NAME -".
func wantNames(t *testing.T, b *binding, all ...string) {
	t.Helper()
	for _, one := range all {
		name, want, _ := strings.Cut(one, " ")
		got := "-"
		if d := b.DestinationOf(name, nil); d != nil {
			got = d.Service.Name
		}
		if got != want {
			t.Errorf("%s is %s's, want %s", name, got, want)
		}
	}
}

// TestSharedListenerLives: services that share an address come, change and go, and its socket stays until the last has gone.
func TestSharedListenerLives(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		unix := Listener{Network: "unix", Path: filepath.Join(t.TempDir(), "s")}
		for _, l := range []Listener{{Network: "tcp", Addr: ownPorts(t, 1)[0]}, unix} {
			if l.Network == "unix" && runtime.GOOS == "windows" {
				continue
			}
			a, b, c := namedAt(t, "a", l, "a.test"), namedAt(t, "b", l, "b.test", "*.b.test"), namedAt(t, "c", l, "")
			s := startServer(t, Options{Engine: engine, Workers: 2}, a, b)
			at := boundAt(t, s)
			sockets := s.sockets
			wantNames(t, at, "a.test a", "b.test b", "x.b.test b", "x.test -")

			apply(t, s, a, b, c)
			wantNames(t, at, "a.test a", "b.test b", "x.test c")
			moved := namedAt(t, "a", l, "a.test", "*.b.test")
			fewer := namedAt(t, "b", l, "b.test")
			apply(t, s, c, moved, fewer)
			wantNames(t, at, "a.test a", "b.test b", "x.b.test a", "x.test c")
			apply(t, s, fewer)
			wantNames(t, at, "a.test -", "b.test b", "x.test -")
			if boundAt(t, s) != at || s.sockets != sockets || !at.NeedsHello() {
				t.Errorf("the socket is another one, or %d are counted as %d", sockets, s.sockets)
			}
			apply(t, s, c)
			if boundAt(t, s) != at || at.NeedsHello() {
				t.Error("a listener for all clients waits for a ClientHello")
			}
			if got, err := whoseAt(l); got != "c" {
				t.Errorf("%q answers, %v", got, err)
			}
			apply(t, s)
			if len(s.bindings) > 0 || s.sockets != 0 {
				t.Errorf("%d bindings are left, %d sockets", len(s.bindings), s.sockets)
			}
		}
	})
}

// whoseAt returns the first byte of who answers at a listener.
func whoseAt(l Listener) (string, error) {
	address := l.Path
	if l.Network == "tcp" {
		address = l.Addr.String()
	}
	c, err := net.DialTimeout(l.Network, address, 30*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	first := make([]byte, 1)
	_, err = io.ReadFull(c, first)
	return string(first), err
}

// TestSharedListenerIsRefused where services do not agree. Nothing changes.
func TestSharedListenerIsRefused(t *testing.T) {
	t.Parallel()
	p := ownPorts(t, 1)[0]
	tcp := Listener{Network: "tcp", Addr: p}
	unix := Listener{Network: "unix", Path: filepath.Join(t.TempDir(), "s")}
	everywhere := Listener{Network: "tcp", Addr: netip.AddrPortFrom(netip.IPv6Unspecified(), p.Port())}
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	with := func(l Listener, change func(*Listener)) Listener {
		change(&l)
		return l
	}
	for _, tt := range []struct {
		what, field string // of the second service
		a, b        Listener
		change      func(*ServiceConfig) // of the second service
	}{
		{"sni=x.test: service a listens there", "", with(tcp, func(l *Listener) { l.ServerName = "x.test" }), with(tcp, func(l *Listener) { l.ServerName = "x.test" }), nil},
		{"alpn=h2: service a listens there", "", with(tcp, func(l *Listener) { l.Protocol = "h2" }), with(tcp, func(l *Listener) { l.Protocol = "h2" }), nil},
		{": service a listens there", "", tcp, tcp, nil},
		{"service a listens there", "", everywhere, with(everywhere, func(l *Listener) { l.V6Only, l.ServerName = true, "x.test" }), nil},
		{"another From", "From", with(tcp, func(l *Listener) { l.ServerName = "x.test" }), with(tcp, func(l *Listener) { l.From = "10.0.0.0/8" }), nil},
		{"another From", "From", with(tcp, func(l *Listener) { l.From = "10.0.0.0/8" }), with(tcp, func(l *Listener) { l.Protocol = "h2" }), nil},
		{"service a listens there", "", with(tcp, func(l *Listener) { l.From = "10.0.0.0/8+::1/128" }),
			with(tcp, func(l *Listener) { l.From = "127.0.0.1/32+10.0.0.0/8" }), nil},
		{"are for tcp and udp", "", tcp, with(unix, func(l *Listener) { l.From = "10.0.0.0/8" }), nil},
		{"no '/'", "", tcp, with(tcp, func(l *Listener) { l.From = "10" }), nil},
		{"another AcceptProxy", "AcceptProxy", tcp, with(tcp, func(l *Listener) { l.ServerName = "x.test" }), func(c *ServiceConfig) { c.Access.AcceptProxy = trusted[:1] }},
		{"another ProxyOnly", "ProxyOnly", tcp, with(tcp, func(l *Listener) { l.ServerName = "x.test" }), func(c *ServiceConfig) { c.Access.ProxyOnly = true }},
		{"another Mode", "Mode", unix, with(unix, func(l *Listener) { l.Mode, l.ServerName = fs.FileMode(0o600), "x.test" }), nil},
		{"another User", "User", unix, with(unix, func(l *Listener) { l.User, l.ServerName = "0", "x.test" }), nil},
		{"another Group", "Group", unix, with(unix, func(l *Listener) { l.Group, l.ServerName = "0", "x.test" }), nil},
	} {
		a, b := named(t, "a"), named(t, "b")
		a.Listeners, b.Listeners = []Listener{tt.a}, []Listener{tt.b}
		if tt.change != nil {
			tt.change(&b)
		}
		s, err := New(Options{Engine: "portable", Workers: 1})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // with a that is new, and with one that runs
			err := s.Apply([]*ServiceConfig{&a, &b})
			all, _ := errors.AsType[ListenErrors](err)
			if len(all) == 0 || all[len(all)-1].Service != "b" || !strings.Contains(all[len(all)-1].Error(), tt.what) {
				t.Errorf("%s: %v", tt.what, err)
			}
			var differs *SharingError
			if errors.As(err, &differs) != (tt.field != "") || tt.field != "" && (differs.Other != "a" || differs.Field != tt.field) {
				t.Errorf("%s: %v", tt.what, err)
			}
			if tt.a == everywhere {
				break // others have the port on one address
			}
			if err := s.Apply([]*ServiceConfig{&a}); err != nil {
				t.Errorf("%s: %v", tt.what, err)
			}
		}
		s.Close()
	}
}

// TestPrefixesInAnyOrder are the same to services that share an address.
func TestPrefixesInAnyOrder(t *testing.T) {
	t.Parallel()
	l := Listener{Network: "tcp", Addr: ownPorts(t, 1)[0]}
	x, y := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")
	a, b := namedAt(t, "a", l, "a.test"), namedAt(t, "b", l, "b.test")
	a.Access.AcceptProxy, b.Access.AcceptProxy = []netip.Prefix{x, y}, []netip.Prefix{y, x}
	s := startServer(t, Options{Engine: "portable", Workers: 1}, a, b)
	wantNames(t, boundAt(t, s), "a.test a", "b.test b")
}

// TestDatagramsHaveNoServerName, so no listener of them can have one.
func TestDatagramsHaveNoServerName(t *testing.T) {
	t.Parallel()
	c := namedUDP(t, "u", UDPConfig{Replies: 1})
	c.Listeners = []Listener{{Network: "udp", Addr: loopback.Addr, ServerName: "a.test"}}
	if s, err := newServer(Options{Engine: "portable"}, c); err == nil || !strings.Contains(err.Error(), "datagrams have no server name") {
		t.Errorf("%v", err)
		s.Close()
	}
}

// TestSharedSocketFileIsMadeAnew once it is gone, for all who share it.
func TestSharedSocketFileIsMadeAnew(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("files of sockets are not looked at there")
	}
	eachEngine(t, func(t *testing.T, engine string) {
		l := Listener{Network: "unix", Path: filepath.Join(t.TempDir(), "s")}
		a, b := namedAt(t, "a", l, "a.test"), namedAt(t, "b", l, "b.test")
		s := startServer(t, Options{Engine: engine, Workers: 1})
		services := []*ServiceConfig{&a, &b}
		for range 2 {
			if err := s.Apply(services); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(l.Path); err != nil {
				t.Error(err)
			}
			wantNames(t, boundAt(t, s), "a.test a", "b.test b")
			if err := os.Remove(l.Path); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestCostOfSharing, counted in allocations: four times as many services at one address cost about four times as much.
func TestCostOfSharing(t *testing.T) { // not parallel: it counts allocations
	pool := service(t).Pool
	cost := func(n int) uint64 {
		s, err := New(Options{Engine: "portable", Workers: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		services := make([]ServiceConfig, n)
		l := Listener{Network: "tcp", Addr: ownPorts(t, 1)[0]}
		for i := range services {
			l.ServerName = fmt.Sprint("n", i, ".test")
			services[i] = ServiceConfig{Name: fmt.Sprint(i), Pool: pool, ConnectTimeout: time.Second, Listeners: []Listener{l}}
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		apply(t, s, services...)
		apply(t, s, services...)
		runtime.ReadMemStats(&after)
		wantNames(t, boundAt(t, s), "n1.test 1", fmt.Sprintf("n%d.test %d", n-1, n-1))
		return after.Mallocs - before.Mallocs
	}
	few, many := cost(500), cost(2000)
	if many > 6*few {
		t.Errorf("%d allocations for 500 services, %d for 2000", few, many)
	}
}
