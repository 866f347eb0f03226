//go:build linux

package conformance

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

func udpTimeCases() []Case {
	const group = "UDP time"
	return []Case{
		{Name: "udp-idle-flow-expires", Group: group, Run: idleExpires},
		{Name: "udp-use-keeps-a-flow", Group: group, Run: useKeeps},
		{Name: "udp-unreplied-flow-expires-sooner", Group: group, Run: unrepliedExpires},
		{Name: "udp-flow-ends-after-its-replies", Group: group, Run: endsAfterReplies},
		{Name: "udp-two-questions-at-once", Group: group, Run: twoQuestions},
		{Name: "udp-reused-client-port-sees-no-old-reply", Group: group, Run: reusedPort},
		{Name: "udp-drain-lets-flows-finish", Group: group, Run: udpDrainFinishes},
		{Name: "udp-drain-deadline-cuts", Group: group, Run: udpDrainDeadline},
		{Name: "udp-drain-gives-the-address-up", Group: group, Run: func(c *C) { drainGivesUp(c, "127.0.0.1") }},
		{Name: "udp-drain-gives-all-addresses-up", Group: group, Run: func(c *C) { drainGivesUp(c, "*") }},
		{Name: "udp-drain-gives-the-address-up-ipv6", Group: group, Run: func(c *C) { drainGivesUp(c, "::1") }},
	}
}

// idleExpires counts what the proxy holds for a hundred flows: nothing when
// they have been silent for long enough.
func idleExpires(c *C) {
	b := c.Names("b")
	p := through(c, Config{IdleTimeout: time.Second}, b)
	_, err := c.Client(p).AskAgain("one")
	c.Must(err)
	c.Wait(2*c.patience(), "the first flow to expire", func() bool { return HasNoUpstreams(b.Addr) })
	empty := p.Descriptors()
	var clients []*Client
	for range 100 {
		clients = append(clients, c.Client(p))
	}
	for range 2 { // what has expired begins anew
		var last stopwatch
		for i := range clients {
			last = c.stopwatch()
			_, err := clients[i].AskAgain(fmt.Sprint("client ", i))
			c.Must(err)
		}
		judgeIdle(c, p)
		c.Wait(c.within(5*time.Second), "the sockets and ports of 100 idle flows to be returned", func() bool {
			return HasNoUpstreams(b.Addr) && p.Descriptors().Sockets <= empty.Sockets
		})
		aboutOneSecond(c, last)
		if now := p.Descriptors().All; now > empty.All+8 {
			c.Fatalf("%d descriptors, %d before", now, empty.All)
		}
	}
}

// useKeeps uses a flow in one direction only, for longer than the idle timeout. No
// pause comes near the timeout, so it must stay the same flow.
func useKeeps(c *C) {
	b := c.UDPBackend()
	const idle = 2 * time.Second
	p := through(c, Config{IdleTimeout: idle}, b)
	used := time.Now()
	up, upServer := flow(c, p, b, c.Client(p))
	down, downServer := flow(c, p, b, c.Client(p))
	for range 25 {
		c.keeps(used, idle)
		used = time.Now()
		c.Must(up.Send(up.to, []byte("tick")))
		c.mustWithin(idle, used, arrives(upServer, upServer, []byte("tick")))
		c.Must(downServer.Send(downServer.to, []byte("tock")))
		c.mustWithin(idle, used, arrives(down, down, []byte("tock")))
		c.Sleep(100 * time.Millisecond)
	}
}

// mutable is a backend that answers all requests except those that ask for silence. It
// keeps the origin of each of those.
func mutable(c *C) (b *UDP, mute chan Datagram) {
	mute = make(chan Datagram, 1<<10)
	b = c.ServeUDP(func(b *UDP, d Datagram) {
		if string(d.Data[:min(4, len(d.Data))]) == "mute" {
			mute <- Datagram{slices.Clone(d.Data), d.From}
			return
		}
		b.Send(d.From, named("b", d))
	})
	return b, mute
}

// takeMute waits for the request of that text.
func takeMute(c *C, mute chan Datagram, text string) Datagram {
	select {
	case d := <-mute:
		if string(d.Data) != text {
			c.Fatalf("backend: got %.40q, want %q", d.Data, text)
		}
		return d
	case <-time.After(c.patience()):
		c.Fatalf("backend: %q did not arrive", text)
	case <-c.ctx.Done():
	}
	return Datagram{}
}

