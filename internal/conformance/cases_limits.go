//go:build linux

package conformance

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

func limitCases() []Case {
	const group = "limits"
	return []Case{
		{Name: "connection-limit", Group: group, Run: connectionLimit},
		{Name: "few-descriptors", Group: group, Run: fewDescriptors},
		{Name: "descriptors-run-out", Group: group, Run: descriptorsRunOut},
		{Name: "descriptors-run-out-on-many-ports", Group: group, Heavy: true, Limit: 3 * time.Minute, Run: descriptorsRunOutOnManyPorts},
		{Name: "stalled-downloads-leave-room", Group: group, Heavy: true, Run: func(c *C) { stalledDownloads(c, false) }},
		{Name: "stalled-downloads-leave-room-unprivileged", Group: group, Heavy: true, Run: func(c *C) { stalledDownloads(c, true) }},
	}
}

// served opens flows until several in a row get no greeting, which means that
// the proxy is full. It returns the flows and the clients left outside, waiting
// or ended.
func served(c *C, p *Proxy, atMost int) (in, out []*Conn) {
	c.Step("the proxy to be full")
	for turnedAway := 0; turnedAway < 2 && len(in) < atMost; {
		client, err := c.TryDial(p.Addr())
		if err == nil && isGreeted(c, client) {
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

// isGreeted reports whether a client is served, now or as soon as the machine can.
func isGreeted(c *C, client *Conn) bool {
	const soon = 400 * time.Millisecond
	for knocked := c.stopwatch(); knocked.fair() < soon; {
		err := client.HearWithin("hello", soon/4)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err == nil
		}
	}
	return false
}

// canConnect reports whether a new client is served.
func canConnect(c *C, p *Proxy) bool {
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
	c.Wait(c.within(3*time.Second), "the freed slot to serve a client", func() bool { return canConnect(c, p) })
}

// full judges a proxy that has no descriptors left. It rests, serves the flows that it
// has, and accepts new ones when some have ended.
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
	c.Wait(c.within(5*time.Second), "new clients to be served after others have left", func() bool { return canConnect(c, p) })
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

// descriptorsRunOut lowers the limit of the running proxy below its own precautions,
// so that the kernel returns EMFILE. With an even number of descriptors left accept
// fails, with an odd one the connect that follows.
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

// descriptorsRunOutOnManyPorts has clients connect to every port of a range when
// descriptors have run out. The wait for descriptors must not cost processor time for
// each port.
func descriptorsRunOutOnManyPorts(c *C) {
	const ports, spare = 2000, 8
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); limit.Cur < 3*ports {
		c.Skipf("needs a descriptor limit of %d", 3*ports)
	}
	b := c.Greet("hello")
	r := c.Rand(0)
	host := fmt.Sprintf("127.%d.%d.%d", 64+r.IntN(64), r.IntN(256), 1+r.IntN(254)) // nobody else's
	p := c.Start(Config{
		Listen:   []Listener{{Host: host, Port: firstRange, Ports: ports}},
		Backends: []string{b.Addr}, Workers: 1,
	})
	if err := p.LimitDescriptors(spare); err != nil {
		c.Skipf("the limit of a running process cannot be set: %v", err)
	}
	var clients []*Conn
	for _, addr := range p.Addrs() {
		client, err := c.TryDial(addr)
		if errors.Is(err, unix.ECONNRESET) {
			continue // it was turned away for lack of a descriptor
		}
		c.Must(err)
		clients = append(clients, client)
	}
	c.Sleep(300 * time.Millisecond)
	const window = 1500 * time.Millisecond
	before := p.CPU()
	c.Sleep(window)
	if spent := p.CPU() - before; spent > window/20 && !c.o.Instrumented {
		c.Fatalf("it spends %v of processor time in %v of waiting for descriptors", spent, window)
	}
	for _, client := range clients {
		client.Close()
	}
	// On a slow machine it takes long to turn to each of those.
	c.Wait(c.within(40*time.Second), "new clients to be served after others have left", func() bool { return canConnect(c, p) })
}

// stalledDownloads fills nine tenths of the flows that a proxy with few descriptors
// has room for. Each client reads nothing of what its backend sends. The buffered
// bytes must not use descriptors that new clients need. An ordinary user has another
// budget for pipes than root.
func stalledDownloads(c *C, asNobody bool) {
	const nofile = 300 // HAProxy wants 264 to start at all
	var sent atomic.Int64
	b := c.Serve(func(e *Conn) {
		if e.Say("hello") != nil || e.Hear("more") != nil {
			return
		}
		e.SetDeadline(time.Time{})
		for block := make([]byte, 256*kib); ; {
			n, err := e.Write(block)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	p := c.Start(Config{Backends: []string{b.Addr}, Nofile: nofile, Workers: 2, AsNobody: asNobody})
	sockets := p.Descriptors().Sockets
	in, out := served(c, p, nofile)
	for _, client := range append(in, out...) {
		client.Close()
	}
	settled(c, p, sockets, b)

	for i := range len(in) * 9 / 10 {
		client, _, err := hello(c, p, "hello")
		if err == nil {
			err = client.Say("more")
		}
		if err != nil {
			c.Fatalf("download %d, and there was room for %d flows: %v", i+1, len(in), err)
		}
	}
	c.WaitStill("all downloads to stall", sent.Load)
	c.Step("a newcomer beside %d stalled downloads", len(in)*9/10)
	for range max(len(in)/20, 1) {
		_, _, err := hello(c, p, "hello")
		c.Must(err)
	}
}
