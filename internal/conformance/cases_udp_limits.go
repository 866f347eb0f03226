//go:build linux

package conformance

import (
	"errors"
	"fmt"
	"os"
	"time"
)

func udpLimitCases() []Case {
	const group = "UDP limits"
	return []Case{
		{Name: "udp-flow-limit", Group: group, Run: func(c *C) { flowLimit(c, Config{MaxFlows: 6}) }},
		{Name: "udp-connection-limit", Group: group, Run: func(c *C) { flowLimit(c, Config{MaxConns: 6}) }},
		{Name: "udp-oldest-unreplied-flow-goes-first", Group: group, Run: func(c *C) { oldestUnreplied(c, Config{MaxFlows: 6}) }},
		{Name: "udp-oldest-unreplied-goes-from-a-full-table", Group: group, Run: func(c *C) { oldestUnreplied(c, Config{MaxConns: 6}) }},
		{Name: "udp-client-flow-limit", Group: group, Run: clientFlowLimit},
		{Name: "udp-descriptors-run-out", Group: group, Run: udpDescriptorsRunOut},
	}
}

// keptFlow is a flow that must not change.
type keptFlow struct {
	*Client
	first Answer
}

func askNew(c *C, p *Proxy, local string) keptFlow {
	client, err := c.TryClient(p, local+":0")
	c.Must(err)
	a, err := client.Ask("who?")
	c.Must(err)
	return keptFlow{client, a}
}

// allStay asks through flows that end when they are silent for idle.
func allStay(c *C, flows []keptFlow, idle time.Duration) { stay(c, flows, idle, func() {}) }

