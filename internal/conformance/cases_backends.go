//go:build linux

package conformance

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

func backendCases() []Case {
	const group = "backends"
	return []Case{
		{Name: "refused-backend-is-passed-over", Group: group, Run: refusedBackend},
		{Name: "blackholed-backend-is-passed-over", Group: group, Run: blackholedBackend},
		{Name: "backend-vanishes", Group: group, Run: vanishingBackend},
		{Name: "all-backends-refuse", Group: group, Run: allRefuse},
		{Name: "connect-budget-ends", Group: group, Run: connectBudget},
		{Name: "bytes-sent-before-the-backend-answers", Group: group, Run: earlyBytes},
		{Name: "stuck-connect-delays-nobody", Group: group, Alone: true, Run: stuckConnect},
		{Name: "wait-for-a-backend", Group: group, Run: waitForBackend},
		{Name: "health-check-spares-the-clients", Group: group, Run: healthSpares},
		{Name: "round-robin-order", Group: group, Run: roundRobin},
		{Name: "least-connections", Group: group, Run: leastConnections},
	}
}

// connectBudget4s leaves room for several tries and is far above what a client
// should ever wait.
const connectBudget4s = 4 * time.Second

// hello connects a client and waits for the greeting of the backend that it gets. It
// returns how long that takes on a machine at rest.
func hello(c *C, p *Proxy, greeting string) (*Conn, time.Duration, error) {
	start := c.stopwatch()
	client, err := c.TryDial(p.Addr())
	if err != nil {
		return nil, 0, err
	}
	if err := client.Hear(greeting); err != nil {
		return nil, 0, err
	}
	return client, start.fair(), nil
}

func refusedBackend(c *C) {
	b := c.Greet("hello")
	p := c.Start(Config{Backends: []string{c.Refused(), b.Addr, c.Refused()}, ConnectTimeout: connectBudget4s})
	const clients = 12 // two of three meet a backend that refuses
	slow := 0
	for range clients {
		client, took, err := hello(c, p, "hello")
		c.Must(err)
		if took > time.Second {
			slow++
		}
		if slow > clients/3 {
			c.Fatalf("a client was served after %v only, and %d before were as slow", took.Round(time.Millisecond), slow-1)
		}
		client.Close()
	}
}

func blackholedBackend(c *C) {
	b := c.Greet("hello")
	p := c.Start(Config{Backends: []string{c.BlackholeAddr(), b.Addr}, ConnectTimeout: connectBudget4s})
	c.Each(6, func(int) error {
		_, took, err := hello(c, p, "hello")
		if err == nil && took > 2500*time.Millisecond {
			err = fmt.Errorf("a client was served after %v only", took.Round(time.Millisecond))
		}
		return err
	})
}

// vanishingBackend closes the listener of a backend and then its connections,
// as when a server is killed.
func vanishingBackend(c *C) {
	b1, b2 := c.Backend(), c.Greet("hello")
	p := c.Start(Config{Backends: []string{b1.Addr, b2.Addr}, ConnectTimeout: connectBudget4s})
	var held, server *Conn
	for server == nil {
		others := b2.Accepted()
		held = c.Dial(p)
		c.Wait(c.patience(), "a backend to get the client", func() bool {
			select {
			case server = <-b1.conns:
				return true
			default:
				return b2.Accepted() > others
			}
		})
	}
	c.Must(Ping(held, server))
	b1.Vanish()
	for range 6 {
		_, _, err := hello(c, p, "hello")
		c.Must(err)
	}
	c.Must(Ping(held, server))
	c.Must(server.Reset())
	if _, err := held.Ended(c.within(2 * time.Second)); err != nil {
		c.Fatalf("the backend of a flow died: %v", err)
	}
	_, _, err := hello(c, p, "hello")
	c.Must(err)
}

func allRefuse(c *C) {
	p := c.Start(Config{Backends: []string{c.Refused(), c.Refused()}, ConnectTimeout: connectBudget4s})
	for range 4 {
		client, err := c.TryDial(p.Addr())
		if isReset(err) {
			continue // ended before it could look
		}
		c.Must(err)
		refused := c.stopwatch()
		_, err = client.Ended(c.within(time.Second))
		c.Must(err)
		if took := refused.fair(); took > time.Second {
			c.Fatalf("the client was not ended at once, but after %v", took.Round(time.Millisecond))
		}
	}
}

func connectBudget(c *C) {
	p := c.Start(Config{Backends: []string{c.BlackholeAddr()}, ConnectTimeout: time.Second})
	client := c.Dial(p)
	held := c.stopwatch()
	_, err := client.Ended(c.within(4 * time.Second))
	c.Must(err)
	if took := held.fair(); took > 2500*time.Millisecond {
		c.Fatalf("the client was held for %v, the budget is 1s", took.Round(time.Millisecond))
	}
}

