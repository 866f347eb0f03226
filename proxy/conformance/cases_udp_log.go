//go:build linux

package conformance

import (
	"time"
)

func udpLogCases() []Case {
	const group = "UDP access log"
	return []Case{
		{Name: "udp-log-counts-bytes", Group: group, Run: udpLogCounts},
		{Name: "udp-log-says-how-a-flow-ended", Group: group, Run: udpLogEnds},
		{Name: "udp-log-says-who-was-evicted", Group: group, Run: udpLogEvicted},
	}
}

func udpLogCounts(c *C) {
	b := c.UDPBackend()
	p := through(c, Config{AccessLog: true, IdleTimeout: 2 * time.Second}, b)
	client := c.Client(p)
	up, down := flow(c, p, b, client) // 5 bytes up, 7 down
	s := c.Stream(1)
	for _, n := range []int{0, 1, 1472, maxDatagramV4} {
		c.Must(up.Send(up.to, s.at(0, n)))
		c.Must(arrives(down, down, s.at(0, n)))
	}
	c.Must(down.Send(down.to, s.at(0, 9000)))
	c.Must(arrives(up, up, s.at(0, 9000)))
	logged(c, p, client.Addr, map[string]any{
		"end": "idle", "up": 5 + 1 + 1472 + maxDatagramV4, "down": 7 + 9000, "tries": 1, "backend": b.Addr,
	})
}

func udpLogEnds(c *C) {
	b := c.Names("b")
	p := through(c, Config{AccessLog: true, Replies: 1}, b)
	client := c.Client(p)
	_, err := client.Ask("who?")
	c.Must(err)
	logged(c, p, client.Addr, map[string]any{"end": "replied", "up": 4, "backend": b.Addr})

	dead := c.DeadUDP()
	p = through(c, Config{AccessLog: true, Backends: []string{dead}})
	client = c.Client(p)
	c.Must(client.Say("who?"))
	logged(c, p, client.Addr, map[string]any{"end": "refused", "up": 4, "down": 0, "backend": dead})

	a, streams := streamChecked(c, "a")
	p = through(c, Config{AccessLog: true, Health: true}, a)
	client = c.Client(p)
	_, err = client.Ask("who?")
	c.Must(err)
	streams.Vanish()
	logged(c, p, client.Addr, map[string]any{"end": "backend-down", "up": 4, "backend": a.Addr})

	p = through(c, Config{AccessLog: true, DrainTimeout: time.Second}, b)
	client = c.Client(p)
	_, err = client.Ask("who?")
	c.Must(err)
	p.Drain()
	for err == nil { // in use until it is cut
		c.Pause(20 * time.Millisecond)
		_, err = client.AskWithin("who?", 500*time.Millisecond)
	}
	logged(c, p, client.Addr, map[string]any{"end": "drain", "backend": b.Addr})
	exitsWell(c, p, c.within(3*time.Second))
}

func udpLogEvicted(c *C) {
	b, mute := mutable(c)
	p := through(c, Config{AccessLog: true, Workers: 1, MaxFlows: 1}, b)
	silent := c.Client(p)
	c.Must(silent.Say("mute"))
	takeMute(c, mute, "mute")
	f := askAgain(c, p)
	logged(c, p, silent.Addr, map[string]any{"end": "evicted", "up": 4, "down": 0, "backend": b.Addr})
	outside(c, b, c.Client(p), []keptFlow{f}, time.Minute)
	c.Must(f.Stays(f.first))
}
