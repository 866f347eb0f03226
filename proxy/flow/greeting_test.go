package flow

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"usher/balancer"
	"usher/conntrack"
	"usher/proxy/proxyheader"
	"usher/proxy/rules"
)

// helloConn keeps what a TLS client sends first.
type helloConn struct {
	net.Conn
	sent []byte
}

func (c *helloConn) Write(p []byte) (int, error) {
	c.sent = append(c.sent, p...)
	return 0, errors.New("enough")
}

// clientHello returns the ClientHello of a client that wants a server name, if it is not
// empty, and application protocols.
func clientHello(name string, protocols ...string) []byte {
	c := new(helloConn)
	_ = tls.Client(c, &tls.Config{ServerName: name, InsecureSkipVerify: name == "", NextProtos: protocols}).Handshake()
	return c.sent
}

// greeter is a flow whose client is not known yet, with the services that it may come to.
type greeter struct {
	t        *testing.T
	a        *Admission
	door     Door
	table    *Table
	at       *Binding
	services map[string]*Service
	f        Flow
}

// newGreeter has a proxy at 10.0.0.1 connect to an address where a.test has a service, and a
// second one has what else comes, if there is one.
func newGreeter(t *testing.T, needs needs, rest bool, access AccessConfig) *greeter {
	t.Helper()
	g := &greeter{t: t, a: new(Admission), table: conntrack.New[Service, balancer.Backend](4), at: new(Binding)}
	g.door.Admission = g.a
	pool, err := balancer.NewPool(balancer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pool.Update([]balancer.Spec{{Endpoint: balancer.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.9:80")}, Weight: 1, Check: balancer.Up}}, 0)
	access.HeaderTimeout, access.HelloTimeout = 3*time.Second, 4*time.Second
	var claims []Claim
	var all []*Settings
	g.services = make(map[string]*Service)
	for _, name := range []string{"a.test", ""} {
		if name != "" || rest {
			svc := testService(ServiceConfig{Name: name, Pool: pool, ConnectTimeout: time.Second, Access: access})
			g.services[name] = svc
			claims = append(claims, Claim{Service: svc, ServerName: name})
			all = append(all, svc.Settings())
		}
	}
	g.at.Assign(claims...)
	d, err := Divide(all, 10, 0)
	if err != nil {
		t.Fatal(err)
	}
	g.a.Redivide(d, nil)
	g.a.DropTimeout = time.Minute
	g.a.MaxDropped.Store(1)
	g.begin(needs)
	return g
}

func (g *greeter) begin(needs needs) {
	g.accept()
	want := Action{Do: Peek, Until: 4 * time.Second}
	if needs&needsHeader != 0 {
		want.Until = 3 * time.Second
	}
	if got := g.f.Greet(Entrance{needs: needs}, g.at, 0); got != want {
		g.t.Errorf("%+v, want %+v", got, want)
	}
}

// accept has a flow begin.
func (g *greeter) accept() {
	from := Origin{Client: netip.MustParseAddrPort("10.0.0.1:1"), Local: netip.MustParseAddrPort("127.0.0.1:443")}
	cfg := g.at.Destination().Settings()
	if o := g.a.Place(cfg); o != Running {
		g.t.Fatal(o)
	}
	id, ent := g.table.Insert(conntrack.NewKey(conntrack.TCP, from.Client, from.Local), cfg.Service, 0)
	g.f.Begin(cfg, id, ent, &from, 0)
}

// hear has the client send in pieces, as an engine would peek at it, until there is more to do
// than to wait.
func (g *greeter) hear(sent []byte, piece int, fin bool, now time.Duration) (a Action) {
	queue := []byte(nil)
	for {
		isLast := len(sent) <= piece
		n := min(piece, len(sent))
		queue, sent = append(queue, sent[:n]...), sent[n:]
		a = g.f.Peeked(&g.door, queue, fin && isLast, now)
		for a.Do == Discard {
			MustHold(&g.f)
			queue = queue[a.Bytes:]
			g.door.Packet = rules.Packet{Client: g.f.Client, Local: g.f.Local, Protocol: rules.TCP}
			if a = g.f.Named(&g.door, g.a.Rules(), now); a.Do == Peek {
				a = g.f.Peeked(&g.door, queue, fin && isLast, now)
			}
		}
		if a.Do != Peek || isLast {
			return a
		}
	}
}

// end ends the flow, and checks that nothing of it is left.
func (g *greeter) end(o Outcome) {
	g.t.Helper()
	g.a.Settle(&g.f, o, time.Minute, g.table.Remove)
	for name, svc := range g.services {
		if svc.Active() != 0 {
			g.t.Errorf("service %q has a flow yet", name)
		}
	}
	if err := g.a.CheckInvariants(); err != nil || g.a.Dropped() != 0 {
		g.t.Error(err, g.a.Dropped())
	}
}

func TestGreetings(t *testing.T) {
	t.Parallel()
	head := proxyheader.Header{Source: netip.MustParseAddrPort("192.0.2.7:70"), Destination: netip.MustParseAddrPort("192.0.2.80:443")}
	v1, v2 := proxyheader.AppendV1(nil, &head), proxyheader.AppendV2(nil, &head)
	local := proxyheader.AppendV2(nil, &proxyheader.Header{Local: true})
	named := clientHello("a.test")
	for _, tt := range []struct {
		name    string
		needs   needs
		rest    bool // there is a service for what has no name
		sent    []byte
		fin     bool
		want    Step
		outcome Outcome
		service string // that accounts for it
		client  string
	}{
		{"v1", needsHeader, true, v1, false, Dial, Running, "", "192.0.2.7:70"},
		{"v2 and more", needsHeader, true, append(v2[:len(v2):len(v2)], "hello"...), false, Dial, Running, "", "192.0.2.7:70"},
		{"v2 and FIN", needsHeader, true, v2, true, Dial, Running, "", "192.0.2.7:70"},
		{"LOCAL", needsHeader, true, local, false, Dial, Running, "", "10.0.0.1:1"},
		{"half a header", needsHeader, true, v2[:20], false, Peek, Running, "", "10.0.0.1:1"},
		{"half a header and FIN", needsHeader, true, v2[:20], true, End, BadProxyHeader, "", "10.0.0.1:1"},
		{"FIN", needsHeader, true, nil, true, End, BadProxyHeader, "", "10.0.0.1:1"},
		{"no header", needsHeader, true, []byte("GET / HTTP/1.1\r\n"), false, End, BadProxyHeader, "", "10.0.0.1:1"},
		{"a name", needsHello, true, named, false, Dial, Running, "a.test", "10.0.0.1:1"},
		{"a name, without a rest", needsHello, false, named, false, Dial, Running, "a.test", "10.0.0.1:1"},
		{"another name", needsHello, true, clientHello("b.test"), false, Dial, Running, "", "10.0.0.1:1"},
		{"another name, without a rest", needsHello, false, clientHello("b.test"), false, End, NoServerName, "a.test", "10.0.0.1:1"},
		{"no name", needsHello, true, clientHello(""), false, Dial, Running, "", "10.0.0.1:1"},
		{"no TLS", needsHello, true, []byte("GET / HTTP/1.1\r\n"), false, Dial, Running, "", "10.0.0.1:1"},
		{"no TLS, without a rest", needsHello, false, []byte("GET / HTTP/1.1\r\n"), false, End, NoServerName, "a.test", "10.0.0.1:1"},
		{"half a hello", needsHello, true, named[:50], false, Peek, Running, "", "10.0.0.1:1"},
		{"half a hello and FIN", needsHello, true, named[:50], true, End, NoServerName, "", "10.0.0.1:1"},
		{"a header and a name", needsHeader | needsHello, true, append(v1[:len(v1):len(v1)], named...), false, Dial, Running, "a.test", "192.0.2.7:70"},
		{"a header alone", needsHeader | needsHello, true, v1, false, Peek, Running, "", "192.0.2.7:70"},
		{"a header and FIN", needsHeader | needsHello, true, v1, true, End, NoServerName, "", "192.0.2.7:70"},
	} {
		for _, piece := range []int{1, 7, 1 << 20} {
			g := newGreeter(t, tt.needs, tt.rest, AccessConfig{MaxClientConns: 1})
			a := g.hear(tt.sent, piece, tt.fin, time.Second)
			f := &g.f
			if a.Do != tt.want || a.Outcome != tt.outcome || f.Service != g.services[tt.service] || f.Client.String() != tt.client {
				t.Errorf("%s by %d bytes: %+v of %q from %v", tt.name, piece, a, f.Service.Name, f.Client)
			}
			key := conntrack.NewKey(conntrack.TCP, f.Client, f.Local)
			if f.ent.Key() != key || f.ent.Service() != f.Service || f.Service.Active() != 1 {
				t.Errorf("%s: its row is %v", tt.name, f.ent.Key())
			}
			o := tt.outcome
			switch a.Do {
			case Dial:
				MustHold(f)
				if f.accepted != time.Second || a.Until != time.Second+attemptSteps[0] {
					t.Errorf("%s: its time began at %v", tt.name, f.accepted)
				}
				if _, n := f.Service.limits.Load().flows.Enter(ClientBits{}.key(f.Client.Addr())); n != 2 {
					t.Errorf("%s: %d connections of the client are counted", tt.name, n-1)
				}
				o = Finished
			case Peek:
				MustHold(f)
				a = f.Expired(f.Deadline())
				if o = a.Outcome; a.Do != End || o != NoServerName && o != BadProxyHeader {
					t.Errorf("%s: %+v when it is late", tt.name, a)
				}
			}
			svc := f.Service
			if g.end(o); svc.Accepted() != 1 || svc.Ended(o) != 1 {
				t.Errorf("%s: %d accepted, %d ended", tt.name, svc.Accepted(), svc.Ended(o))
			}
			g.accept()
			g.f.Next(0)
			if err := f.CheckInvariants(); err != nil {
				t.Errorf("%s: the next flow in its memory: %v", tt.name, err)
			}
		}
	}
}

// TestUnknownNamesAreRecorded: the access log says which server name nobody has.
func TestUnknownNamesAreRecorded(t *testing.T) {
	t.Parallel()
	g := newGreeter(t, needsHello, false, AccessConfig{})
	g.a.Record = func(Record) {}
	a := g.hear(clientHello("b.test"), 1<<20, false, time.Second)
	if via := g.f.Via; a.Outcome != NoServerName || via == nil || via.ServerName != "b.test" {
		t.Errorf("%+v, %+v", a, via)
	}
	g.end(a.Outcome)
}

// TestNamedClientsAreJudged: rules, lists and limits are about the client, not its proxy.
func TestNamedClientsAreJudged(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		client string
		access AccessConfig
		want   Action
	}{
		{"192.0.2.1", AccessConfig{}, Action{Do: Hold, Until: time.Minute + time.Second}},
		{"192.0.2.2", AccessConfig{}, EndAs(Denied)},
		{"10.0.0.1", AccessConfig{Deny: prefixes("10.0.0.1/32")}, EndAs(Denied)},
		{"192.0.2.3", AccessConfig{Allow: prefixes("10.0.0.1/32")}, EndAs(Denied)},
		{"192.0.2.3", AccessConfig{Allow: prefixes("10.0.0.1/32"), DropDenied: true}, Action{Do: Hold, Until: time.Minute + time.Second}},
	} {
		for _, needs := range []needs{needsHeader, needsHeader | needsHello} {
			g := newGreeter(t, needs, true, tt.access)
			g.a.SetRules(testRules(t, map[string]rules.Target{"192.0.2.1/32": rules.Drop, "192.0.2.2/32": rules.Reject}))
			h := proxyheader.Header{Source: netip.AddrPortFrom(netip.MustParseAddr(tt.client), 7), Destination: g.f.Local}
			sent := append(proxyheader.AppendV1(nil, &h), clientHello("a.test")...)
			got := g.hear(sent, 1<<20, false, time.Second)
			if got != tt.want {
				t.Errorf("%s: %+v, want %+v", tt.client, got, tt.want)
			}
			if err := g.f.CheckInvariants(); err != nil {
				t.Errorf("%s: %v", tt.client, err)
			}
			svc := g.f.Service
			if g.end(Denied); svc.Ended(Denied) != 1 || svc.Accepted() != 1 {
				t.Errorf("%s: %d accepted, %d denied", tt.client, svc.Accepted(), svc.Ended(Denied))
			}
		}
	}
}

// TestGreetingThatHasEnded: a client that ended behind its ClientHello waits for no backend if
// that counts as its end.
func TestGreetingThatHasEnded(t *testing.T) {
	t.Parallel()
	pool, err := balancer.NewPool(balancer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for aborts, want := range map[bool]Action{true: EndAs(Aborted), false: {Do: Wait, Until: time.Second + waitStep}} {
		g := newGreeter(t, needsHello, false, AccessConfig{})
		svc := g.services["a.test"]
		svc.SetSettings(NewSettings(svc, ServiceConfig{Pool: pool, ConnectTimeout: time.Second, Wait: time.Minute, AbortOnClose: aborts}, nil, nil))
		g.f.ReceivedFIN(Client)
		if got := g.hear(clientHello("a.test"), 1<<20, true, time.Second); got != want {
			t.Errorf("aborts: %v: %+v, want %+v", aborts, got, want)
		}
		g.end(Aborted)
	}
}

// TestRulesOfRestoredGreetings: rules count those again that they have judged.
func TestRulesOfRestoredGreetings(t *testing.T) {
	t.Parallel()
	set := testRules(t, map[string]rules.Target{"10.0.0.0/8": rules.Accept})
	for needs, isJudged := range map[needs]bool{needsHello: true, needsHeader: false, needsHeader | needsHello: false} {
		g := newGreeter(t, needs, true, AccessConfig{})
		g.f.RejoinRules(set, &rules.Packet{Client: g.f.Client, Local: g.f.Local, Protocol: rules.TCP})
		if has := g.f.pass.counter != nil; has != isJudged {
			t.Errorf("needs %b: it is counted: %v", needs, has)
		}
		g.end(NoServerName)
	}
}

// TestHeaderTowardsBackends: a backend is told of the client that a header has named, of its
// destination, and of all that came with it.
func TestHeaderTowardsBackends(t *testing.T) {
	t.Parallel()
	client, peer, local := netip.MustParseAddrPort("192.0.2.7:70"), netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:443")
	asked := netip.MustParseAddrPort("192.0.2.80:443")
	tlv := []byte("\xe0\x00\x01x")
	withID := proxyheader.AppendUniqueID(nil, []byte("theirs"))
	for _, tt := range []struct {
		send   SendProxy
		origin Origin
		want   proxyheader.Header
		id     string
	}{
		{SendProxy{Version: 1}, Origin{Client: client}, proxyheader.Header{Version: 1, Source: client, Destination: local}, ""},
		{SendProxy{Version: 2}, Origin{Client: client, Via: &Via{Peer: peer, Destination: asked, TLVs: tlv}}, proxyheader.Header{Version: 2, Source: client, Destination: asked, TLVs: tlv}, ""},
		{SendProxy{Version: 2}, Origin{Path: "/run/in.sock"}, proxyheader.Header{Version: 2, Local: true}, ""},
		{SendProxy{Version: 2, ID: true}, Origin{Client: client, Via: &Via{TLVs: withID}}, proxyheader.Header{Version: 2, Source: client, Destination: local, TLVs: withID}, "theirs"},
		{SendProxy{Version: 2, ID: true}, Origin{Client: client}, proxyheader.Header{Version: 2, Source: client, Destination: local,
			TLVs: proxyheader.AppendUniqueID(nil, []byte("00000000000000050000000000000001"))}, "00000000000000050000000000000001"},
	} {
		a := &Admission{Seed: 5}
		f := &Flow{Settings: testService(ServiceConfig{SendProxy: tt.send}).Settings(), Origin: tt.origin}
		first := a.AppendProxyHeader([]byte("x"), f, local)[1:]
		h, n, err := proxyheader.Parse(first)
		if err != nil || n != len(first) || h.Source != tt.want.Source || h.Destination != tt.want.Destination || h.Local != tt.want.Local ||
			h.Version != tt.want.Version || string(h.TLVs) != string(tt.want.TLVs) {
			t.Errorf("%+v of %+v: %+v, %v", tt.send, tt.origin, h, err)
		}
		if tt.id != "" && f.Via.ID != tt.id {
			t.Errorf("id %q, want %q", f.Via.ID, tt.id)
		}
		if again := a.AppendProxyHeader(nil, f, local); string(again) != string(first) {
			t.Error("the next backend is told something else")
		}
	}
}