func unrepliedExpires(c *C) {
	b, mute := mutable(c)
	p := through(c, Config{IdleTimeout: time.Minute, UnrepliedTimeout: time.Second}, b)
	replied := c.Client(p)
	before, err := replied.Ask("who?")
	c.Must(err)
	unreplied := c.Client(p)
	start := c.stopwatch()
	c.Must(unreplied.Say("mute"))
	old := takeMute(c, mute, "mute")
	c.Wait(c.within(5*time.Second), "the unreplied flow to end", func() bool { return Upstreams(b.Addr) == 1 })
	aboutOneSecond(c, start)
	c.Must(b.Send(old.From, []byte("too late")))
	c.Must(unreplied.Silent(200 * time.Millisecond))
	c.Must(replied.Stays(before))
	// The one that gets its reply this time lives as long as others.
	now, err := unreplied.AskAgain("who?")
	c.Must(err)
	c.Sleep(1500 * time.Millisecond)
	c.Must(unreplied.Stays(now))
	c.Must(replied.Stays(before))
}

// endsAfterReplies sends one reply more than a flow is for.
func endsAfterReplies(c *C) {
	b := c.UDPBackend()
	p := through(c, Config{Replies: 2, IdleTimeout: time.Minute}, b)
	client := c.Client(p)
	for range 3 {
		c.Must(client.Say("question"))
		d, err := b.Receive()
		c.Must(err)
		for _, text := range []string{"one", "two", "three"} {
			c.Must(b.Send(d.From, []byte(text)))
		}
		c.Must(client.Hear("one"))
		c.Must(client.Hear("two"))
		c.Must(client.Silent(150 * time.Millisecond))
		c.Wait(c.patience(), "the flow to end", func() bool { return HasNoUpstreams(b.Addr) })
	}
}

// twoQuestions asks twice from one port before the first answer, as the C library's
// resolver does for A and AAAA. A flow of one reply to a request must deliver both.
func twoQuestions(c *C) {
	b := c.UDPBackend()
	p := through(c, Config{Replies: 1, IdleTimeout: time.Minute}, b)
	client := c.Client(p)
	for range 5 {
		c.Must(client.Say("A?"))
		c.Must(client.Say("AAAA?"))
		first, err := b.Receive()
		c.Must(err)
		second, err := b.Receive()
		c.Must(err)
		c.Must(b.Send(first.From, append([]byte("answer to "), first.Data...)))
		c.Must(b.Send(second.From, append([]byte("answer to "), second.Data...)))
		c.Must(client.Hear("answer to A?"))
		c.Must(client.Hear("answer to AAAA?"))
		c.Wait(c.patience(), "the flow to end", func() bool { return HasNoUpstreams(b.Addr) })
	}
}

// reusedPort opens a flow, lets it end, and opens another from the same client
// port. What the backend still sends to the first must not reach the second.
func reusedPort(c *C) {
	for _, x := range []struct {
		how string
		cfg Config
	}{
		{"its idle timeout", Config{IdleTimeout: time.Second}},
		{"its reply", Config{Replies: 1}},
	} {
		b := c.UDPBackend()
		p := through(c, x.cfg, b)
		for range 2 {
			// A client that asks too late meets a flow that has ended.
			used := time.Now()
			hear := func(client *Client, text string) {
				c.mustWithin(cmp.Or(x.cfg.IdleTimeout, time.Hour), used, client.Hear(text))
			}
			client := c.Client(p)
			c.Must(client.Say("first"))
			old, err := b.Receive()
			c.Must(err)
			c.Must(b.Send(old.From, []byte("reply to first")))
			hear(client, "reply to first")
			port := client.UDP.Addr
			c.Must(client.Vanish())
			c.Wait(c.within(5*time.Second), "the flow to end by "+x.how, func() bool { return HasNoUpstreams(b.Addr) })

			client, err = c.TryClient(p, port)
			c.Must(err)
			used = time.Now()
			c.Must(client.Say("second"))
			d, err := b.Receive()
			c.Must(err)
			if d.From == old.From {
				continue // the kernel chose the port again, which is indistinguishable
			}
			for range 5 {
				c.Must(b.Send(old.From, []byte("late reply to first")))
			}
			c.Must(client.Silent(100 * time.Millisecond))
			c.Must(b.Send(d.From, []byte("reply to second")))
			hear(client, "reply to second")
			c.Wait(c.within(5*time.Second), "the flow to end by "+x.how, func() bool { return HasNoUpstreams(b.Addr) })
		}
	}
}

// drainSilence is the silence that ends a flow while a proxy drains, at the least.
const drainSilence = time.Second

// drainsOn asks through the flows of a draining proxy, which must not end while they
// are used.
func drainsOn(c *C, p *Proxy, flows []keptFlow) {
	outlives(c, p, flows)
	stay(c, flows, drainSilence, func() { outlives(c, p, flows) })
}

