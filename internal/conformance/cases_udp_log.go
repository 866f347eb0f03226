//go:build linux

package conformance

import (
	"slices"
	"strings"
	"time"
)

func udpLogCases() []Case {
	const group = "UDP access log"
	return []Case{
		{Name: "udp-log-counts-bytes", Group: group, Run: udpLogCounts},
		{Name: "udp-log-says-how-a-flow-ended", Group: group, Run: udpLogEnds},
		{Name: "udp-log-says-who-was-evicted", Group: group, Run: udpLogEvicted},
		{Name: "udp-log-names-the-backend-that-was-asked", Group: group, Run: udpLogRefused},
	}
}

func udpLogCounts(c *C) {
	b := c.UDPBackend()
	p := through(c, Config{AccessLog: true, IdleTimeout: 5 * time.Second}, b)
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
		"end": "idle", "bytes_up": 5 + 1 + 1472 + maxDatagramV4, "bytes_down": 7 + 9000, "tries": 1,
		"listener": strings.TrimPrefix(p.Addr(), "udp://"), "backend": b.Addr, "network": "udp",
	})
}

func udpLogEnds(c *C) {
	b := c.Names("b")
	p := through(c, Config{AccessLog: true, Replies: 1}, b)
	client := c.Client(p)
	_, err := client.Ask("who?")
	c.Must(err)
	logged(c, p, client.Addr, map[string]any{"end": "replied", "bytes_up": 4, "backend": b.Addr})

	dead := c.DeadUDP()
	p = through(c, Config{AccessLog: true, Backends: []string{dead}})
	client = c.Client(p)
	c.Must(client.Say("who?"))
	logged(c, p, client.Addr, map[string]any{"end": "refused", "bytes_up": 0, "bytes_down": 0, "backend": dead})

	a, streams := streamChecked(c, "a")
	p = through(c, Config{AccessLog: true, Health: true}, a)
	client = c.Client(p)
	_, err = client.Ask("who?")
	c.Must(err)
	streams.Vanish()
	logged(c, p, client.Addr, map[string]any{"end": "backend-down", "bytes_up": 4, "backend": a.Addr})

	b, mute := mutable(c)
	p = through(c, Config{AccessLog: true, DrainTimeout: time.Second}, b)
	client = c.Client(p)
	c.Must(client.Say("mute")) // a flow that is owed an answer is ended by the deadline alone
	takeMute(c, mute, "mute")
	p.Drain()
	logged(c, p, client.Addr, map[string]any{"end": "drain", "backend": b.Addr})
	exitsWell(c, p, c.within(3*time.Second))
}

// udpLogRefused has a dead backend and a live one. The live one receives what clients
// send. Few clients try the dead one, and it has one line of its own.
func udpLogRefused(c *C) {
	dead, b := c.DeadUDP(), c.Names("b")
	p := through(c, Config{AccessLog: true, Replies: 1, Backends: []string{dead}}, b)
	const clients = 20
	tries := 0.0
	for range clients {
		client := c.Client(p)
		_, err := client.Ask("who?")
		c.Must(err)
		fields := logged(c, p, client.Addr, map[string]any{"end": "replied", "bytes_up": 4, "backend": b.Addr})
		tries += fields["tries"].(float64) - 1
	}
	if tries > clients/4 {
		c.Fatalf("the backend that refuses was tried by %.0f of %d clients", tries, clients)
	}
	lines := p.AccessLog("msg", "backend")
	lines = slices.DeleteFunc(lines, func(m map[string]any) bool { return m["backend"] != dead })
	if len(lines) != 1 || !strings.Contains(lines[0]["msg"].(string), "refuses datagrams") {
		c.Fatalf("of the backend that refuses is logged: %v", lines)
	}
}

func udpLogEvicted(c *C) {
	b, mute := mutable(c)
	p := through(c, Config{AccessLog: true, Workers: 1, MaxFlows: 1}, b)
	silent := c.Client(p)
	c.Must(silent.Say("mute"))
	takeMute(c, mute, "mute")
	f := askAgain(c, p)
	logged(c, p, silent.Addr, map[string]any{"end": "evicted", "bytes_up": 4, "bytes_down": 0, "backend": b.Addr})
	outside(c, b, c.Client(p), []keptFlow{f}, time.Minute)
	c.Must(f.Stays(f.first))
}
