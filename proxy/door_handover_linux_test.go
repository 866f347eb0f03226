package proxy

import (
	"bytes"
	"net/netip"
	"testing"

	"usher/conntrack"
	"usher/proxy/flow"
	"usher/proxy/proxyheader"
	"usher/proxy/rules"
)

// TestFrontDoorIsHandedOver: clients of whom half a header has come, those that get no answer,
// and what limits have counted.
func TestFrontDoorIsHandedOver(t *testing.T) {
	t.Parallel()
	head := proxyheader.Header{Source: netip.MustParseAddrPort("192.0.2.7:70"), Destination: netip.MustParseAddrPort("192.0.2.80:443"), TLVs: []byte("\xe0\x00\x01x")}
	header := proxyheader.AppendV2(nil, &head)
	c := service(t, echo(t))
	c.Access = flow.AccessConfig{AcceptProxy: []netip.Prefix{netip.MustParsePrefix("127.0.0.4/31")}, MaxClientConns: 1}
	h := startHandedOver(t, c)
	if err := h.SetRules(doorRules(t, from("127.0.0.2", rules.Drop))); err != nil {
		t.Fatal(err)
	}
	half, named := dialFrom(t, "127.0.0.4", h.addr), dialFrom(t, "127.0.0.5", h.addr)
	_, _ = half.Write(header[:20])
	_, _ = named.Write(header)
	roundTrip(t, named)
	silent, live := dialFrom(t, "127.0.0.2", h.addr), dialFrom(t, "127.0.0.3", h.addr)
	roundTrip(t, live)
	eventually(t, "one greets, and one is held", func() bool {
		greets := 0
		for _, s := range states(h.Server) {
			if s == conntrack.Greeting {
				greets++
			}
		}
		return greets == 1 && h.Dropped() == 1
	})
	for range 2 {
		h.next()
	}
	roundTrip(t, live)
	roundTrip(t, named)
	wantRefused(t, "127.0.0.3", h.addr)
	named.Close()
	eventually(t, "its place is free", func() bool { return h.Open() == 3 })
	_, _ = half.Write(header[20:])
	roundTrip(t, half)
	if n := h.Dropped(); n != 1 {
		t.Errorf("%d are held", n)
	}
	silent.Close()
	live.Close()
	half.Close()
	eventually(t, "all end", func() bool { return h.Open() == 0 && h.Dropped() == 0 })
	svc := h.Services()[0]
	if svc.Ended(flow.Denied) != 1 || svc.Ended(flow.ClientLimit) != 1 || svc.Accepted() != 5 {
		t.Errorf("%d denied, %d had too many, of %d", svc.Ended(flow.Denied), svc.Ended(flow.ClientLimit), svc.Accepted())
	}
}

// TestRulesOfRestoredFlows: connlimit and counters go on for those that a restored server has.
func TestRulesOfRestoredFlows(t *testing.T) {
	t.Parallel()
	c := service(t, echo(t))
	s, addr := start(t, Options{Engine: "epoll", Workers: 1}, c)
	limited := func() *rules.Set {
		return doorRules(t, &rules.Rule{Target: rules.Reject, Matches: []rules.Match{&rules.Connlimit{N: 1, Bits: 32, Above: true}}},
			&rules.Rule{Target: rules.Accept})
	}
	if err := s.SetRules(limited()); err != nil {
		t.Fatal(err)
	}
	live := dial(t, addr)
	roundTrip(t, live)
	st, err := s.Suspend()
	if err != nil {
		t.Fatal(err)
	}
	next, err := Restore(Options{}, st, []*ServiceConfig{func() *ServiceConfig { own := c; own.Pool = service(t).Pool; return &own }()})
	if err != nil {
		t.Fatal(err)
	}
	leave(s)
	t.Cleanup(next.Close)
	if err := next.SetRules(limited()); err != nil {
		t.Fatal(err)
	}
	next.Start()
	roundTrip(t, live)
	wantRefused(t, "127.0.0.1", addr)
	live.Close()
	eventually(t, "the first one ends", func() bool { return next.Open() == 0 })
	if n := counted(next.Rules(), 1).Bytes.Load(); n != 4 {
		t.Errorf("the rule counts %d bytes", n)
	}
	roundTrip(t, dial(t, addr))
}

// TestNamedSessionsAreHandedOver: what their peer sends is theirs still, without a header.
func TestNamedSessionsAreHandedOver(t *testing.T) {
	t.Parallel()
	told := make(chan proxyheader.Header, 10)
	c := udpService(t, UDPConfig{}, toldUDP(t, told))
	c.Access, c.SendProxy = ofLoopback, flow.SendProxy{Version: 2, Every: true, ID: true}
	h := startHandedOver(t, c)
	peer := dialUDP(t, h.Services()[0].Config().Listeners[0].Addr)
	named := proxyheader.Header{Source: netip.MustParseAddrPort("192.0.2.7:70"), Destination: netip.MustParseAddrPort("192.0.2.80:53"), Datagram: true}
	ask(t, peer, string(proxyheader.AppendV2(nil, &named))+"hello")
	first := <-told
	for range 3 {
		h.next()
		if got := ask(t, peer, "again"); got != "hagain" {
			t.Errorf("got %q", got)
		}
		if next := <-told; next.Source != named.Source || next.Destination != named.Destination || !bytes.Equal(next.TLVs, first.TLVs) {
			t.Errorf("the backend is told %+v, want %+v", next, first)
		}
	}
	if n := h.Services()[0].Accepted(); n != 1 {
		t.Errorf("%d sessions", n)
	}
}
