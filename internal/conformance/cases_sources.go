//go:build linux

package conformance

import "time"

func sourceCases() []Case {
	const group = "services by client"
	return []Case{
		{Name: "services-share-an-address-by-client", Group: group, Run: bySource},
		{Name: "client-of-no-service-is-refused", Group: group, Run: sourceRefused},
		{Name: "services-by-client-change", Group: group, Run: sourcesChange},
		{Name: "udp-services-share-an-address-by-client", Group: group, Run: udpBySource},
	}
}

// visitsReach wants a client of a local address to be served by a backend.
func visitsReach(c *C, p *Proxy, local, by string) {
	if who, err := c.Visit(p, local); err != nil || who != by {
		c.Fatalf("a client from %s is served by %q: %v, want %s", local, who, err, by)
	}
}

// bySource has three services at one address. The longest prefix decides.
func bySource(c *C) {
	a, b, rest := c.Answers("a").Addr, c.Answers("b").Addr, c.Answers("rest").Addr
	one, net := c.neighbour(1, 1), c.neighbour(1, 0)+"/24"
	p := c.Start(Config{Access: Access{Sources: []Source{{net, a}, {one, b}, {"", rest}}}})
	for range 3 {
		visitsReach(c, p, c.neighbour(1, 2), "a")
		visitsReach(c, p, one, "b")
		visitsReach(c, p, c.neighbour(2, 1), "rest")
	}
}

// sourceRefused has no service for other clients.
func sourceRefused(c *C) {
	b := c.Greet("hello")
	p := c.Start(Config{Access: Access{Sources: []Source{{c.neighbour(1, 0) + "/24+::1", b.Addr}}}})
	for range 3 {
		refuse(c, p, c.neighbour(2, 1))
		c.Must(welcome(c, p, c.neighbour(1, 1)).Close())
	}
	sawOnly(c, b, 3)
}

// sourcesChange moves clients to another service, and back to that of all. Their flows go on.
func sourcesChange(c *C) {
	a, b := c.Answers("a").Addr, c.Answers("b").Addr
	client := c.neighbour(1, 1)
	apart, together := Access{Sources: []Source{{client, a}, {"", b}}}, Access{Sources: []Source{{"", b}}}
	p := c.Start(Config{Access: apart, Reloads: true})
	flow, err := c.TryDialFrom(p, client)
	c.Must(err)
	staysAt(c, flow, "a")
	for range 3 {
		for by, access := range map[string]Access{"b": together, "a": apart} {
			p.ReloadAccess(access)
			c.Wait(c.within(10*time.Second), "the client to be of the service of backend "+by, func() bool {
				who, err := c.Visit(p, client)
				c.Must(err)
				return who == by
			})
			visitsReach(c, p, c.neighbour(2, 1), "b")
		}
	}
	staysAt(c, flow, "a")
}

// udpBySource is bySource for datagrams. Those of clients of no service are ignored.
func udpBySource(c *C) {
	a, b := c.Names("a").Addr, c.Names("b").Addr
	one, net := c.host(1), c.host(0)+"/24"
	p := c.Start(Config{Listen: []Listener{{Network: "udp"}}, Access: Access{Sources: []Source{{net, a}, {one, b}}}})
	other, err := c.TryClient(p, "127.0.0.1:0")
	c.Must(err)
	c.Must(other.Say("who?"))
	for from, by := range map[string]string{one: "b", c.host(2): "a"} {
		e, err := c.TryClient(p, from+":0")
		c.Must(err)
		for range 3 {
			if answer, err := e.Ask("who?"); err != nil || answer.Backend != by {
				c.Fatalf("a client from %s is answered by %q: %v, want %s", from, answer.Backend, err, by)
			}
		}
	}
	c.Must(other.Silent(50 * time.Millisecond))
}