// earlyBytes sends a request and its end while the proxy is still trying backends. No
// byte may be lost or reach a backend that failed.
func earlyBytes(c *C) {
	b := c.Backend()
	p := c.Start(Config{Backends: []string{c.BlackholeAddr(), b.Addr}, ConnectTimeout: connectBudget4s})
	s, n := c.Stream(1), 200*kib
	for range 2 { // one of the two starts at the blackhole
		client := c.Dial(p)
		c.Must(client.Send(s, n))
		c.Must(client.Finish())
		server, err := b.Accept()
		c.Must(err)
		c.Must(server.Receive(s, n))
		c.Must(server.Finished())
		c.Must(server.Say("done"))
		c.Must(server.Close())
		c.Must(client.Hear("done"))
		c.Must(client.Finished())
	}
}

// stuckConnect sends clients over a blackhole and a healthy backend. Those for
// the healthy one must not wait for the others.
func stuckConnect(c *C) {
	b := c.Greet("hello")
	p := c.Start(Config{Backends: []string{c.BlackholeAddr(), b.Addr}, ConnectTimeout: connectBudget4s})
	took := make([]time.Duration, 20)
	c.Each(len(took), func(i int) error {
		_, d, err := hello(c, p, "hello")
		took[i] = d
		return err
	})
	slices.Sort(took)
	if quick := took[8-1]; quick > 500*time.Millisecond {
		c.Fatalf("8 of 20 clients should be served at once, the 8th took %v", quick.Round(time.Millisecond))
	}
	if last := took[len(took)-1]; last > 3*time.Second {
		c.Fatalf("the last of 20 clients was served after %v", last.Round(time.Millisecond))
	}
}

func waitForBackend(c *C) {
	port := c.Refused()
	p := c.Start(Config{Backends: []string{port}, Wait: 5 * time.Minute, ConnectTimeout: connectBudget4s})
	client := c.Dial(p)
	c.Must(client.Say("early"))
	if _, err := client.Ended(500 * time.Millisecond); err == nil {
		c.Fatalf("the client was not held")
	}
	b := c.serveOn("tcp", port, nil)
	server, err := b.Accept()
	c.Must(err)
	c.Must(server.Hear("early"))
	c.Must(Ping(client, server))
}

// healthSpares expects active checks to keep clients away from a dead backend. After a
// while it delays no client.
func healthSpares(c *C) {
	b := c.Greet("hello")
	p := c.Start(Config{Backends: []string{c.BlackholeAddr(), b.Addr}, ConnectTimeout: connectBudget4s, Health: true})
	quick := 0
	c.Wait(c.within(8*time.Second), "ten clients in a row to be served at once", func() bool {
		client, took, err := hello(c, p, "hello")
		c.Must(err)
		client.Close()
		quick++
		if took > 200*time.Millisecond {
			quick = 0
		}
		return quick == 10
	})
}

func roundRobin(c *C) {
	a, b := c.Greet("a"), c.Greet("b")
	p := c.Start(Config{Backends: []string{a.Addr, b.Addr}})
	order := ""
	for range 20 {
		client := c.Dial(p)
		who := make([]byte, 1)
		client.SetReadDeadline(time.Now().Add(client.patience))
		if _, err := client.Read(who); err != nil {
			c.Must(client.errorf("hear a backend's name: %w", short(err)))
		}
		order += string(who)
		client.Close()
	}
	for i := 1; i < len(order); i++ {
		if order[i] == order[i-1] {
			c.Fatalf("not in turn: %s", order)
		}
	}
}

// leastConnections holds ten flows, ends those of one backend and expects the
// next ones there.
func leastConnections(c *C) {
	b := []*Backend{c.Backend(), c.Backend()}
	p := c.Start(Config{Backends: []string{b[0].Addr, b[1].Addr}, Scheduler: "lc"})
	type flow struct{ client, server *Conn }
	var flows [2][]flow
	open := func(n int) {
		for range n {
			f := flow{client: c.Dial(p)}
			select {
			case f.server = <-b[0].conns:
				flows[0] = append(flows[0], f)
			case f.server = <-b[1].conns:
				flows[1] = append(flows[1], f)
			case <-time.After(c.patience()):
				c.Must(errors.New("no connection came from the proxy"))
			}
			c.Must(Ping(f.client, f.server))
		}
	}
	open(10)
	full := p.Descriptors().Sockets
	if len(flows[0]) != 5 {
		c.Fatalf("ten held flows are spread %d to %d", len(flows[0]), len(flows[1]))
	}
	for _, f := range flows[0] {
		f.client.Close()
		f.server.Close()
	}
	flows[0] = nil
	c.Wait(c.patience(), "the proxy to end five flows", func() bool {
		return p.Descriptors().Sockets <= full-2*5
	})
	open(5)
	if len(flows[0]) != 5 {
		c.Fatalf("of five flows after five had ended %d went to the empty backend", len(flows[0]))
	}
}
