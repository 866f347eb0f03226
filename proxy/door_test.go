package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"usher/conntrack"
	"usher/proxy/flow"
	"usher/proxy/proxyheader"
	"usher/proxy/rules"
)

// doorRules judge clients by their address alone.
func doorRules(t testing.TB, all ...*rules.Rule) *rules.Set {
	t.Helper()
	in := &rules.Chain{Name: rules.Input, Policy: rules.Accept, Rules: all}
	set, err := rules.Compile(&rules.List{Chains: []*rules.Chain{in}}, nil, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func from(client string, target rules.Target) *rules.Rule {
	return &rules.Rule{Source: rules.Prefix{Prefix: netip.MustParsePrefix(client + "/32")}, Target: target}
}

// dialFrom connects from an address of the loopback network.
func dialFrom(t *testing.T, client, addr string) net.Conn {
	t.Helper()
	c, err := tryFrom(t, client, addr)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func tryFrom(t *testing.T, client, addr string) (net.Conn, error) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(client)}}
	c, err := d.Dial("tcp4", addr)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	} else if ln, own := net.Listen("tcp4", client+":0"); own == nil {
		ln.Close()
	} else {
		t.Skip(own) // loopback has one address on some systems
	}
	return c, err
}

// wantRefused connects from an address, and expects a reset: when it has connected, or just
// before it knows.
func wantRefused(t *testing.T, client, addr string) {
	t.Helper()
	if c, err := tryFrom(t, client, addr); err == nil && endOf(t, c) == nil {
		t.Errorf("%s is not let in, and gets a FIN", client)
	}
}

// endOf returns how a connection ends that sends nothing: nil is FIN.
func endOf(t *testing.T, c net.Conn) error {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	n, err := c.Read(make([]byte, 1))
	if n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if err == io.EOF {
		return nil
	}
	return err
}

func ended(s *Server, o Outcome) func() bool {
	return func() bool { return s.Services()[0].Ended(o) > 0 }
}

func states(s *Server) (all []conntrack.State) {
	for r := range s.Flows() {
		all = append(all, r.State)
	}
	return all
}

func TestRulesOfNewcomers(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, addr := start(t, Options{Engine: engine, Workers: 1, MaxDropped: 1, MaxConns: 2}, service(t, echo(t)))
		live := dialFrom(t, "127.0.0.2", addr)
		roundTrip(t, live)
		if err := s.SetRules(doorRules(t, from("127.0.0.2", rules.Drop), from("127.0.0.3", rules.Reject))); err != nil {
			t.Fatal(err)
		}
		roundTrip(t, live) // it lives
		wantRefused(t, "127.0.0.3", addr)
		held := dialFrom(t, "127.0.0.2", addr)
		eventually(t, "it is held", func() bool { return s.Dropped() == 1 })
		if err := endOf(t, dialFrom(t, "127.0.0.2", addr)); err != nil {
			t.Errorf("one more than may be held gets %v", err)
		}
		// The server is full, and the one that is held makes room.
		roundTrip(t, dialFrom(t, "127.0.0.1", addr))
		if err := endOf(t, held); err != nil {
			t.Errorf("who was held gets %v", err)
		}
		eventually(t, "nobody is held", func() bool { return s.Dropped() == 0 })
		svc := s.Services()[0]
		if svc.Ended(flow.Denied) != 3 || svc.Accepted() != 5 {
			t.Errorf("%d denied of %d", svc.Ended(flow.Denied), svc.Accepted())
		}
		if rule := counted(s.Rules(), 1); rule.Flows.Load() != 1 {
			t.Errorf("%d flows at the second rule", rule.Flows.Load())
		}
	})
}

func counted(set *rules.Set, rule int) *rules.Counter {
	_, all := set.Counters(0)
	return all[rule]
}

