//go:build linux

package conformance

import (
	"errors"
	"syscall"
	"time"
)

func timeCases() []Case {
	const group = "time"
	return []Case{
		{Name: "idle-timeout", Group: group, Run: idleTimeout},
		{Name: "one-way-data-is-not-idle", Group: group, Run: oneWayData},
		{Name: "half-close-timeout", Group: group, Run: halfCloseTimeout},
		{Name: "drain-lets-flows-finish", Group: group, Run: drainFinishes},
		{Name: "drain-deadline-cuts", Group: group, Run: drainDeadline},
		{Name: "drain-with-unread-bytes", Group: group, Run: drainUnread},
		{Name: "drain-can-be-cut-short", Group: group, Run: drainCutShort},
	}
}

// aboutOneSecond judges a wait of one second, measured from before it began. It must
// not end early; how late it ends depends on the machine.
func aboutOneSecond(c *C, w stopwatch) {
	late := 3 * time.Second
	if c.o.Instrumented {
		late *= 3
	}
	if took := w.took(); took < 900*time.Millisecond || w.fair() > late {
		c.Fatalf("ended after %v, want about 1s", took.Round(time.Millisecond))
	}
}

func idleTimeout(c *C) {
	b := c.Backend()
	p := c.Start(Config{Backends: []string{b.Addr}, IdleTimeout: time.Second})
	client, server := c.Pair(p, b)
	start := c.stopwatch()
	c.mustWithin(time.Second, start.began, Ping(client, server))
	_, err := client.Ended(c.within(4 * time.Second))
	c.Must(err)
	aboutOneSecond(c, start)
	_, err = server.Ended(c.within(time.Second))
	c.Must(err)
}

// oneWayData goes on for longer than the idle timeout, of which no pause comes
// near.
func oneWayData(c *C) {
	b := c.Backend()
	const idle = 2 * time.Second
	p := c.Start(Config{Backends: []string{b.Addr}, IdleTimeout: idle})
	used := time.Now()
	type way struct{ from, to *Conn }
	down, up := way{}, way{}
	down.to, down.from = c.Pair(p, b)
	up.from, up.to = c.Pair(p, b)
	for range 25 {
		c.keeps(used, idle)
		used = time.Now()
		for _, w := range []way{down, up} {
			c.mustWithin(idle, used, w.from.Say("tick"))
			c.mustWithin(idle, used, w.to.Hear("tick"))
		}
		c.Sleep(100 * time.Millisecond)
	}
	for _, w := range []way{down, up} {
		if _, err := w.to.Ended(c.within(4 * time.Second)); err != nil {
			c.Fatalf("silent at last, and still %v", err)
		}
	}
}

func halfCloseTimeout(c *C) {
	b := c.Backend()
	p := c.Start(Config{Backends: []string{b.Addr}, HalfCloseTimeout: time.Second})
	for _, ended := range []string{"client", "backend"} {
		client, server := c.Pair(p, b)
		c.Must(Ping(client, server))
		from, to := client, server
		if ended == "backend" {
			from, to = server, client
		}
		start := c.stopwatch()
		halfClosed(c, from, to)
		_, err := from.Ended(c.within(4 * time.Second))
		c.Must(err)
		aboutOneSecond(c, start)
	}
}

// refusing waits until the listener is gone and a new client is refused. It
// does not knock before that: a flow of its own would take part in the drain.
func refusing(c *C, p *Proxy) {
	c.Wait(c.within(3*time.Second), "the listener to close", func() bool { return !p.isListening() })
	if _, err := c.TryDial(p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		c.Fatalf("a client that connects during the drain gets %v, want a refusal", err)
	}
}

func exitsWell(c *C, p *Proxy, within time.Duration) {
	c.Step("the proxy to exit")
	code, err := p.Exit(within)
	c.Must(err)
	if code != 0 {
		c.Fatalf("exit status %d after a drain", code)
	}
}

func drainFinishes(c *C) {
	p, client, server := pairWith(c, Config{DrainTimeout: 5 * time.Minute})
	p.Drain()
	refusing(c, p)
	for range 5 {
		c.Must(Ping(client, server))
		c.Sleep(50 * time.Millisecond)
	}
	n, s := 4*mib, c.Stream(1)
	c.Together(
		func() error { return server.Send(s, n) },
		func() error { return client.Receive(s, n) },
	)
	c.Must(server.Close())
	c.Must(client.Finished())
	c.Must(client.Close())
	exitsWell(c, p, c.within(3*time.Second))
}

func drainDeadline(c *C) {
	p, client, server := pairWith(c, Config{DrainTimeout: time.Second})
	start := c.stopwatch()
	p.Drain()
	refusing(c, p)
	for Ping(client, server) == nil {
		if start.took() > c.within(5*time.Second) {
			c.Fatalf("a flow lives on %v after the signal, the deadline is 1s", start.took().Round(time.Second))
		}
		c.Sleep(20 * time.Millisecond)
	}
	drainedInTime(c, p, start)
	exitsWell(c, p, c.within(3*time.Second))
}

// drainedInTime is aboutOneSecond for the deadline of a drain. A process that has ended
// is judged by when it did.
func drainedInTime(c *C, p *Proxy, w stopwatch) {
	if p.hasEnded() {
		if took := p.ended.Sub(w.began); took < 900*time.Millisecond {
			c.Fatalf("ended after %v, want about 1s", took.Round(time.Millisecond))
		}
	}
	aboutOneSecond(c, w)
}

// drainUnread drains while the proxy holds bytes for a reader that is stalled. They
// are part of the flow and must arrive.
func drainUnread(c *C) {
	b := c.Backend()
	p := c.Start(Config{Backends: []string{b.Addr}, DrainTimeout: 5 * time.Minute})
	client, server := c.Pair(p, b)
	n, s := 64*mib, c.Stream(2)
	sent := c.Begin(func() error {
		if err := server.Send(s, n); err != nil {
			return err
		}
		return server.Close()
	})
	c.WaitStill("the backend to be stopped", server.Sent)
	p.Drain()
	refusing(c, p)
	c.Must(client.Receive(s, n))
	c.Must(client.Finished())
	c.Must(client.Close())
	c.Must(sent())
	exitsWell(c, p, c.within(3*time.Second))
}

func drainCutShort(c *C) {
	p, client, server := pairWith(c, Config{DrainTimeout: time.Minute})
	p.Drain()
	refusing(c, p)
	c.Must(Ping(client, server))
	p.Stop()
	_, err := p.Exit(c.within(2 * time.Second))
	c.Must(err)
	_, err = client.Ended(c.within(2 * time.Second))
	c.Must(err)
}