// stay is allStay, which has unanswered say first why there may be no answer.
func stay(c *C, flows []keptFlow, idle time.Duration, unanswered func()) {
	for _, f := range flows {
		c.keeps(f.used, idle)
		// What is lost after that can no longer be why there is no answer.
		asked := c.stopwatch()
		now, err := f.AskWithin("still there?", idle)
		if err != nil {
			unanswered()
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && asked.took()-asked.fair() > idle/2 {
			c.Skipf("this machine is too slow: a question may have come when the flow had ended after %v of silence", idle)
		}
		if err == nil && now != f.first {
			err = f.errorf("the flow went to backend %s from port %d and now to %s from port %d", f.first.Backend, f.first.Port, now.Backend, now.Port)
		}
		c.Must(err)
	}
}

// outside fails when a client without a place gets through while flows have all
// places. Flows end when they are silent for idle.
func outside(c *C, b *UDP, client *Client, flows []keptFlow, idle time.Duration) {
	before := b.over.Load()
	for range 3 {
		c.Must(client.Say(letMeIn))
		if err := client.Silent(100 * time.Millisecond); err != nil {
			allHeard(c, flows, idle)
			c.Must(err)
		}
	}
	if now := b.over.Load(); now != before {
		allHeard(c, flows, idle)
		c.Fatalf("%d datagrams of a client over the limit got through", now-before)
	}
}

func allHeard(c *C, flows []keptFlow, idle time.Duration) {
	for _, f := range flows {
		c.keeps(f.used, idle)
	}
}

// flowLimit fills a service with flows that have got their replies. A new client is
// refused, and served when a flow has expired.
func flowLimit(c *C, cfg Config) {
	b := c.Names("b")
	cfg.Workers, cfg.IdleTimeout = 1, 3*time.Second
	p := through(c, cfg, b)
	const limit = 6
	var flows []keptFlow
	for range limit {
		flows = append(flows, askNew(c, p, c.host(1)))
	}
	over := c.Client(p)
	outside(c, b, over, flows, cfg.IdleTimeout)
	allStay(c, flows, cfg.IdleTimeout)
	flows = flows[1:] // the first falls silent
	c.Wait(c.within(8*time.Second), "the place of an expired flow to serve a client", func() bool {
		allStay(c, flows, cfg.IdleTimeout)
		_, err := over.AskWithin("who?", 200*time.Millisecond)
		return err == nil
	})
	allStay(c, flows, cfg.IdleTimeout)
	outside(c, b, c.Client(p), flows, cfg.IdleTimeout)
}

// oldestUnreplied fills half of a service with flows that wait for a reply. A new
// client takes the place of the oldest of them, once that has waited long enough. It
// is refused only when no such flow is left.
func oldestUnreplied(c *C, cfg Config) {
	b, mute := mutable(c)
	cfg.Workers = 1
	p := through(c, cfg, b)
	var flows []keptFlow
	for range 3 {
		flows = append(flows, askNew(c, p, c.host(1)))
	}
	var waiting [3]*Client
	var from [3]Datagram
	for i := range waiting {
		text := fmt.Sprint("mute ", i)
		waiting[i] = c.Client(p)
		c.Must(waiting[i].Say(text))
		from[i] = takeMute(c, mute, text)
	}
	flows = append(flows, askAgain(c, p))
	for i, d := range from {
		c.Must(b.Send(d.From, []byte("at last")))
		if i > 0 {
			c.Must(waiting[i].Hear("at last"))
			a, err := waiting[i].Ask("who?")
			c.Must(err)
			if a.Port != d.From.Port() {
				c.Fatalf("unreplied flow %d of 3 was evicted, only the oldest should be", i+1)
			}
			flows = append(flows, keptFlow{waiting[i], a})
		}
	}
	c.Must(waiting[0].Silent(100 * time.Millisecond))
	allStay(c, flows, time.Minute)
	outside(c, b, c.Client(p), flows, time.Minute)
	allStay(c, flows, time.Minute)
}

func clientFlowLimit(c *C) {
	const limit, idle = 3, 3 * time.Second
	b := c.Names("b")
	p := through(c, Config{MaxClientFlows: limit, IdleTimeout: idle}, b)
	var flows []keptFlow
	for range limit {
		flows = append(flows, askNew(c, p, c.host(5)))
	}
	over, err := c.TryClient(p, c.host(5)+":0")
	c.Must(err)
	outside(c, b, over, flows, idle)
	for range limit {
		flows = append(flows, askNew(c, p, c.host(6)))
	}
	allStay(c, flows, idle)
	flows = flows[1:]
	c.Wait(c.within(8*time.Second), "the place of an expired flow to serve its client", func() bool {
		allStay(c, flows, idle)
		_, err := over.AskWithin("who?", 200*time.Millisecond)
		return err == nil
	})
	allStay(c, flows, idle)
}

// udpDescriptorsRunOut leaves a running proxy a few descriptors. They serve flows, the
// proxy does not spin, and it accepts new flows when some have expired.
func udpDescriptorsRunOut(c *C) {
	const spare, idle = 8, 3 * time.Second
	b := c.Names("b")
	p := through(c, Config{Workers: 1, IdleTimeout: idle}, b)
	var flows []keptFlow
	for range 5 {
		flows = append(flows, askNew(c, p, c.host(1)))
	}
	if err := p.LimitDescriptors(spare); err != nil {
		c.Skipf("the limit of a running process cannot be set: %v", err)
	}
	var served []keptFlow
	for range 2 * spare {
		client := c.Client(p)
		if a, err := client.AskWithin("who?", 100*time.Millisecond); err == nil {
			served = append(served, keptFlow{client, a})
		}
		allStay(c, flows, idle) // none expires and makes room
		allStay(c, served, idle)
	}
	if len(served) == 0 || len(served) > spare {
		c.Fatalf("%d clients are served with %d descriptors", len(served), spare)
	}
	const window = time.Second
	if spins, spent := p.Spins(window); spins && !c.o.Instrumented {
		c.Fatalf("it spins when descriptors run out: %v of processor time in %v", spent, window)
	}
	c.Wait(c.within(8*time.Second), "a new client to be served after others have expired", func() bool {
		allStay(c, flows, idle)
		_, err := c.Client(p).AskWithin("who?", 200*time.Millisecond)
		return err == nil
	})
	allStay(c, flows, idle)
}
