package proxy

import (
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"usher/proxy/flow"
	"usher/proxy/limit"
	"usher/proxy/proxyheader"
	"usher/proxy/rules"
)

func setRules(t testing.TB, s *Server, all ...*rules.Rule) *rules.Set {
	t.Helper()
	set := doorRules(t, all...)
	if err := s.SetRules(set); err != nil {
		t.Fatal(err)
	}
	return set
}

// fromLoopback is a condition that all clients here meet.
var fromLoopback = rules.Prefix{Prefix: netip.MustParsePrefix("127.0.0.0/8")}

// TestRulesOfDatagrams has rules come while sessions live: those go on, and new ones are
// ignored.
func TestRulesOfDatagrams(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, svc, at := startUDP(t, engine, udpService(t, UDPConfig{}, udpEcho(t)))
		before, after := dialUDP(t, at), dialUDP(t, at)
		ask(t, before, "hello")
		for _, target := range []rules.Target{rules.Drop, rules.Reject} {
			set := setRules(t, s, &rules.Rule{Source: fromLoopback, Protocol: rules.UDP, Target: target})
			denied, dropped := svc.Ended(flow.Denied), svc.Dropped(flow.DropRefused)
			say(t, after, "12345")
			say(t, after, "")
			eventually(t, "both are denied", func() bool { return svc.Ended(flow.Denied) == denied+2 })
			eventually(t, "both are dropped", func() bool { return svc.Dropped(flow.DropRefused) == dropped+2 })
			if got := ask(t, before, "still"); got != "still" {
				t.Errorf("the session of before got %q", got)
			}
			if c := counted(set, 0); c.Datagrams.Load() != 2 || c.Bytes.Load() != 5 || c.Flows.Load() != 0 {
				t.Errorf("%v: %d datagrams of %d bytes, %d flows", target, c.Datagrams.Load(), c.Bytes.Load(), c.Flows.Load())
			}
		}
		set := setRules(t, s, &rules.Rule{Source: fromLoopback, Target: rules.Accept})
		if got := ask(t, after, "12345"); got != "12345" {
			t.Errorf("got %q", got)
		}
		ask(t, after, "12345")
		if n := s.Open(); n != 2 {
			t.Errorf("%d flows, want 2", n)
		}
		s.Close()
		if c := counted(set, 0); c.Datagrams.Load() != 1 || c.Bytes.Load() != 20 {
			t.Errorf("the rule that let it in: %d datagrams, %d bytes", c.Datagrams.Load(), c.Bytes.Load())
		}
	})
}

// TestInterfaceOfDatagrams has rules ask for it while the server runs.
func TestInterfaceOfDatagrams(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("interfaces are known on Linux alone")
	}
	eachEngine(t, func(t *testing.T, engine string) {
		for _, listen := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::]:0", "[::1]:0"} {
			config := udpService(t, UDPConfig{}, udpEcho(t))
			config.Listeners[0].Addr = netip.MustParseAddrPort(listen)
			s, err := newServer(Options{Engine: engine, Workers: 2}, config)
			if err != nil {
				t.Logf("%s: %v", listen, err)
				continue
			}
			t.Cleanup(s.Close)
			s.Start()
			svc := s.Services()[0]
			at := svc.Config().Listeners[0].Addr
			if at.Addr().IsUnspecified() {
				at = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), at.Port())
			}
			ask(t, dialUDP(t, at), "before")
			setRules(t, s, &rules.Rule{Interface: rules.Interface{Name: "lo"}, Target: rules.Drop})
			say(t, dialUDP(t, at), "denied")
			eventually(t, "it is denied", func() bool { return svc.Ended(flow.Denied) == 1 })
			setRules(t, s, &rules.Rule{Interface: rules.Interface{Name: "lo", Not: true}, Target: rules.Drop})
			if got := ask(t, dialUDP(t, at), "hello"); got != "hello" {
				t.Errorf("%s: got %q", listen, got)
			}
		}
	})
}

