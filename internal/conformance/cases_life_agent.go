//go:build linux

package conformance

import (
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
)

func agentCases() []Case {
	const group = "what agents say"
	return []Case{
		{Name: "agent-drains", Group: group, Run: func(c *C) { agentTakesOut(c, "drain", "ready") }},
		{Name: "agent-sets-maintenance", Group: group, Run: func(c *C) { agentTakesOut(c, "maint", "ready") }},
		{Name: "agent-takes-down", Group: group, Run: func(c *C) { agentTakesOut(c, "down #disk full", "up") }},
		{Name: "agent-weighs", Group: group, Run: agentWeighs},
	}
}

// agent returns a backend word with an agent, and say, which sets the agent's report.
// The report is neutral at first.
func (c *C) agent(b *Backend) (word string, say func(words string)) {
	var words atomic.Value
	words.Store("up ready")
	a := c.Serve(func(e *Conn) { _ = e.Say(words.Load().(string) + "\n") })
	port := netip.MustParseAddrPort(a.Addr).Port()
	return fmt.Sprintf("%s@100,agent=%d", b.Addr, port), func(w string) { words.Store(w) }
}

// agentTakesOut has an agent take its backend out and bring it back. No client fails, and an
// existing flow survives.
func agentTakesOut(c *C, out, in string) {
	a, say := c.agent(c.Answers("a"))
	b, _ := c.agent(c.Answers("b"))
	p := c.Start(Config{Backends: []string{a, b}, Scheduler: "wrr"})
	held := at(c, p, "a")
	say(out)
	const n = 8
	c.Wait(c.within(4*time.Second), "nobody to get the backend whose agent says "+out, func() bool {
		return sample(c, p, n) == strings.Repeat("b", n)
	})
	if who, err := held.Who(); err != nil || who != "a" {
		c.Fatalf("a flow from before: %q, %v", who, err)
	}
	say(in)
	c.Wait(c.within(4*time.Second), "the backend to be back when its agent says "+in, func() bool {
		return strings.Contains(sample(c, p, n), "a")
	})
	if who, err := held.Who(); err != nil || who != "a" {
		c.Fatalf("the flow from before, afterwards: %q, %v", who, err)
	}
}

// agentWeighs has an agent ask for a quarter of the weight: one client in five.
func agentWeighs(c *C) {
	a, say := c.agent(c.Answers("a"))
	b, _ := c.agent(c.Answers("b"))
	p := c.Start(Config{Backends: []string{a, b}, Scheduler: "wrr"})
	const n = 25
	gets := func(least, most int) func() bool {
		return func() bool {
			got := strings.Count(sample(c, p, n), "a")
			return least <= got && got <= most
		}
	}
	c.Wait(c.within(4*time.Second), "half of the clients", gets(n/2-1, n/2+2))
	say("25%")
	c.Wait(c.within(4*time.Second), "a fifth of the clients", gets(n/5-1, n/5+1))
	say("100%")
	c.Wait(c.within(4*time.Second), "half of the clients again", gets(n/2-1, n/2+2))
}
