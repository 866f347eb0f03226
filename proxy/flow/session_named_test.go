package flow

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"usher/proxy/proxyheader"
)

var (
	peer1, peer2     = netip.MustParseAddrPort("203.0.113.1:1"), netip.MustParseAddrPort("203.0.113.2:2")
	client1, client2 = netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("[2001:db8::2]:2000")
	asked            = netip.MustParseAddrPort("198.51.100.9:53")
)

// trusting has peers name clients.
func trusting(c *ServiceConfig) {
	c.Access.AcceptProxy = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
}

// naming returns a datagram that names a client.
func naming(client netip.AddrPort, payload string) string {
	to := asked
	if client.Addr().Is6() {
		to = netip.MustParseAddrPort("[2001:db8::9]:53")
	}
	return string(proxyheader.AppendV2(nil, &proxyheader.Header{Source: client, Destination: to, Datagram: true})) + payload
}

// TestPeersNameClients has datagrams come by, each answered unless it says so.
func TestPeersNameClients(t *testing.T) {
	t.Parallel()
	local := string(proxyheader.AppendV2(nil, &proxyheader.Header{Local: true}))
	stream := string(proxyheader.AppendV2(nil, &proxyheader.Header{Source: client1, Destination: asked}))
	unspecified := strings.Replace(local, "\x20", "\x21", 1)
	type step struct {
		from    netip.AddrPort
		payload string
		client  netip.AddrPort // invalid: BadProxyHeader
		rest    string         // that is passed on
		isNew   bool
		isOwed  bool // not answered
	}
	bad := func(payload string) step { return step{peer1, payload, netip.AddrPort{}, "", false, false} }
	for _, tt := range []struct {
		name  string
		steps []step
		live  int
	}{
		{"first alone", []step{{peer1, naming(client1, "a"), client1, "a", true, false}, {peer1, "b", client1, "b", false, false}}, 1},
		{"every one", []step{{peer1, naming(client1, "a"), client1, "a", true, false}, {peer1, naming(client1, "b"), client1, "b", false, false}}, 1},
		{"another client", []step{{peer1, naming(client1, "a"), client1, "a", true, false}, {peer1, naming(client2, "b"), client2, "b", true, false},
			{peer1, "c", client2, "c", false, false}, {peer1, naming(client1, "d"), client1, "d", true, false}}, 1},
		{"another client while one is owed", []step{{peer1, naming(client1, "a"), client1, "a", true, true}, {peer1, naming(client2, "b"), client2, "b", true, false},
			{peer1, naming(client1, "c"), client1, "c", false, false}}, 1},
		{"another peer", []step{{peer1, naming(client1, "a"), client1, "a", true, false}, {peer2, naming(client1, "b"), client1, "b", false, false},
			{peer2, "c", client1, "c", false, false}, bad("d")}, 1},
		{"the client itself", []step{{peer1, naming(client1, "a"), client1, "a", true, false}, {client1, "b", client1, "b", true, false}}, 2},
		{"header alone", []step{{peer1, naming(client1, ""), client1, "", true, false}}, 1},
		{"empty", []step{{peer1, naming(client1, "a"), client1, "a", true, false}, {peer1, "", client1, "", false, false}}, 1},
		{"two headers", []step{{peer1, naming(client1, naming(client2, "a")), client1, naming(client2, "a"), true, false}}, 1},
		{"LOCAL", []step{{peer1, local + "a", peer1, "a", true, false}, {peer1, "b", peer1, "b", false, false}}, 1},
		{"no addresses", []step{{peer1, unspecified + "a", peer1, "a", true, false}}, 1},
		{"of a stream", []step{{peer1, stream + "a", client1, "a", true, false}}, 1},
		{"none", []step{bad("a"), bad("")}, 0},
		{"version 1", []step{bad("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\na")}, 0},
		{"cut", []step{bad(naming(client1, "")[:20])}, 0},
		{"wrong later", []step{{peer1, naming(client1, "a"), client1, "a", true, false}, bad(naming(client1, "")[:20]), {peer1, "b", client1, "b", false, false}}, 1},
		{"like the beginning of one", []step{{peer1, naming(client1, "a"), client1, "a", true, false}, {peer1, "\r\n", client1, "\r\n", false, false}}, 1},
		{"not trusted", []step{{client2, naming(client1, "a"), client2, naming(client1, "a"), true, false}}, 1},
	} {
		d := newDoorstep(t, nil, trusting)
		for i, s := range tt.steps {
			now := time.Duration(i) * time.Second
			in := &Arrival{Peer: s.from, Payload: []byte(s.payload)}
			x, do := d.arrive(in, now)
			if x == nil {
				if s.client.IsValid() || do.Outcome != BadProxyHeader {
					t.Errorf("%s: datagram %d: %v", tt.name, i, do.Outcome)
				}
				continue
			}
			rest := s.payload[in.Skip:]
			if x.Client != s.client || rest != s.rest || (do.Do == Open) != s.isNew || x.Sender() != s.from {
				t.Errorf("%s: datagram %d is of %v by %v: %q, %+v", tt.name, i, x.Client, x.Sender(), rest, do)
			}
			for r := range d.m.Rows() {
				if r.ID == x.ID && r.Key.Client() != s.client {
					t.Errorf("%s: the row is of %v", tt.name, r.Key.Client())
				}
			}
			if !s.isOwed {
				d.m.Replied(x, 1, now)
			}
		}
		if n := d.m.Len(); n != tt.live {
			t.Errorf("%s: %d sessions, want %d", tt.name, n, tt.live)
		}
		if d.m.Stop(time.Hour); d.m.HasNamed() {
			t.Errorf("%s: clients are known that have no session", tt.name)
		}
	}
}

