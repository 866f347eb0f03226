//go:build linux

package conformance

import "time"

func accessLimitCases() []Case {
	const group = "limits of clients"
	return []Case{
		{Name: "client-connection-limit", Group: group, Run: func(c *C) { clientConns(c, 0) }},
		{Name: "client-connection-limit-of-a-prefix", Group: group, Run: func(c *C) { clientConns(c, 24) }},
		{Name: "client-connection-limit-counts-the-living", Group: group, Run: livingCount},
		{Name: "client-rate", Group: group, Run: func(c *C) { clientRate(c, 0) }},
		{Name: "client-rate-of-a-prefix", Group: group, Run: func(c *C) { clientRate(c, 24) }},
		{Name: "service-rate", Group: group, Run: serviceRate},
		{Name: "udp-client-rate", Group: group, Run: udpClientRate},
	}
}

// client returns the i-th address of those that a limit of so many bits counts as one.
func (c *C) client(bits, i int) string {
	if bits == 0 {
		return c.neighbour(1, 1)
	}
	return c.neighbour(1, 1+i)
}

// clientConns has a client take all its places. One more is refused, others are served,
// and a place that is left serves the client again.
func clientConns(c *C, bits int) {
	const limit = 3
	b := c.Greet("hello")
	p := c.Start(Config{Backends: []string{b.Addr}, Access: Access{ClientConns: limit, ClientBits: bits}})
	var clients []*Conn
	for i := range limit {
		clients = append(clients, welcome(c, p, c.client(bits, i)))
	}
	for i := range 3 {
		refuse(c, p, c.client(bits, limit+i))
		clients = append(clients, welcome(c, p, c.neighbour(2, 1+i%limit)))
	}
	sawOnly(c, b, 2*limit)
	for _, e := range clients {
		c.Must(echo(e))
	}
	c.Must(clients[0].Close())
	c.Wait(c.within(5*time.Second), "the place that a client has left to serve it again", func() bool {
		e, err := c.TryDialFrom(p, c.client(bits, 0))
		if err != nil {
			return false
		}
		if e.Hear("hello") != nil {
			e.Close()
			return false
		}
		return true
	})
	refuse(c, p, c.client(bits, limit))
	for _, e := range clients[1:] {
		c.Must(echo(e))
	}
}

// livingCount has a client come and leave more often than it may be there at once, by FIN
// and RST of either side. No place is lost.
func livingCount(c *C) {
	const limit, rounds = 2, 12
	b := c.Backend()
	p := c.Start(Config{Backends: []string{b.Addr}, Access: Access{ClientConns: limit}})
	for i := range rounds {
		client, err := c.TryDialFrom(p, c.neighbour(1, 1))
		c.Must(err)
		var server *Conn
		if server, err = b.Accept(); err != nil {
			c.Fatalf("the client is refused, of whom %d have come and left: %v", i, err)
		}
		c.Must(Ping(client, server))
		switch i % 4 {
		case 0:
			c.Must(client.Reset())
			_, err = server.Ended(c.patience())
		case 1:
			c.Must(server.Reset())
			_, err = client.Ended(c.patience())
		default:
			c.Must(client.Finish())
			c.Must(server.Finished())
			c.Must(server.Finish())
			err = client.Finished()
		}
		c.Must(err)
		client.Close()
		server.Close()
		// The proxy gives the place back when it closes its socket, not sooner.
		c.Wait(2*c.patience(), "the proxy to have done with a client that has left", func() bool {
			return p.held(c.neighbour(1, 1)) == 0 && p.IsResting()
		})
	}
}

// clientRate has a client use up what it may begin in an hour.
func clientRate(c *C, bits int) {
	const burst = 4
	b := c.Greet("hello")
	p := c.Start(Config{Backends: []string{b.Addr}, Access: Access{ClientRate: burst, ClientBits: bits}})
	for i := range burst {
		c.Must(welcome(c, p, c.client(bits, i)).Close())
	}
	refuse(c, p, c.client(bits, burst))
	e := welcome(c, p, c.neighbour(2, 1))
	refuse(c, p, c.client(bits, 0))
	c.Must(echo(e))
	sawOnly(c, b, burst+1)
}

func serviceRate(c *C) {
	const burst = 4
	b := c.Greet("hello")
	p := c.Start(Config{Backends: []string{b.Addr}, Access: Access{Rate: burst}})
	var clients []*Conn
	for i := range burst {
		clients = append(clients, welcome(c, p, c.neighbour(i, 1)))
	}
	refuse(c, p, c.neighbour(burst, 1))
	for _, e := range clients {
		c.Must(echo(e))
	}
	sawOnly(c, b, burst)
}

// udpClientRate counts flows. Datagrams of a flow that is there are not counted.
func udpClientRate(c *C) {
	const burst = 3
	b := c.Names("b")
	p := through(c, Config{Access: Access{ClientRate: burst}}, b)
	var flows []keptFlow
	for range burst {
		flows = append(flows, askNew(c, p, c.host(1)))
	}
	over, err := c.TryClient(p, c.host(1)+":0")
	c.Must(err)
	for i := range 3 {
		c.Must(over.Say(letMeIn))
		askNew(c, p, c.host(2+i))
		allStay(c, flows, time.Minute)
		c.Must(over.Silent(50 * time.Millisecond))
	}
	if n := b.over.Load(); n > 0 {
		c.Fatalf("%d datagrams of a client over its rate got through", n)
	}
}
