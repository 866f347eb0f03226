//go:build linux

package conformance

import (
	"time"
)

func cutCases() []Case {
	const group = "the end of a flow"
	return []Case{
		{Name: "down-backend-keeps-its-flows", Group: group, Run: func(c *C) { down(c, "keep") }},
		{Name: "down-backend-ends-its-flows", Group: group, Run: func(c *C) { down(c, "fin") }},
		{Name: "down-backend-resets-its-flows", Group: group, Run: func(c *C) { down(c, "reset") }},
		{Name: "old-flows-end-in-order", Group: group, Run: oldFlows},
	}
}

// down has checks take a backend down that still serves, and looks at a flow on
// each of the two.
func down(c *C, how string) {
	backends, sick := webServed(c, nil, plain)
	p := c.Start(Config{Backends: backends, Health: true, Probe: "http:/health", OnDown: how})
	withA, withB := at(c, p, "a"), at(c, p, "b")
	sick(true)
	awaitAvoided(c, p, how != "keep")
	switch how {
	case "keep":
		if who, err := withA.Who(); err != nil || who != "a" {
			c.Fatalf("a flow of the backend that is down: %q, %v", who, err)
		}
	case "fin":
		c.Must(withA.Finished())
	case "reset":
		c.Must(withA.WasReset())
	}
	if who, err := withB.Who(); err != nil || who != "b" {
		c.Fatalf("a flow of the other backend: %q, %v", who, err)
	}
}

// oldFlows ends flows that are a second old. A silent one ends cleanly on both sides;
// a busy one ends too. Short clients do not notice.
func oldFlows(c *C) {
	const age = time.Second
	silentEnd := make(chan error, 1)
	b := c.Serve(func(e *Conn) {
		switch who, err := e.line(); {
		case err != nil:
		case who == "silent":
			e.Say("b\n")
			silentEnd <- e.Finished()
		default:
			for e.Say("b\n") == nil {
				if _, err := e.line(); err != nil {
					return
				}
			}
		}
	})
	p := c.Start(Config{Backends: []string{b.Addr}, MaxAge: age})
	start := c.stopwatch()
	l := c.visits(p)
	silent, busy := c.Dial(p), c.Dial(p)
	c.Must(silent.Say("silent\n"))
	c.Must(silent.Hear("b\n"))
	ended := c.Begin(func() error {
		for {
			if _, err := busy.Who(); err != nil {
				return nil
			}
			time.Sleep(10 * time.Millisecond)
			if start.took() > c.within(5*age) {
				return busy.errorf("a flow that is never idle lives on after %v, the limit is %v", start.took(), age)
			}
		}
	})
	c.Must(silent.Finished())
	aboutOneSecond(c, start)
	c.Must(<-silentEnd)
	c.Must(ended())
	aboutOneSecond(c, start)
	l.end()
	t := count(l.of(func(visit) bool { return true }))
	c.Logf("short clients: %v", t)
	if t.failed > 0 || t.served == 0 {
		c.Fatalf("%d short clients of %d failed: %v", t.failed, t.failed+t.served, t.first)
	}
}