// TestRateOfDatagrams bounds how many sessions a client begins, and says it once in the log.
func TestRateOfDatagrams(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		core, lines := observer.New(zap.InfoLevel)
		config := udpService(t, UDPConfig{}, udpEcho(t))
		config.Access.ClientRate = limit.Rate{Events: 1, Per: 24 * time.Hour, Burst: 2}
		s, _ := start(t, Options{Engine: engine, Workers: 2, AccessLog: true, Logger: zap.New(core)}, config)
		svc := s.Services()[0]
		at := svc.Config().Listeners[0].Addr
		for range 2 {
			ask(t, dialUDP(t, at), "hello")
		}
		began := time.Now()
		c := dialUDP(t, at)
		const refused = 20
		for i := range refused {
			say(t, c, "hello")
			eventually(t, "it is refused", func() bool { return svc.Ended(flow.RateLimited) == uint64(i+1) })
		}
		most := int(time.Since(began)/time.Second) + 1
		s.Close()
		n := lines.FilterField(zap.Stringer("end", flow.RateLimited)).Len()
		if n < 1 || n > most {
			t.Errorf("%d lines of %d datagrams, want up to %d", n, refused, most)
		}
	})
}

// ofLoopback is who may name clients here.
var ofLoopback = flow.AccessConfig{AcceptProxy: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

// TestNamedClients has one peer speak for clients.
func TestNamedClients(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		told := make(chan proxyheader.Header, 10)
		config := udpService(t, UDPConfig{}, toldUDP(t, told))
		config.Access, config.SendProxy = ofLoopback, flow.SendProxy{Version: 2, Every: true}
		s, svc, at := startUDP(t, engine, config)
		c := dialUDP(t, at)
		say(t, c, "nobody")
		eventually(t, "it is refused", func() bool { return svc.Ended(flow.BadProxyHeader) == 1 })
		for i, name := range []string{"192.0.2.1:1", "192.0.2.2:2", "192.0.2.2:2"} {
			client, asked := netip.MustParseAddrPort(name), netip.MustParseAddrPort("198.51.100.9:53")
			header := proxyheader.AppendV2(nil, &proxyheader.Header{Source: client, Destination: asked, Datagram: true})
			for _, text := range []string{string(header) + "hello", "again", string(header), ""} {
				want := "h" + strings.TrimPrefix(text, string(header))
				if got := ask(t, c, text); got != want {
					t.Errorf("%s: got %q, want %q", name, got, want)
				}
				if h := <-told; h.Source != client || h.Destination != asked {
					t.Errorf("the backend is told of %v at %v", h.Source, h.Destination)
				}
			}
			for r := range s.Flows() {
				if r.Key.Client() != client {
					t.Errorf("a row of %v", r.Key.Client())
				}
			}
			if n := svc.Accepted(); n != uint64(min(i+1, 2)+1) {
				t.Errorf("%d sessions and one refused, want %d", n, min(i+1, 2)+1)
			}
		}
	})
}

// TestChainOfProxies has one server stand behind another, which tells it of the clients.
func TestChainOfProxies(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		for _, every := range []bool{false, true} {
			told := make(chan proxyheader.Header, 1000)
			behind := udpService(t, UDPConfig{}, toldUDP(t, told))
			behind.Access, behind.SendProxy = ofLoopback, flow.SendProxy{Version: 2, ID: true}
			_, inner, innerAt := startUDP(t, engine, behind)
			front := udpService(t, UDPConfig{}, innerAt)
			front.SendProxy = flow.SendProxy{Version: 2, Every: every, ID: true}
			_, outer, at := startUDP(t, engine, front)
			for i := range 5 {
				c := dialUDP(t, at)
				var id string
				for range 3 {
					for _, text := range []string{"hello", "", strings.Repeat("x", 999)} {
						if got := ask(t, c, text); got[1:] != text {
							t.Errorf("every %v: got %d bytes, want %d", every, len(got)-1, len(text))
						}
					}
				}
				for len(told) > 0 {
					h := <-told
					client := netip.AddrPortFrom(at.Addr(), uint16(c.LocalAddr().(*net.UDPAddr).Port))
					if h.Source != client || h.Destination != at {
						t.Errorf("every %v: the backend is told of %v at %v, want %v at %v", every, h.Source, h.Destination, client, at)
					}
					if got := string(proxyheader.UniqueID(h.TLVs)); got == "" || id != "" && got != id {
						t.Errorf("every %v: id %q after %q", every, got, id)
					} else {
						id = got
					}
				}
				if n := inner.Accepted(); n != uint64(i+1) || id == "" {
					t.Errorf("every %v: %d sessions of %d clients, the last has the id %q", every, n, i+1, id)
				}
			}
			if n := inner.Ended(flow.BadProxyHeader) + inner.Dropped(flow.DropRefused) + outer.Dropped(flow.DropRefused); n != 0 {
				t.Errorf("every %v: %d datagrams refused", every, n)
			}
		}
	})
}