// TestDroppedClients: they are held for so long, or until they or the server go.
func TestDroppedClients(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		for _, tt := range []struct {
			name    string
			timeout time.Duration
			end     func(s *Server, c net.Conn)
		}{
			{"time", 100 * time.Millisecond, func(*Server, net.Conn) {}},
			{"FIN", time.Hour, func(_ *Server, c net.Conn) { c.(*net.TCPConn).CloseWrite() }},
			{"reset", time.Hour, func(_ *Server, c net.Conn) { reset(c) }},
			{"bytes and FIN", time.Hour, func(_ *Server, c net.Conn) { c.Write(make([]byte, 1000)); c.(*net.TCPConn).CloseWrite() }},
			{"shutdown", time.Hour, func(s *Server, _ net.Conn) { _ = s.Shutdown(context.Background()) }},
		} {
			s, addr := start(t, Options{Engine: engine, Workers: 1, DropTimeout: tt.timeout}, service(t, echo(t)))
			if err := s.SetRules(doorRules(t, from("127.0.0.1", rules.Drop))); err != nil {
				t.Fatal(err)
			}
			c := dial(t, addr)
			eventually(t, "it is dropped", ended(s, flow.Denied))
			tt.end(s, c)
			eventually(t, tt.name+" ends it", func() bool { return s.Open() == 0 && s.Dropped() == 0 })
			if n := s.Services()[0].Ended(flow.Denied); n != 1 {
				t.Errorf("%s: it was denied %d times", tt.name, n)
			}
		}
	})
}

func TestProxyHeaders(t *testing.T) {
	t.Parallel()
	client := netip.MustParseAddrPort("192.0.2.7:70")
	head := proxyheader.Header{Source: client, Destination: netip.MustParseAddrPort("192.0.2.80:443"), TLVs: []byte("\xe0\x00\x01x")}
	v1, v2 := proxyheader.AppendV1(nil, &head), proxyheader.AppendV2(nil, &head)
	eachEngine(t, func(t *testing.T, engine string) {
		c := service(t, echo(t))
		c.Access.AcceptProxy = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
		s, addr := start(t, Options{Engine: engine, Workers: 1}, c)
		for name, write := range map[string]func(net.Conn){
			"v1, and bytes with it": func(c net.Conn) { c.Write(append(v1[:len(v1):len(v1)], 'a')) },
			"v2, and bytes later":   func(c net.Conn) { c.Write(v2); c.Write([]byte{'a'}) },
			"v2 by bytes": func(c net.Conn) {
				for i := range v2 {
					c.Write(v2[i : i+1])
				}
				c.Write([]byte{'a'})
			},
		} {
			c := dial(t, addr)
			write(c)
			var b [1]byte
			if _, err := io.ReadFull(c, b[:]); err != nil || b[0] != 'a' {
				t.Errorf("%s: %q, %v", name, b, err)
			}
			roundTrip(t, c)
			// The second byte may be back before it is counted.
			eventually(t, name+": its row", func() bool {
				var rows []Row
				for r := range s.Flows() {
					rows = append(rows, r)
				}
				return len(rows) == 1 && rows[0].Key.Client() == client && rows[0].Up == 2
			})
			c.Close()
			eventually(t, "it ends", func() bool { return s.Open() == 0 })
		}
		silent := dial(t, addr)
		eventually(t, "it greets", func() bool { return len(states(s)) == 1 && states(s)[0] == conntrack.Greeting })
		silent.Close()
		eventually(t, "it ends", ended(s, flow.BadProxyHeader))
		roundTrip(t, dialFrom(t, "127.0.0.2", addr)) // no proxy
	})
}

// TestInterfaceRules: a connection tells by which interface it came, where that is known at all.
func TestInterfaceRules(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, addr := start(t, Options{Engine: engine, Workers: 1}, service(t, echo(t)))
		reject := func(name string) *rules.Rule {
			return &rules.Rule{Interface: rules.Interface{Name: name}, Target: rules.Reject}
		}
		err := s.SetRules(doorRules(t, reject("none0")))
		if known := knowsInterfaces(); known != nil {
			if err == nil {
				t.Error("rules are taken that nobody can judge")
			}
			t.Skip(known)
		}
		roundTrip(t, dial(t, addr))
		if err := s.SetRules(doorRules(t, reject("l+"))); err != nil {
			t.Fatal(err)
		}
		wantRefused(t, "127.0.0.1", addr)
		eventually(t, "it is counted", ended(s, flow.Denied))
	})
}

// TestSilentClients: what has to be said first has its time.
func TestSilentClients(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		c := service(t, echo(t))
		c.Access = flow.AccessConfig{AcceptProxy: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, HeaderTimeout: 50 * time.Millisecond}
		named := service(t, echo(t))
		named.Access.HelloTimeout, named.Listeners = 50*time.Millisecond, []Listener{loopback}
		named.Listeners[0].ServerName = "a.test"
		for o, c := range map[Outcome]ServiceConfig{flow.BadProxyHeader: c, flow.NoServerName: named} {
			s, _ := start(t, Options{Engine: engine, Workers: 1}, c)
			client := dial(t, s.Services()[0].Config().Listeners[0].Addr.String())
			if endOf(t, client) == nil {
				t.Errorf("%v: it gets a FIN", o)
			}
			eventually(t, "it is counted", ended(s, o))
		}
	})
}

