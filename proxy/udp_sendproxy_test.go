package proxy

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"usher/balancer"
	"usher/proxy/flow"
	"usher/proxy/proxyheader"
)

// headerV4 is the length of the header that names clients of IPv4.
const headerV4 = 16 + 12

// toldUDP is a backend that takes headers as a server behind a proxy does. It answers with what
// follows the header, after one byte: h if there was one.
func toldUDP(t testing.TB, told chan<- proxyheader.Header) netip.AddrPort {
	_, at := udpBackend(t, func(c *net.UDPConn, p []byte, from netip.AddrPort) {
		answer := append([]byte("-"), p...)
		if proxyheader.IsVersion2(p) {
			h, n, err := proxyheader.Parse(p)
			if err != nil {
				t.Errorf("header of %d bytes: %v", len(p), err)
				return
			}
			h.TLVs = bytes.Clone(h.TLVs)
			told <- h
			answer = append([]byte("h"), p[n:]...)
		}
		_, _ = c.WriteToUDPAddrPort(answer[:min(len(answer), 1000)], from)
	})
	return at
}

// TestBackendsAreToldOfClients asks twice, and then with what looks like a header itself.
func TestBackendsAreToldOfClients(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		for _, every := range []bool{false, true} {
			told := make(chan proxyheader.Header, 10)
			config := udpService(t, UDPConfig{}, toldUDP(t, told))
			config.SendProxy = flow.SendProxy{Version: 2, Every: every}
			s, _, at := startUDP(t, engine, config)
			c := dialUDP(t, at)
			began := time.Now()
			forged := string(proxyheader.AppendV2(nil, &proxyheader.Header{Source: netip.MustParseAddrPort("192.0.2.1:1"), Destination: at, Datagram: true}))
			for i, text := range []string{"first", "second", "", forged} {
				has, want := ask(t, c, text)[:1], "h"
				if i > 0 && !every && text != forged {
					want = "-"
				}
				if has != want && (want == "h" || time.Since(began) < promisedHeader) {
					t.Errorf("every %v: datagram %d came with %q, want %q", every, i, has, want)
				}
				if has != "h" {
					continue
				}
				h := <-told
				if h.Source.Port() != c.LocalAddr().(*net.UDPAddr).AddrPort().Port() || h.Destination != at || !h.Datagram || len(h.TLVs) > 0 {
					t.Errorf("every %v: datagram %d is of %+v", every, i, h)
				}
			}
			up := uint64(len("first") + len("second") + len(forged))
			for r := range s.Flows() {
				if r.Up != up || r.Down != up+4 {
					t.Errorf("every %v: %d bytes up and %d down, want %d and %d", every, r.Up, r.Down, up, up+4)
				}
			}
		}
	})
}

// TestNextBackendIsTold has what a dead backend was sent go to another one: with its header.
func TestNextBackendIsTold(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		for _, every := range []bool{false, true} {
			told := make(chan proxyheader.Header, 200)
			pool, err := balancer.NewPool(balancer.Options{Scheduler: "fo"})
			if err != nil {
				t.Fatal(err)
			}
			pool.Update([]balancer.Spec{
				{Endpoint: balancer.Endpoint{Addr: deadUDP(t)}, Weight: 2, Check: balancer.Up},
				{Endpoint: balancer.Endpoint{Addr: toldUDP(t, told)}, Weight: 1, Check: balancer.Up},
			}, 0)
			config := udpService(t, UDPConfig{})
			config.Pool, config.SendProxy = pool, flow.SendProxy{Version: 2, Every: every}
			_, svc, at := startUDP(t, engine, config)
			c := dialUDP(t, at)
			const burst = 50
			for i := range burst {
				say(t, c, strings.Repeat("x", 10+i%3))
			}
			heads := 0
			for i := range burst {
				got := heard(t, c)
				if len(got) != 1+10+i%3 {
					t.Fatalf("every %v: datagram %d came as %q", every, i, got)
				}
				if got[0] == 'h' {
					heads++
				} else if i == 0 || every {
					t.Errorf("every %v: datagram %d came without a header", every, i)
				}
			}
			if n := svc.Dropped(flow.DropRefused); n != 0 || heads == 0 {
				t.Errorf("every %v: %d datagrams dropped, %d headers", every, n, heads)
			}
		}
	})
}

// TestLargestDatagramWithHeader has room for one byte more than there is.
func TestLargestDatagramWithHeader(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		told := make(chan proxyheader.Header, 10)
		config := udpService(t, UDPConfig{}, toldUDP(t, told))
		config.SendProxy = flow.SendProxy{Version: 2}
		_, svc, at := startUDP(t, engine, config)
		c := dialUDP(t, at)
		for i, n := range []int{65507 - headerV4 + 1, 65507} {
			say(t, c, strings.Repeat("x", n))
			eventually(t, "it is dropped", func() bool { return svc.Dropped(flow.DropOversized) == uint64(i+1) })
		}
		// The header of those was lost with them.
		if got := ask(t, c, strings.Repeat("x", 65507-headerV4)); got[0] != 'h' {
			t.Errorf("the first datagram to arrive came without a header")
		}
		h := <-told
		if h.Source != netip.AddrPortFrom(at.Addr(), uint16(c.LocalAddr().(*net.UDPAddr).Port)) {
			t.Errorf("it was of %v", h.Source)
		}
	})
}