// TestPeerOfRefusedClient: what a peer sends without a header after it has named a client that is refused is not of the client
// before, whose session goes on while a reply to it is due.
func TestPeerOfRefusedClient(t *testing.T) {
	t.Parallel()
	d := newDoorstep(t, nil, func(c *ServiceConfig) {
		trusting(c)
		c.Access.Deny = []netip.Prefix{netip.PrefixFrom(client2.Addr(), 128)}
	})
	x, _ := d.from(peer1.String(), naming(client1, "a"), 0)
	if y, do := d.from(peer1.String(), naming(client2, "b"), 1); y != nil || do.Outcome != Denied {
		t.Errorf("a client that is refused: %+v", do)
	}
	if y, do := d.from(peer1.String(), "c", 2); y != nil || do.Outcome != BadProxyHeader {
		t.Errorf("what the refused client says next: %+v", do)
	}
	if y, do := d.from(peer1.String(), naming(client1, "d"), 3); y != x || do.Do != Send {
		t.Errorf("the client that is served: %+v", do)
	}
	if y, _ := d.from(peer1.String(), "e", 4); y != x {
		t.Error("its session is not that of what comes without a header any more")
	}
	if d.m.Stop(time.Hour); d.m.HasNamed() {
		t.Error("clients are known that have no session")
	}
}

// TestTrustIsWithdrawn: a peer that is trusted no more ends what it has begun, and begins nothing.
func TestTrustIsWithdrawn(t *testing.T) {
	t.Parallel()
	d := newDoorstep(t, nil, trusting)
	x, _ := d.from(peer1.String(), naming(client1, "a"), 0)
	d.m.Replied(x, 1, 0)
	c := *d.svc.Config()
	c.Access.AcceptProxy = nil
	d.svc.SetSettings(NewSettings(d.svc, c, nil, d.svc.Settings()))
	if y, _ := d.from(peer1.String(), naming(client1, "b"), 1); y != x {
		t.Error("the session has not gone on")
	}
	if y, do := d.from(peer1.String(), naming(client2, "c"), 2); do.Do != Open || y.Client != peer1 || y.IsNamed() {
		t.Errorf("it has named %v", y.Client)
	}
}

