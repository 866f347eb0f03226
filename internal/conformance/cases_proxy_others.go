//go:build linux

package conformance

func proxyOtherCases() []Case {
	const group = "PROXY protocol with others"
	return []Case{
		{Name: "haproxy-names-the-client", Group: group, Run: func(c *C) { othersName(c, c.haproxy(), "v1", "v2") }},
		{Name: "haproxy-learns-the-client", Group: group, Run: func(c *C) { othersLearn(c, c.haproxy()) }},
		{Name: "nginx-names-the-client", Group: group, Run: func(c *C) { othersName(c, c.nginx(), "v1") }},
		{Name: "nginx-learns-the-client", Group: group, Run: func(c *C) { othersLearn(c, c.nginx()) }},
	}
}

func (c *C) haproxy() Target {
	h, err := FindHAProxy()
	return c.other(h, err)
}

func (c *C) nginx() Target {
	n, err := FindNginx()
	return c.other(n, err)
}

// other is a proxy beside usher, which must be installed.
func (c *C) other(t Target, err error) Target {
	if _, isUsher := c.target.(*Usher); !isUsher {
		c.Skipf("is played beside usher alone")
	}
	if err != nil {
		c.Skipf("%v", err)
	}
	return t
}

// loopback are the addresses of proxies that talk to each other.
var loopback = []struct {
	listen Listener
	prefix string // of peers that come from it
}{{Listener{}, "127.0.0.0/8"}, {Listener{Host: "::1"}, "::1/128"}, {Listener{Network: "unix"}, "127.0.0.0/8"}}

// othersName has another proxy send usher headers, of clients of each family.
func othersName(c *C, other Target, versions ...string) {
	b := c.Backend()
	for _, version := range versions {
		for _, at := range loopback {
			inner := at.listen
			if inner.Network == "unix" {
				inner = Listener{}
			}
			p := c.Start(Config{Listen: []Listener{inner}, Backends: []string{b.Addr}, Access: Access{
				AcceptProxy: at.prefix, ProxyOnly: true, SendProxy: "v2",
			}})
			front := c.startAs(other, Config{Listen: []Listener{at.listen}, Backends: []string{p.Addr()}, Access: Access{SendProxy: version}})
			passesThrough(c, front, b, at.listen.Network)
		}
	}
}

// othersLearn has usher send another proxy headers, of clients of each family.
func othersLearn(c *C, other Target) {
	b := c.Backend()
	for _, version := range []string{"v1", "v2"} {
		for _, at := range loopback {
			inner := at.listen
			if inner.Network == "unix" {
				inner = Listener{}
			}
			behind := c.startAs(other, Config{Listen: []Listener{inner}, Backends: []string{b.Addr}, Access: Access{
				AcceptProxy: at.prefix, ProxyOnly: true, SendProxy: "v1",
			}})
			front := c.Start(Config{Listen: []Listener{at.listen}, Backends: []string{behind.Addr()}, Access: Access{SendProxy: version}})
			passesThrough(c, front, b, at.listen.Network)
		}
	}
}

// passesThrough has a flow pass two proxies. The second tells the backend of the client,
// if that has an address.
func passesThrough(c *C, front *Proxy, b *Backend, network string) {
	for range 2 {
		client := c.Dial(front)
		c.Must(client.Say("first words"))
		server, err := b.Accept()
		c.Must(err)
		h, err := server.HearHeader()
		c.Must(err)
		if who := client.LocalAddr().String(); network != "unix" && sourceOf(h) != who {
			c.Fatalf("the PROXY header behind two proxies names client %q, and it is %s", sourceOf(h), who)
		}
		c.Must(server.Hear("first words"))
		bothWays(c, client, server, 100*kib)
		c.Must(client.Finish())
		c.Must(server.Finished())
	}
}