// outlives fails when a proxy that drains has ended although a flow was in use. When that
// is judged does not matter: until then the flow was silent for no longer than that.
func outlives(c *C, p *Proxy, flows []keptFlow) {
	if !p.hasEnded() {
		return
	}
	for _, f := range flows {
		if p.ended.Sub(f.used) < drainSilence*3/4 {
			c.Fatalf("the proxy died while flows were in use")
		}
	}
}

// turnsAway waits until a new client gets no answer while flows go on. Each new
// one that gets an answer is a flow of its own.
func turnsAway(c *C, p *Proxy, flows []keptFlow) {
	c.Wait(c.within(5*time.Second), "new clients to be turned away", func() bool {
		drainsOn(c, p, flows)
		_, err := c.Client(p).AskWithin("hello?", 200*time.Millisecond)
		return err != nil
	})
}

// udpDrainFinishes drains. Clients with a flow continue, new ones get no answer, and
// the process ends when the flows are silent.
func udpDrainFinishes(c *C) {
	p := through(c, Config{IdleTimeout: 2 * time.Second, DrainTimeout: 5 * time.Minute}, c.Names("a"), c.Names("b"))
	var flows []keptFlow
	for range 4 {
		flows = append(flows, askNew(c, p, c.host(1)))
	}
	p.Drain()
	turnsAway(c, p, flows)
	for range 20 {
		drainsOn(c, p, flows)
		c.Sleep(50 * time.Millisecond)
	}
	exitsWell(c, p, c.within(6*time.Second))
}

func udpDrainDeadline(c *C) {
	p := through(c, Config{DrainTimeout: time.Second}, c.Names("b"))
	client := c.Client(p)
	before, err := client.Ask("who?")
	c.Must(err)
	start := c.stopwatch()
	p.Drain()
	for {
		over := p.hasEnded() // before it was asked
		a, err := client.AskWithin("who?", 200*time.Millisecond)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && over:
			drainedInTime(c, p, start)
			exitsWell(c, p, time.Second)
			return
		case errors.Is(err, os.ErrDeadlineExceeded): // just cut, or late
		case err != nil:
			c.Must(err)
		case a != before:
			c.Fatalf("the flow has changed during the drain")
		}
		if start.took() > c.within(5*time.Second) {
			c.Fatalf("a flow lives on %v after the signal, the deadline is 1s", start.took().Round(time.Second))
		}
		c.Sleep(20 * time.Millisecond)
	}
}

// drainGivesUp starts a successor on the address of a draining proxy. The successor
// serves new clients, and existing flows continue. Late answers still arrive, from the
// address that was asked.
func drainGivesUp(c *C, host string) {
	if host == "::1" {
		needIPv6(c)
	}
	cfg := Config{Listen: []Listener{{Network: "udp", Host: host}}, DrainTimeout: 5 * time.Minute}
	b, mute := mutable(c)
	p := through(c, cfg, b)
	client := func() *Client {
		if host == "::1" {
			e, err := c.TryClient(p, "[::1]:0")
			c.Must(err)
			return e
		}
		return c.Client(p)
	}
	user, asker := client(), client()
	before, err := user.Ask("who?")
	c.Must(err)
	var owed []Datagram
	for _, e := range []*Client{user, asker} {
		c.Must(e.Say("mute"))
		owed = append(owed, takeMute(c, mute, "mute"))
	}
	p.Drain()
	start := c.stopwatch()
	c.Wait(c.within(5*time.Second), "the address to be given up", func() bool { return !p.isListening() })
	through(c, cfg, c.Names("successor"))
	for i := range 100 {
		a, err := client().Ask("who?")
		if err != nil || a.Backend != "successor" {
			c.Fatalf("new client %d: answer of %q (%v), want the successor's", i, a.Backend, err)
		}
	}
	for start.took() < 2*drainSilence {
		c.Must(user.Stays(before))
		c.Must(user.Say("mute"))
		owed[0] = takeMute(c, mute, "mute")
		c.Sleep(200 * time.Millisecond)
	}
	c.Sleep(drainSilence + 500*time.Millisecond)
	for i, e := range []*Client{user, asker} {
		c.Must(b.Send(owed[i].From, []byte("late")))
		c.Must(e.Hear("late"))
	}
	exitsWell(c, p, c.within(6*time.Second))
	a, err := user.Ask("who?")
	if c.Must(err); a.Backend != "successor" {
		c.Fatalf("%q has answered who came after the end, want the successor", a.Backend)
	}
}