// TestNamedSessionsAreSaved with who has named them, and the backend is told the same.
func TestNamedSessionsAreSaved(t *testing.T) {
	t.Parallel()
	d := newDoorstep(t, nil, trusting)
	x, _ := d.from(peer1.String(), string(proxyheader.AppendV2(nil, &proxyheader.Header{
		Source: client1, Destination: asked, Datagram: true, TLVs: []byte{0xe0, 0, 1, 'x'},
	})), 0)
	h, _, err := proxyheader.Parse(d.m.AppendHeader(nil, x))
	if err != nil || h.Source != client1 || h.Destination != asked || !bytes.Equal(h.TLVs, []byte{0xe0, 0, 1, 'x'}) {
		t.Errorf("the backend is told %+v, %v", h, err)
	}
	var n Numbers
	st := d.m.Save(x, &n)
	if err := st.Check(Limits{len(n.Settings.All), len(n.Backends.All), len(n.Bindings.All)}); err != nil {
		t.Fatal(err)
	}
	next := sessionsOf(d.m.admission, func(*Session) {})
	y, err := next.Restore(&st, &Refs{n.Settings.All, n.Backends.All, n.Bindings.All, d.m.admission, 0, nil})
	if err != nil {
		t.Fatal(err)
	}
	in := &Arrival{Peer: peer1, Local: x.Local, Payload: []byte("b")}
	if z, do := next.Route(d.at, in, time.Second); z != y || do.Do != Send || y.Sender() != peer1 || y.ent.Key() != x.ent.Key() {
		t.Errorf("a datagram of the peer: %+v", do)
	}
	if _, err := next.Restore(&st, &Refs{n.Settings.All, n.Backends.All, n.Bindings.All, d.m.admission, 0, nil}); err == nil {
		t.Error("two clients were named last")
	}
}

// FuzzArrivals has any datagrams come from two peers and a client. The sessions are those that
// are listed, by a simple reading of the headers.
func FuzzArrivals(f *testing.F) {
	f.Add([]byte("\x00\x05hello"), true)
	f.Add([]byte("\x00"+string(rune(len(naming(client1, "x"))))+naming(client1, "x")+"\x01\x02ab\x02\x01c"), false)
	f.Fuzz(func(t *testing.T, data []byte, ops bool) {
		d := newDoorstep(t, nil, func(c *ServiceConfig) {
			trusting(c)
			c.UDP.OnePacket = ops
		})
		for now := time.Duration(0); len(data) >= 2; now += time.Second {
			from := []netip.AddrPort{peer1, peer2, client1}[data[0]%3]
			n := min(int(data[1]), len(data)-2)
			in := &Arrival{Peer: from, Payload: data[2 : 2+n]}
			x, _ := d.arrive(in, now)
			h, size, err := proxyheader.Parse(in.Payload)
			isHeader := err == nil && h.Version == 2 && from != client1
			want := from
			if isHeader && !h.Local && h.Source.IsValid() {
				want = h.Source
			}
			switch {
			case isHeader && (x == nil || x.Client != want || in.Skip != size):
				t.Fatalf("%v names %v, %d bytes are skipped of %d", from, want, in.Skip, size)
			case !isHeader && in.Skip != 0:
				t.Fatalf("%d bytes are skipped of what has no header", in.Skip)
			case from == client1 && (x == nil || x.Client != from):
				t.Fatal("a client has no session")
			}
			if x != nil && (x.Sender() != from || x.ent.State() == 0) {
				t.Fatalf("%v has sent it, and %v gets the replies", from, x.Sender())
			}
			data = data[2+n:]
		}
		if d.m.Stop(time.Hour); d.m.HasNamed() || d.m.Len() != 0 || d.m.admission.Open.Load() != 0 {
			t.Fatal("something is left")
		}
	})
}
