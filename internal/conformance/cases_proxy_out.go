//go:build linux

package conformance

import (
	"bytes"
	"strings"
	"time"

	"github.com/pires/go-proxyproto"
)

func proxyOutCases() []Case {
	const group = "PROXY protocol out"
	return []Case{
		{Name: "backend-learns-the-client-v1", Group: group, Run: func(c *C) { proxyOut(c, "v1", "127.0.0.1") }},
		{Name: "backend-learns-the-client-v2", Group: group, Run: func(c *C) { proxyOut(c, "v2", "127.0.0.1") }},
		{Name: "backend-learns-the-client-v1-ipv6", Group: group, Run: func(c *C) { proxyOut(c, "v1", "::1") }},
		{Name: "backend-learns-the-client-v2-ipv6", Group: group, Run: func(c *C) { proxyOut(c, "v2", "::1") }},
		{Name: "client-on-a-unix-socket-has-no-address-v1", Group: group, Run: func(c *C) { proxyOutUnix(c, "v1") }},
		{Name: "client-on-a-unix-socket-has-no-address-v2", Group: group, Run: func(c *C) { proxyOutUnix(c, "v2") }},
		{Name: "proxy-header-comes-before-a-late-client", Group: group, Run: proxyOutFirst},
		{Name: "proxy-header-comes-once-behind-a-failure", Group: group, Run: proxyOutRetry},
		{Name: "proxy-id-is-of-the-flow", Group: group, Run: proxyID},
		{Name: "udp-proxy-header-with-the-first", Group: group, Run: func(c *C) { udpProxyOut(c, "v2") }},
		{Name: "udp-proxy-header-with-each", Group: group, Run: func(c *C) { udpProxyOut(c, "v2,every") }},
	}
}

// proxyOut has the backend hear both addresses of the client's connection, and every byte
// behind the header.
func proxyOut(c *C, version, host string) {
	b := c.Backend()
	p := c.Start(Config{Listen: []Listener{{Host: host}}, Backends: []string{b.Addr}, Access: Access{SendProxy: version}})
	for range 3 {
		client := c.Dial(p)
		c.Must(client.Send(c.Stream(3), 200*kib))
		server, err := b.Accept()
		c.Must(err)
		h, err := server.HearHeader()
		c.Must(err)
		if int(h.Version) != int(version[1]-'0') {
			c.Fatalf("the header is of version %d, want %s", h.Version, version)
		}
		if from, to := client.LocalAddr().String(), client.RemoteAddr().String(); sourceOf(h) != from || h.DestinationAddr.String() != to {
			c.Fatalf("the header names %s to %v, and the client is %s to %s", sourceOf(h), h.DestinationAddr, from, to)
		}
		c.Must(server.Receive(c.Stream(3), 200*kib))
		bothWays(c, client, server, mib)
		c.Must(client.Finish())
		c.Must(server.Finished())
	}
}

func proxyOutUnix(c *C, version string) {
	b := c.Backend()
	p := c.Start(Config{Listen: []Listener{{Network: "unix"}}, Backends: []string{b.Addr}, Access: Access{SendProxy: version}})
	client, server := c.Pair(p, b)
	h, err := server.HearHeader()
	c.Must(err)
	if who := sourceOf(h); who != "" {
		c.Fatalf("the header of a client on a unix socket names %s", who)
	}
	c.Must(Ping(client, server))
}

// proxyOutFirst has clients that say nothing until the backend has spoken.
func proxyOutFirst(c *C) {
	for _, version := range []string{"v1", "v2"} {
		b := c.Backend()
		p := c.Start(Config{Backends: []string{b.Addr}, Access: Access{SendProxy: version}})
		client, server := c.Pair(p, b)
		c.Must(server.HearSource(client.LocalAddr().String()))
		c.Must(Ping(server, client))
		c.Must(server.Finish())
		c.Must(client.Finished())
		c.Must(client.Say("bye"))
		c.Must(server.Hear("bye"))
	}
}

// proxyOutRetry has two of three backends refuse.
func proxyOutRetry(c *C) {
	b := c.Backend()
	p := c.Start(Config{
		Backends: []string{c.Refused(), b.Addr, c.Refused()}, ConnectTimeout: connectBudget4s, Access: Access{SendProxy: "v1"},
	})
	for range 9 {
		client := c.Dial(p)
		c.Must(client.Say("first words"))
		server, err := b.Accept()
		c.Must(err)
		c.Must(server.HearSource(client.LocalAddr().String()))
		c.Must(server.Hear("first words"))
		c.Must(client.Finish())
		c.Must(server.Finished())
	}
}

// proxyID has the ids of flows differ.
func proxyID(c *C) {
	b := c.Backend()
	p := c.Start(Config{Backends: []string{b.Addr}, Access: Access{SendProxy: "v2", SendID: true}})
	seen := make(map[string]bool)
	for range 20 {
		client, server := c.Pair(p, b)
		h, err := server.HearHeader()
		c.Must(err)
		id := ""
		tlvs, err := h.TLVs()
		c.Must(err)
		for _, x := range tlvs {
			if x.Type == proxyproto.PP2_TYPE_UNIQUE_ID {
				id = string(x.Value)
			}
		}
		if id == "" || seen[id] {
			c.Fatalf("flow %d has the id %q, which is none or another's", len(seen), id)
		}
		seen[id] = true
		c.Must(Ping(client, server))
	}
}

// udpProxyOut has a header precede the first datagram of a flow, or each of them.
func udpProxyOut(c *C, how string) {
	b := c.UDPBackend()
	p := through(c, Config{Access: Access{SendProxy: how}}, b)
	const silence = 2 * time.Second
	for range 3 {
		client := c.Client(p)
		var told time.Time
		for i, text := range []string{"first", "second", "third"} {
			c.Must(client.Say(text))
			d, err := b.Receive()
			c.Must(err)
			data := string(d.Data)
			// After a silence the backend may have to be told again.
			isDue := i == 0 || how != "v2" || time.Since(told) > silence && strings.HasPrefix(data, signature)
			if told = time.Now(); isDue {
				head := len(data) - len(text)
				if head <= 0 {
					c.Fatalf("datagram %d comes without a header: %.40q", i, data)
				}
				h, _, err := ReadHeader(bytes.NewReader(d.Data[:head]))
				if err != nil {
					c.Fatalf("datagram %d comes with a bad header: %v", i, err)
				}
				if who := sourceOf(h); who != client.Addr {
					c.Fatalf("the header of a datagram names client %q, and it is %s", who, client.Addr)
				}
				data = data[head:]
			}
			if data != text {
				c.Fatalf("datagram %d comes as %.40q, want %q", i, data, text)
			}
			c.Must(b.Send(d.From, []byte(text)))
			c.Must(client.Hear(text))
		}
	}
}
