//go:build linux

package conformance

import (
	"errors"
	"time"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

func byteCases() []Case {
	const group = "bytes"
	return []Case{
		{Name: "server-speaks-first", Group: group, Run: serverSpeaksFirst},
		{Name: "bulk-both-ways", Group: group, Heavy: true, Run: bulkBothWays},
		{Name: "no-stall-after-bulk", Group: group, Alone: true, Run: noStallAfterBulk},
		{Name: "no-stall-at-the-end-of-bulk", Group: group, Alone: true, Run: noStallAtEndOfBulk},
		{Name: "stalled-reader", Group: group, Heavy: true, Run: stalledReader},
		{Name: "both-sides-stalled", Group: group, Heavy: true, Run: bothSidesStalled},
		{Name: "slow-backend-gets-all-of-a-closed-client", Group: group, Run: slowBackendGetsAll},
		{Name: "spliced-as-nobody", Group: group, Heavy: true, Run: splicedAsNobody},
	}
}

func serverSpeaksFirst(c *C) {
	b := c.Backend()
	p := c.Start(Config{Backends: []string{b.Addr}})
	client, server := c.Pair(p, b)
	c.Must(server.Say("220 ready\r\n"))
	c.Must(client.Hear("220 ready\r\n"))
	c.Must(client.Say("QUIT\r\n"))
	c.Must(server.Hear("QUIT\r\n"))
	c.Must(server.Say("221 bye\r\n"))
	c.Must(server.Close())
	c.Must(client.Hear("221 bye\r\n"))
	c.Must(client.Finished())
}

func bulkBothWays(c *C) {
	_, client, server := pairThrough(c)
	n := c.Size(256, 16) * mib
	c.Step("%d bytes each way", n)
	bothWays(c, client, server, n)
	c.Must(client.Finish())
	c.Must(server.Finished())
	c.Must(server.Finish())
	c.Must(client.Finished())
}

// A stall is 40 ms (delayed acknowledgement) or 200 ms (corked segment) in
// each round. A busy machine adds a few slow rounds, never most of them.
const stall = 35 * time.Millisecond

// rounds plays n rounds after begin and fails the case when too many of them are slow.
// A fault of the proxy shows in every round, a busy machine only in some. So rounds
// repeats all of it for a while and accepts one good result. For an instrumented
// proxy, which is slower, most rounds have to be slow.
func rounds(c *C, n int, begin, round func() error) {
	mostSlow, mostTotal := n/20, time.Duration(n)*stall/4
	if c.o.Instrumented {
		mostSlow, mostTotal = n/2, time.Duration(n)*stall
	}
	for started := time.Now(); ; {
		c.Must(begin())
		slow, total := 0, time.Duration(0)
		for i := 0; i < n && slow <= mostSlow && total <= mostTotal; i++ {
			start := time.Now()
			c.Must(round())
			took := time.Since(start)
			total += took
			if took > stall {
				slow++
			}
		}
		if slow <= mostSlow && total <= mostTotal {
			return
		}
		if time.Since(started) > c.patience()/2 {
			c.Fatalf("%d rounds of %d took more than %v, %v together", slow, n, stall, total.Round(time.Millisecond))
		}
	}
}

func noStallAfterBulk(c *C) {
	_, client, server := pairThrough(c)
	for _, way := range []struct{ from, to *Conn }{{client, server}, {server, client}} {
		n, s := 8*mib, c.Stream(3)
		rounds(c, 200, func() error {
			sent := c.Begin(func() error { return way.from.Send(s, n) })
			return errors.Join(way.to.Receive(s, n), sent())
		}, func() error { return Ping(way.to, way.from) })
	}
}

// A proxy that corks what it splices delivers the last odd segment of each
// burst late.
func noStallAtEndOfBulk(c *C) {
	_, client, server := pairThrough(c)
	n, s := 300*kib+7, c.Stream(4)
	for _, way := range []struct{ from, to *Conn }{{client, server}, {server, client}} {
		rounds(c, 60, func() error { return nil }, func() error {
			sent := c.Begin(func() error { return way.from.Send(s, n) })
			return errors.Join(way.to.Receive(s, n), sent())
		})
		c.Must(Ping(way.to, way.from))
	}
}

// stalledReader stops reading a long stream. What the proxy buffers is bounded, the
// proxy does not spin, and the stream continues unharmed.
func stalledReader(c *C) {
	p, client, server := pairThrough(c)
	n, first, s := 256*mib, mib, c.Stream(5)
	before := p.Memory()
	sent := c.Begin(func() error { return server.Send(s, n) })
	c.Must(client.Receive(s, first))
	held := c.WaitStill("the sender to be stopped by the stalled reader", server.Sent) - int64(first)
	if held > 200*mib {
		c.Fatalf("the proxy accepted %d MiB without a reader", held/mib)
	}
	if grown := p.Memory() - before; grown > 32*mib && !c.o.Instrumented {
		c.Fatalf("private memory grew by %d MiB while the reader was stalled", grown/mib)
	}
	judgeIdle(c, p)
	c.Step("the rest of the stream")
	c.Must(client.Receive(s.From(first), n-first))
	c.Must(sent())
	c.Must(Ping(client, server))
}

// judgeIdle checks that an idle proxy uses no processor time.
func judgeIdle(c *C, p *Proxy) {
	const window = 500 * time.Millisecond
	if spins, spent := p.Spins(window); spins && !c.o.Instrumented {
		c.Fatalf("it spins: %v of processor time in %v with nothing to do", spent, window)
	}
}

func bothSidesStalled(c *C) {
	_, client, server := pairThrough(c)
	n := 128 * mib
	up, down := c.Stream(6), c.Stream(7)
	sentUp := c.Begin(func() error { return client.Send(up, n) })
	sentDown := c.Begin(func() error { return server.Send(down, n) })
	c.WaitStill("both senders to be stopped", func() int64 { return client.Sent() + server.Sent() })
	if client.Sent() == int64(n) || server.Sent() == int64(n) {
		c.Fatalf("a sender was never stopped")
	}
	c.Step("both streams to flow again")
	c.Together(
		func() error { return server.Receive(up, n) },
		func() error { return client.Receive(down, n) },
		sentUp, sentDown,
	)
}

// slowBackendGetsAll closes a client before the backend begins to read. The backend
// still receives all bytes sent before the close, and then the end.
func slowBackendGetsAll(c *C) {
	_, client, server := pairThrough(c)
	n, s := 16*mib, c.Stream(8)
	sent := c.Begin(func() error {
		if err := client.Send(s, n); err != nil {
			return err
		}
		return client.Close()
	})
	c.WaitStill("the client to have sent what fits", client.Sent)
	c.Must(server.Receive(s, n))
	c.Must(server.Finished())
	c.Must(sent())
}

// splicedAsNobody moves bulk on more flows at once than an ordinary user has
// large pipes for.
func splicedAsNobody(c *C) {
	b := c.Backend()
	p := c.Start(Config{Backends: []string{b.Addr}, AsNobody: true})
	const flows = 80
	n := c.Size(3*mib, mib)
	type flow struct{ client, server *Conn }
	all := make([]flow, flows)
	for i := range all {
		all[i].client, all[i].server = c.Pair(p, b)
	}
	// All streams begin before any is read, so each direction of each flow has
	// bytes under way at once.
	var waits []func() error
	for i, f := range all {
		up, down := c.Stream(uint64(2*i)), c.Stream(uint64(2*i+1))
		waits = append(waits,
			c.Begin(func() error { return f.client.Send(up, n) }),
			c.Begin(func() error { return f.server.Send(down, n) }),
		)
	}
	c.WaitStill("every stream to begin", func() int64 {
		sum := int64(0)
		for _, f := range all {
			sum += f.client.Sent() + f.server.Sent()
		}
		return sum
	})
	c.Step("every stream to arrive")
	c.Each(2*flows, func(i int) error {
		s := c.Stream(uint64(i))
		if i%2 == 0 {
			return all[i/2].server.Receive(s, n)
		}
		return all[i/2].client.Receive(s, n)
	})
	c.Together(waits...)
}
