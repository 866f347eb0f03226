//go:build linux

package conformance

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

func roomCases() []Case {
	const group = "room"
	return []Case{
		{Name: "udp-flood-leaves-other-services-room", Group: group, Heavy: true, Run: func(c *C) { floodBeside(c, 1) }},
		{Name: "udp-flood-of-many-addresses-leaves-room", Group: group, Heavy: true, Run: func(c *C) { floodBeside(c, 200) }},
		{Name: "udp-idle-flow-makes-room", Group: group, Run: idleFlowMakesRoom},
		{Name: "idle-connection-makes-room", Group: group, Run: idleConnectionMakesRoom},
	}
}

// floodBeside has far more clients of an answering UDP service than the process has room
// for, from so many addresses. No client of another service may be turned away for that.
func floodBeside(c *C, addresses int) {
	limit := c.Size(1000, 200)
	greeter, b := c.Greet("hello"), c.Names("b")
	p := through(c, Config{MaxConns: limit, Workers: 1, Beside: greeter.Addr}, b)
	to := netip.MustParseAddrPort(p.Addr())
	var done atomic.Bool
	flood := c.Begin(func() error {
		defer done.Store(true)
		rest := time.Now()
		for i := range 6 * limit {
			if i%20 == 0 { // or only the sockets' buffers are tried
				rest = rest.Add(2 * time.Second / time.Duration(6*limit/20))
				time.Sleep(time.Until(rest))
			}
			local := netip.AddrPortFrom(netip.MustParseAddr(c.host(1+i%addresses)), 0)
			s, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(local), net.UDPAddrFromAddrPort(to))
			if err != nil {
				return fmt.Errorf("client %d of a flood: %w", i, err)
			}
			s.Write([]byte("who?"))
			s.Close()
		}
		return nil
	})
	visit := func() {
		client, err := c.TryDial(p.Beside())
		if err == nil {
			err = client.Hear("hello")
		}
		if err != nil {
			c.Fatalf("beside a flood a client of another service is turned away: %v", err)
		}
		client.Close()
	}
	for !done.Load() {
		visit()
		c.Sleep(20 * time.Millisecond)
	}
	c.Must(flood())
	for range 20 {
		visit()
	}
	if n := b.Got(); n < int64(limit/4) {
		c.Fatalf("%d clients of a flood were served, too few to fill anything", n)
	}
}

// idleFlowMakesRoom fills a service with flows that were answered, one of which falls
// silent. In the end a newcomer has its place, and the others have kept theirs.
func idleFlowMakesRoom(c *C) {
	const limit = 3
	const idleGrace = 5 * time.Second
	b := c.Names("b")
	p := through(c, Config{MaxFlows: limit, Workers: 1}, b)
	fell := time.Now() // silent, or a little later
	silent := askNew(c, p, c.host(1))
	var flows []keptFlow
	for range limit - 1 {
		flows = append(flows, askNew(c, p, c.host(1)))
	}
	over := c.Client(p)
	c.Wait(idleGrace+c.within(2*time.Second), "a newcomer to have the place of an idle flow", func() bool {
		allStay(c, flows, idleGrace)
		_, err := over.AskWithin("who?", 200*time.Millisecond)
		return err == nil
	})
	if took := time.Since(fell); took < idleGrace {
		c.Fatalf("an answered flow has lost its place after %v", took)
	}
	allStay(c, flows, idleGrace)
	if now, err := silent.AskWithin("who?", 200*time.Millisecond); err == nil && now == silent.first {
		c.Fatalf("the flow that had made room is still there")
	}
}

// idleConnectionMakesRoom fills the proxy with connections, one of which falls silent.
// A new client gets its place once that has been idle long enough. The others
// continue.
func idleConnectionMakesRoom(c *C) {
	const limit, idle = 4, time.Second
	b := c.Greet("hello")
	p := c.Start(Config{Backends: []string{b.Addr}, MaxConns: limit, ReclaimIdle: idle, Workers: 2})
	fell := time.Now() // silent, or a little later
	var clients []*Conn
	for range limit {
		client, _, err := hello(c, p, "hello")
		c.Must(err)
		clients = append(clients, client)
	}
	silent, clients := clients[0], clients[1:]
	c.Wait(idle+c.within(2*time.Second), "a newcomer to have the place of an idle connection", func() bool {
		for _, client := range clients {
			used := time.Now()
			err := echo(client)
			c.keeps(used, idle)
			c.Must(err)
		}
		return canConnect(c, p)
	})
	if took := time.Since(fell); took < idle {
		c.Fatalf("a connection has lost its place after %v", took)
	}
	if _, err := silent.Ended(c.patience()); err != nil {
		c.Fatalf("the idle connection: %v", err)
	}
	for _, client := range clients {
		c.Must(echo(client))
	}
}
