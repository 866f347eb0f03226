//go:build linux

package conformance

import (
	"fmt"
	"slices"
	"time"

	"github.com/pires/go-proxyproto"
)

func proxyInCases() []Case {
	const group = "PROXY protocol in"
	return []Case{
		{Name: "proxy-v1-names-the-client", Group: group, Run: func(c *C) { proxyIn(c, 1) }},
		{Name: "proxy-v2-names-the-client", Group: group, Run: func(c *C) { proxyIn(c, 2) }},
		{Name: "proxy-header-byte-by-byte", Group: group, Run: proxyInPieces},
		{Name: "proxy-header-before-the-data", Group: group, Run: proxyInEarly},
		{Name: "proxy-header-names-nobody", Group: group, Run: proxyInLocal},
		{Name: "proxy-tlvs-are-passed-on", Group: group, Run: proxyTLVs},
		{Name: "proxy-named-client-is-judged", Group: group, Run: proxyJudged},
		{Name: "proxy-named-client-has-its-limit", Group: group, Run: proxyLimited},
		{Name: "proxy-named-client-is-hashed", Group: group, Run: func(c *C) { proxyKeeps(c, Config{Scheduler: "sh"}) }},
		{Name: "proxy-named-client-persists", Group: group, Run: func(c *C) { proxyKeeps(c, Config{Persist: 10 * time.Minute}) }},
		{Name: "proxy-header-of-others-is-data", Group: group, Run: proxyOfOthers},
		{Name: "proxy-header-is-required", Group: group, Run: proxyOnly},
		{Name: "udp-proxy-header-names-the-client", Group: group, Run: udpProxyIn},
		{Name: "udp-proxy-header-in-any-datagram", Group: group, Run: udpProxyAgain},
	}
}

// The clients that headers name.
const (
	named4 = "198.51.100.7:1007"
	named6 = "[2001:db8::7]:1007"
	other4 = "203.0.113.9:1009"
)

// peer is the address of whom headers are accepted. Those of the same /24 are peers, too.
func (c *C) peer() string { return c.neighbour(1, 1) }

// behind starts a proxy that accepts headers from peers alone and tells the backend of
// the client.
func behind(c *C, cfg Config) (*Proxy, *Backend) {
	b := c.Backend()
	cfg.Backends = []string{b.Addr}
	cfg.Access.AcceptProxy, cfg.Access.ProxyOnly = c.neighbour(1, 0)+"/24", true
	cfg.Access.SendProxy = "v1"
	return c.Start(cfg), b
}

// introduced connects a client from the peer, which says text. It returns both ends of the
// flow. The backend has heard that the client is source.
func introduced(c *C, p *Proxy, b *Backend, text, source string) (client, server *Conn) {
	client, err := c.TryDialFrom(p, c.peer())
	c.Must(err)
	c.Must(client.Say(text))
	server, err = b.Accept()
	c.Must(err)
	c.Must(server.HearSource(source))
	return client, server
}

func proxyIn(c *C, version byte) {
	p, b := behind(c, Config{})
	for _, source := range []string{named4, named6, other4} {
		// Header and data come in one segment.
		client, server := introduced(c, p, b, c.header(version, source)+"first words", source)
		c.Must(server.Hear("first words"))
		bothWays(c, client, server, 300*kib)
		c.Must(client.Finish())
		c.Must(server.Finished())
	}
}

func proxyInPieces(c *C) {
	p, b := behind(c, Config{})
	for version := range byte(2) {
		client, err := c.TryDialFrom(p, c.peer())
		c.Must(err)
		for _, piece := range []byte(c.header(version+1, named6) + "first") {
			c.Must(client.Say(string([]byte{piece})))
			if piece%3 == 0 {
				c.Sleep(time.Millisecond)
			}
		}
		server, err := b.Accept()
		c.Must(err)
		c.Must(server.HearSource(named6))
		c.Must(server.Hear("first"))
		c.Must(Ping(client, server))
	}
}

// proxyInEarly has a peer send the header long before the client says anything. The
// backend may speak first.
func proxyInEarly(c *C) {
	p, b := behind(c, Config{})
	client, server := introduced(c, p, b, c.header(2, named4), named4)
	c.Must(Ping(server, client))
	c.Must(Ping(client, server))
}

