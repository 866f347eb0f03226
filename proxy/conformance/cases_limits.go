//go:build linux

package conformance

import (
	"errors"
	"os"
	"time"
)

func limitCases() []Case {
	const group = "limits"
	return []Case{
		{Name: "connection-limit", Group: group, Run: connectionLimit},
		{Name: "few-descriptors", Group: group, Run: fewDescriptors},
		{Name: "descriptors-run-out", Group: group, Run: descriptorsRunOut},
	}
}

// served opens flows until several in a row get no greeting, which means that
// the proxy is full. It returns the flows and the clients left outside, waiting
// or ended.
func served(c *C, p *Proxy, atMost int) (in, out []*Conn) {
	c.Step("the proxy to be full")
	for turnedAway := 0; turnedAway < 2 && len(in) < atMost; {
		client, err := c.TryDial(p.Addr())
		if err == nil && greeted(c, client) {
			in = append(in, client)
			continue
		}
		if err == nil {
			out = append(out, client)
		}
		turnedAway++
	}
	return in, out
}

// greeted is whether a client is served, now or as soon as the machine can.
func greeted(c *C, client *Conn) bool {
	const soon = 400 * time.Millisecond
	for knocked := c.stopwatch(); knocked.fair() < soon; {
		err := client.HearWithin("hello", soon/4)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err == nil
		}
	}
	return false
}

// welcome reports whether a new client is served.
func welcome(c *C, p *Proxy) bool {
	client, err := c.TryDial(p.Addr())
	if err != nil {
		return false
	}
	if client.HearWithin("hello", 500*time.Millisecond) != nil {
		client.Close()
		return false
	}
	return true
}

func echo(client *Conn) error {
	if err := client.Say("still there?"); err != nil {
		return err
	}
	return client.Hear("still there?")
}

func connectionLimit(c *C) {
	const limit = 10
	b := c.Greet("hello")
	p := c.Start(Config{Backends: []string{b.Addr}, MaxConns: limit})
	var clients []*Conn
	for range limit {
		client, _, err := hello(c, p, "hello")
		c.Must(err)
		clients = append(clients, client)
	}
	if over, err := c.TryDial(p.Addr()); err == nil { // else ended already
		if _, err := over.Ended(c.within(2 * time.Second)); err != nil {
			c.Fatalf("one client over the limit: %v", err)
		}
	}
	for _, client := range clients {
		c.Must(echo(client))
	}
	clients[0].Close()
	c.Wait(c.within(3*time.Second), "the freed slot to serve a client", func() bool { return welcome(c, p) })
}

// full judges a proxy that has no descriptors left: it rests, serves the flows
// that it has, and takes new ones when some have ended.
func full(c *C, p *Proxy, in, out []*Conn) {
	// More clients knock, and wait or are ended as the proxy likes.
	for range 10 {
		if client, err := c.TryDial(p.Addr()); err == nil {
			out = append(out, client)
		}
	}
	const window = 700 * time.Millisecond
	if spins, spent := p.Spins(window); spins && !c.o.Instrumented {
		c.Fatalf("it spins when descriptors run out: %v of processor time in %v", spent, window)
	}
	for _, client := range in {
		c.Must(echo(client))
	}
	for _, client := range out {
		client.Close()
	}
	for _, client := range in[:len(in)/2+1] {
		client.Close()
	}
	c.Wait(c.within(5*time.Second), "new clients to be served after others have left", func() bool { return welcome(c, p) })
	for _, client := range in[len(in)/2+1:] {
		c.Must(echo(client))
	}
}

// fewDescriptors starts the proxy with a small limit, which it may take into
// account.
func fewDescriptors(c *C) {
	const nofile = 300 // HAProxy wants 264 to start at all
	b := c.Greet("hello")
	p := c.Start(Config{Backends: []string{b.Addr}, Nofile: nofile, Workers: 1})
	in, out := served(c, p, nofile)
	if len(in) < nofile/8 || len(in) == nofile {
		c.Fatalf("with %d descriptors %d clients are served", nofile, len(in))
	}
	full(c, p, in, out)
}

// descriptorsRunOut lowers the limit of the running proxy, so that none of its
// precautions hold and the kernel says EMFILE: to accept when an even number
// of descriptors is left, and to the connect that follows when it is odd.
func descriptorsRunOut(c *C) {
	b := c.Greet("hello")
	for _, spare := range []int{8, 9} {
		p := c.Start(Config{Backends: []string{b.Addr}, Workers: 1})
		var before []*Conn
		for range 20 {
			client, _, err := hello(c, p, "hello")
			c.Must(err)
			before = append(before, client)
		}
		if err := p.LimitDescriptors(spare); err != nil {
			c.Skipf("the limit of a running process cannot be set: %v", err)
		}
		in, out := served(c, p, 40)
		if len(in) > spare/2 {
			c.Fatalf("%d more clients are served with %d descriptors", len(in), spare)
		}
		full(c, p, append(before, in...), out)
	}
}