// TestServerNames: a ClientHello decides, and reaches the backend as it was sent.
func TestServerNames(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		got := make(chan string, 1)
		var all []ServiceConfig
		for _, name := range []string{"a.test", "b.test"} {
			c := service(t, serve(t, func(c *net.TCPConn) {
				var b [1 << 10]byte
				n, _ := io.ReadFull(c, b[:])
				got <- name + string(b[:n])
			}))
			c.Name = name
			all = append(all, c)
		}
		s, err := newServer(Options{Engine: engine, Workers: 1}, all...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		services := s.Services()
		at := services[0].Config().Listeners[0].Addr
		for _, b := range s.bindings {
			if b.local == at {
				b.Assign(flow.Claim{Service: services[0], ServerName: "a.test"}, flow.Claim{Service: services[1], ServerName: "b.test"})
			}
		}
		s.Start()
		addr := at.String()
		hello := clientHello("b.test")
		for _, piece := range []int{len(hello), 40} {
			c := dial(t, addr)
			for rest := hello; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
				c.Write(rest[:min(piece, len(rest))])
			}
			c.Write(bytes.Repeat([]byte{'x'}, 1<<10))
			if want := "b.test" + string(append(hello, bytes.Repeat([]byte{'x'}, 1<<10)...))[:1<<10]; <-got != want {
				t.Error("another backend, or other bytes")
			}
			c.Close()
		}
		c := dial(t, addr)
		c.Write(clientHello("c.test"))
		if endOf(t, c) == nil {
			t.Error("a name that nobody has gets a FIN")
		}
		eventually(t, "it is counted", ended(s, flow.NoServerName))
		eventually(t, "all end", func() bool { return s.Open() == 0 })
		if a, b := services[0].Accepted(), services[1].Accepted(); a != 1 || b != 2 {
			t.Errorf("%d and %d clients", a, b)
		}
	})
}

// helloConn keeps what a TLS client sends first.
type helloConn struct {
	net.Conn
	sent []byte
}

func (c *helloConn) Write(p []byte) (int, error) {
	c.sent = append(c.sent, p...)
	return 0, io.ErrClosedPipe
}

func clientHello(name string) []byte {
	c := new(helloConn)
	_ = tls.Client(c, &tls.Config{ServerName: name}).Handshake()
	return c.sent
}

// TestSendsProxyHeader: a backend gets it first, with what the client has sent or without.
func TestSendsProxyHeader(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		for _, send := range []flow.SendProxy{{Version: 1}, {Version: 2}, {Version: 2, ID: true}} {
			speaks := make(chan string, 1)
			c := service(t, serve(t, func(c *net.TCPConn) {
				var got []byte
				for b := make([]byte, 1); ; got = append(got, b...) {
					if h, n, err := proxyheader.Parse(got); err == nil && n == len(got) {
						speaks <- h.Source.String()
						break
					}
					if _, err := c.Read(b); err != nil {
						speaks <- err.Error()
						return
					}
				}
				c.Write([]byte{'!'})
				_, _ = io.Copy(c, c)
			}))
			c.SendProxy = send
			s, addr := start(t, Options{Engine: engine, Workers: 1}, c)
			for _, first := range []string{"", "x"} {
				client := dial(t, addr)
				if _, err := client.Write([]byte(first)); err != nil {
					t.Fatal(err)
				}
				if got := <-speaks; got != client.LocalAddr().String() {
					t.Errorf("%+v: the backend hears of %s, not of %v", send, got, client.LocalAddr())
				}
				b := make([]byte, 1+len(first))
				if _, err := io.ReadFull(client, b); err != nil || string(b) != "!"+first {
					t.Errorf("%+v: %q, %v", send, b, err)
				}
				client.CloseWrite()
				if err := endOf(t, client); err != nil {
					t.Errorf("%+v: %v", send, err)
				}
			}
			eventually(t, "all end", func() bool { return s.Open() == 0 })
			if up, down := s.Services()[0].Bytes(); up != 1 || down != 3 {
				t.Errorf("%+v: %d bytes up, %d down", send, up, down)
			}
		}
	})
}