// proxyInLocal has headers without an address of the client. The peer is the client then.
func proxyInLocal(c *C) {
	p, b := behind(c, Config{})
	unix := make([]byte, 216)
	copy(unix, "/run/client.sock")
	for _, text := range []string{
		"PROXY UNKNOWN\r\n", "PROXY UNKNOWN 1.2.3.4 5.6.7.8 9 10\r\n",
		signature + "\x20\x00\x00\x00", signature + "\x20\x11\x00\x0c\xc6\x33\x64\x07\xc0\x00\x02\x50\x03\xe8\x00\x50",
		signature + "\x21\x00\x00\x00", signature + "\x21\x31\x00\xd8" + string(unix),
	} {
		client, err := c.TryDialFrom(p, c.peer())
		c.Must(err)
		c.Must(client.Say(text + "first"))
		server, err := b.Accept()
		if err != nil {
			c.Fatalf("a client behind the header %.32q: %v", text, err)
		}
		h, err := server.HearHeader()
		c.Must(err)
		if who := sourceOf(h); who != client.LocalAddr().String() && who != "" {
			c.Fatalf("a header that names nobody makes %s the client, and the peer is %s", who, client.LocalAddr())
		}
		c.Must(server.Hear("first"))
		c.Must(Ping(server, client))
	}
}

// proxyTLVs has values of a header arrive in the one that the backend gets.
func proxyTLVs(c *C) {
	b := c.Backend()
	p := c.Start(Config{Backends: []string{b.Addr}, Access: Access{AcceptProxy: c.neighbour(1, 0) + "/24", ProxyOnly: true, SendProxy: "v2"}})
	want := []proxyproto.TLV{
		{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte("www.example.com")},
		{Type: proxyproto.PP2_TYPE_MIN_CUSTOM, Value: make([]byte, 1000)},
	}
	client, err := c.TryDialFrom(p, c.peer())
	c.Must(err)
	c.Must(client.Say(c.header(2, named4, want...) + "first"))
	server, err := b.Accept()
	c.Must(err)
	h, err := server.HearHeader()
	c.Must(err)
	got, err := h.TLVs()
	c.Must(err)
	for _, x := range want {
		if !slices.ContainsFunc(got, func(y proxyproto.TLV) bool { return y.Type == x.Type && string(y.Value) == string(x.Value) }) {
			c.Fatalf("a value of type %#x of the header is not passed on", x.Type)
		}
	}
	c.Must(server.Hear("first"))
	c.Must(Ping(server, client))
}

// proxyJudged has rules that refuse a client whom a header names, and the peer's own
// address, which does not matter.
func proxyJudged(c *C) {
	p, b := behind(c, Config{Access: Access{Rules: []Rule{
		{Target: "REJECT", Source: "198.51.100.0/24"}, {Target: "REJECT", Source: c.peer()},
	}}})
	for version := range byte(2) {
		text := c.header(version+1, named4) + "first"
		client, err := c.TryDialFrom(p, c.peer())
		c.Must(err)
		c.Must(client.Say(text))
		c.Must(client.endedUnserved())
		_, server := introduced(c, p, b, c.header(version+1, other4)+"first", other4)
		c.Must(server.Hear("first"))
	}
	sawOnly(c, b, 2)
}

func proxyLimited(c *C) {
	p, b := behind(c, Config{Access: Access{ClientConns: 1}})
	client, server := introduced(c, p, b, c.header(2, named4), named4)
	again, err := c.TryDialFrom(p, c.peer())
	c.Must(err)
	c.Must(again.Say(c.header(2, named4)))
	c.Must(again.endedUnserved())
	introduced(c, p, b, c.header(2, other4), other4)
	c.Must(Ping(client, server))
	sawOnly(c, b, 2)
}

// proxyKeeps wants all flows of a client to have one backend, and not all clients the
// same. All come from one peer.
func proxyKeeps(c *C, cfg Config) {
	names := []string{"a", "b", "c"}
	for _, name := range names {
		cfg.Backends = append(cfg.Backends, c.Answers(name).Addr)
	}
	cfg.Access.AcceptProxy, cfg.Access.ProxyOnly = c.neighbour(1, 0)+"/24", true
	p := c.Start(cfg)
	const clients = 24
	at := make(map[string][]string)
	for i := range 3 * clients {
		source := fmt.Sprintf("198.51.%d.%d:%d", 3*(i%clients), 7*(i%clients)+1, 2000+i)
		e, err := c.TryDialFrom(p, c.peer())
		c.Must(err)
		c.Must(e.Say(c.header(1, source)))
		who, err := e.Who()
		c.Must(err)
		e.Close()
		client := fmt.Sprint(i % clients)
		if before := at[client]; len(before) > 0 && before[0] != who {
			c.Fatalf("the flows of a client that headers name go to %s and then to %s", before[0], who)
		}
		at[client] = append(at[client], who)
	}
	used := make(map[string]bool)
	for _, who := range at {
		used[who[0]] = true
	}
	if len(used) == 1 {
		c.Fatalf("%d clients that headers name go to one backend, as if the peer was the client", clients)
	}
}

// proxyOfOthers has somebody who is no peer send a header, which is data as all that a
// client says.
func proxyOfOthers(c *C) {
	b := c.Backend()
	p := c.Start(Config{Backends: []string{b.Addr}, Access: Access{AcceptProxy: c.neighbour(1, 0) + "/24", SendProxy: "v1"}})
	text := c.header(1, named4) + "first"
	client, err := c.TryDialFrom(p, c.neighbour(2, 1))
	c.Must(err)
	c.Must(client.Say(text))
	server, err := b.Accept()
	c.Must(err)
	c.Must(server.HearSource(client.LocalAddr().String()))
	c.Must(server.Hear(text))
	_, server = introduced(c, p, b, text, named4)
	c.Must(server.Hear("first"))
}

// proxyOnly has somebody come who is no peer, and must send no header, too.
func proxyOnly(c *C) {
	p, b := behind(c, Config{})
	for _, text := range []string{"", c.header(1, named4), c.header(2, named4)} {
		e, err := c.TryDialFrom(p, c.neighbour(2, 1))
		if err != nil {
			continue
		}
		if e.Say(text) == nil {
			c.Must(e.endedUnserved())
		}
	}
	sawOnly(c, b, 0)
	_, server := introduced(c, p, b, c.header(1, named4)+"first", named4)
	c.Must(server.Hear("first"))
}

// udpProxyIn has datagrams with headers, of which the backend sees the data. The client
// whom they name is judged.
func udpProxyIn(c *C) {
	b := c.Names("b")
	p := through(c, Config{Access: Access{
		AcceptProxy: c.host(0) + "/24", ProxyOnly: true,
		Rules: []Rule{{Target: "REJECT", Source: "203.0.113.0/24"}},
	}}, b)
	for i := range 3 {
		over, err := c.TryClient(p, c.host(1)+":0")
		c.Must(err)
		c.Must(over.Say(c.datagramHeader(other4) + letMeIn))
		client, err := c.TryClient(p, c.host(1)+":0")
		c.Must(err)
		c.Must(client.Say(c.datagramHeader(named4) + "first"))
		reply, err := client.Reply(c.patience())
		c.Must(err)
		if text := string(reply); len(text) < 5 || text[len(text)-5:] != "first" {
			c.Fatalf("question %d with a header is answered %.40q", i, text)
		}
		c.Must(over.Silent(50 * time.Millisecond))
	}
	if n := b.over.Load(); n > 0 {
		c.Fatalf("%d datagrams of a client that was to be refused got through", n)
	}
}

// udpProxyAgain has headers precede some datagrams of a flow. Those without are of the
// client that was named last.
func udpProxyAgain(c *C) {
	b := c.Names("b")
	p := through(c, Config{Access: Access{AcceptProxy: c.host(0) + "/24", ProxyOnly: true}}, b)
	client, err := c.TryClient(p, c.host(1)+":0")
	c.Must(err)
	ask := func(header, text string) uint16 {
		c.Must(client.Say(header + text))
		reply, err := client.Reply(c.patience())
		c.Must(err)
		var port uint16
		var heard string
		if _, err := fmt.Sscanf(string(reply), "b %d %s", &port, &heard); err != nil || heard != text {
			c.Fatalf("%q behind a header of %d bytes is answered %.40q", text, len(header), reply)
		}
		return port
	}
	header := c.datagramHeader(named4)
	first := ask(header, "first")
	for i, next := range []string{"", header, "", header} {
		if port := ask(next, fmt.Sprint("next", i)); port != first {
			c.Fatalf("datagram %d of a client that is named comes from port %d, and the first from %d", i+1, port, first)
		}
	}
	ask(c.datagramHeader(other4), "another")
	ask("", "another's")
}
