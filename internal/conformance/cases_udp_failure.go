//go:build linux

package conformance

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

func udpFailureCases() []Case {
	const group = "UDP backends"
	return []Case{
		{Name: "udp-refused-backend-is-passed-over", Group: group, Run: udpRefused},
		{Name: "udp-refused-datagram-is-not-lost", Group: group, Run: func(c *C) { udpNotLost(c, Config{Scheduler: "rr"}) }},
		{Name: "udp-refused-by-the-first", Group: group, Run: func(c *C) { udpNotLost(c, Config{Scheduler: "fo"}) }},
		{Name: "udp-refused-where-load-is-least", Group: group, Run: func(c *C) { udpNotLost(c, Config{Scheduler: "wlc"}) }},
		{Name: "udp-refused-by-the-hash", Group: group, Run: func(c *C) { udpNotLost(c, Config{Scheduler: "mh"}) }},
		{Name: "udp-refused-before-a-backup", Group: group, Run: udpRefusedBeforeBackup},
		{Name: "udp-refused-with-persistence", Group: group, Run: func(c *C) { udpNotLost(c, Config{Persist: time.Minute}) }},
		{Name: "udp-refused-burst-is-not-lost", Group: group, Run: udpBurstNotLost},
		{Name: "udp-refusing-backend-comes-back", Group: group, Run: udpRefusingComesBack},
		{Name: "udp-backend-vanishes", Group: group, Run: func(c *C) { udpVanishes(c, "rr") }},
		{Name: "udp-backend-vanishes-from-the-hash", Group: group, Run: func(c *C) { udpVanishes(c, "mh") }},
		{Name: "udp-only-backend-comes-back", Group: group, Run: udpComesBack},
		{Name: "udp-down-backend-loses-its-flows", Group: group, Run: udpDown},
		{Name: "udp-down-backend-may-keep-its-flows", Group: group, Run: udpDownKeep},
		{Name: "udp-check-hears-the-refusal", Group: group, Run: checkRefusal},
		{Name: "udp-check-wants-its-reply", Group: group, Run: checkReply},
	}
}

// moved asks through a flow to a backend that is gone. That costs at most one
// datagram: the next one must be answered. It is sent only when the flow has left that
// backend, so that the proxy has had time to notice. Port zero stands for any flow to
// that backend.
func moved(c *C, client *Client, from string, port uint16) Answer {
	a, err := client.AskWithin("who?", 500*time.Millisecond)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.Wait(c.patience(), "a flow to leave a backend that is gone", func() bool {
			return !hasConnected([]string{from}, func(s socket) bool {
				return port == 0 || s.local.Port() == port
			})
		})
		a, err = client.Ask("who?")
	}
	c.Must(err)
	return a
}

// udpRefused has a backend whose machine says that nobody listens. A client
// that it is given to loses one datagram at the most.
func udpRefused(c *C) {
	dead := c.DeadUDP()
	p := through(c, Config{Backends: []string{dead}}, c.Names("b"))
	for range 8 {
		client := c.Client(p)
		c.Must(client.Stays(moved(c, client, dead, 0)))
	}
}

// udpNotLost has a dead backend first and asks by a new flow each time, as resolvers do.
// Each is answered at once.
func udpNotLost(c *C, cfg Config) {
	cfg.Replies = 1
	cfg.Backends = []string{c.DeadUDP()}
	askEach(c, through(c, cfg, c.Names("b")))
}

func udpRefusedBeforeBackup(c *C) {
	askEach(c, c.Start(Config{
		Listen: []Listener{{Network: "udp"}}, Replies: 1,
		Backends: []string{c.DeadUDP(), c.Names("b").Addr + ",backup"},
	}))
}

func askEach(c *C, p *Proxy) {
	for i := range 8 {
		client, err := c.TryClient(p, c.host(1+i)+":0")
		c.Must(err)
		_, err = client.Ask("who?")
		c.Must(err)
	}
}

// udpBurstNotLost sends all at once: what the refusal has met is not lost either, and
// comes in order.
func udpBurstNotLost(c *C) {
	echo := c.ServeUDP(func(b *UDP, d Datagram) { b.Send(d.From, d.Data) })
	p := through(c, Config{Backends: []string{c.DeadUDP()}}, echo)
	for range 2 { // one of them begins at the dead one
		client := c.Client(p)
		const n = 20
		for i := range n {
			c.Must(client.Say(fmt.Sprint("datagram ", i)))
		}
		for i := range n {
			c.Must(client.Hear(fmt.Sprint("datagram ", i)))
		}
	}
}

// udpRefusingComesBack starts a backend where nobody listened.
func udpRefusingComesBack(c *C) {
	dead := c.DeadUDP()
	p := through(c, Config{Replies: 1, Backends: []string{dead}}, c.Names("b"))
	askEach(c, p)
	c.udpBackendOn(dead).answer("a")
	c.Wait(c.within(3*time.Second), "the backend that is there now to be used", func() bool {
		a, err := c.Client(p).AskWithin("who?", time.Second)
		return err == nil && a.Backend == "a"
	})
}

func udpVanishes(c *C, scheduler string) {
	named := map[string]*UDP{"a": c.Names("a"), "b": c.Names("b")}
	p := through(c, Config{Scheduler: scheduler}, named["a"], named["b"])
	type flow struct {
		*Client
		at Answer
	}
	var flows []flow
	count := make(map[string]int)
	for i := 0; i < 100 && min(count["a"], count["b"]) < 4; i++ {
		client, err := c.TryClient(p, c.host(1+i)+":0")
		c.Must(err)
		a, err := client.Ask("who?")
		c.Must(err)
		flows = append(flows, flow{client, a})
		count[a.Backend]++
	}
	if min(count["a"], count["b"]) < 4 {
		c.Fatalf("%d of %d clients are at one backend", count["a"], len(flows))
	}
	c.Must(named["a"].Vanish())
	for _, f := range flows {
		if f.at.Backend == "b" {
			c.Must(f.Stays(f.at))
			continue
		}
		now := moved(c, f.Client, named["a"].Addr, f.at.Port)
		if now.Backend != "b" {
			c.Fatalf("a backend that is gone has answered")
		}
		c.Must(f.Stays(now))
	}
}

// udpComesBack lets the only backend die and come back while a client goes on
// sending. A flow that lived on, kept by the datagrams themselves, would send
// them into nothing for ever.
func udpComesBack(c *C) {
	b := c.Names("first")
	p := through(c, Config{}, b)
	client := c.Client(p)
	_, err := client.Ask("who?")
	c.Must(err)
	c.Must(b.Vanish())
	for range 10 {
		if _, err := client.AskWithin("who?", 50*time.Millisecond); err == nil {
			c.Fatalf("a backend that is gone has answered")
		}
	}
	c.udpBackendOn(b.Addr).answer("second")
	c.Wait(c.within(3*time.Second), "the backend that is back to be used", func() bool {
		a, err := client.AskWithin("who?", 100*time.Millisecond)
		return err == nil && a.Backend == "second"
	})
}

// watched starts a proxy with checks before two backends, and waits until both
// are used. It returns a client that is at a, with its answer.
func watched(c *C, cfg Config, a, b *UDP) (p *Proxy, client *Client, at Answer) {
	cfg.Health = true
	p = through(c, cfg, a, b)
	c.Wait(c.within(5*time.Second), "a client to be given to the first backend", func() bool {
		client = c.Client(p)
		var err error
		at, err = client.AskWithin("who?", time.Second)
		return err == nil && at.Backend == "a"
	})
	c.Wait(c.within(5*time.Second), "a client to be given to the second backend", func() bool {
		x, err := c.Client(p).AskWithin("who?", time.Second)
		return err == nil && x.Backend == "b"
	})
	return p, client, at
}

// leaves waits until new clients are no longer given to backend a.
func leaves(c *C, p *Proxy) {
	away := 0
	c.Wait(c.within(5*time.Second), "the checks to take the backend down", func() bool {
		x, err := c.Client(p).AskWithin("who?", 500*time.Millisecond)
		if away++; err != nil || x.Backend != "b" {
			away = 0
		}
		return away == 6
	})
}

// streamChecked returns a backend whose health check is a TCP connect. It takes
// datagrams even when its TCP side is gone, so no ICMP helps the proxy.
func streamChecked(c *C, name string) (datagrams *UDP, streams *Backend) {
	datagrams = c.Names(name)
	return datagrams, c.serveOn("tcp", datagrams.Addr, func(*Conn) {})
}

func udpDown(c *C) {
	a, streams := streamChecked(c, "a")
	b, _ := streamChecked(c, "b")
	p, client, _ := watched(c, Config{}, a, b)
	streams.Vanish()
	leaves(c, p)
	// The flow has ended without any datagram of its client, so the next one
	// is not lost.
	now, err := client.Ask("who?")
	c.Must(err)
	if now.Backend != "b" {
		c.Fatalf("a backend that is down still has its flow")
	}
	if n := Upstreams(a.Addr); n > 0 {
		c.Fatalf("%d flows to the backend that is down are left", n)
	}
}

func udpDownKeep(c *C) {
	a, streams := streamChecked(c, "a")
	b, _ := streamChecked(c, "b")
	p, client, at := watched(c, Config{OnDown: "keep"}, a, b)
	streams.Vanish()
	leaves(c, p)
	c.Must(client.Stays(at))
}

// checkRefusal asks for checks of a service that has no known question: only an
// ICMP port unreachable fails them. The probe is not a request.
func checkRefusal(c *C) {
	a, b := c.Names("a"), c.Names("b")
	p, client, _ := watched(c, Config{Probe: "udp"}, a, b)
	c.Must(a.Vanish())
	leaves(c, p)
	// New clients leave it with its first refusal, its flows end with the check.
	c.Wait(c.within(5*time.Second), "the check to end the flows", func() bool { return HasNoUpstreams(a.Addr) })
	now, err := client.Ask("who?")
	c.Must(err)
	if now.Backend != "b" {
		c.Fatalf("a backend that is gone has answered")
	}
}

// checkReply has a backend that keeps answering its clients and no longer the
// checks.
func checkReply(c *C) {
	var sick atomic.Bool
	pong := func(name string, sick *atomic.Bool) *UDP {
		return c.ServeUDP(func(b *UDP, d Datagram) {
			switch {
			case !strings.HasPrefix(string(d.Data), "PING\r"):
				b.Send(d.From, named(name, d))
			case sick.Load():
				b.Send(d.From, []byte("-LOADING"))
			default:
				b.Send(d.From, []byte("+PONG\r\n"))
			}
		})
	}
	a, b := pong("a", &sick), pong("b", new(atomic.Bool))
	p, client, _ := watched(c, Config{Probe: `udp:send=PING\r\n,expect=+PONG`}, a, b)
	sick.Store(true)
	leaves(c, p)
	now, err := client.Ask("who?")
	c.Must(err)
	if now.Backend != "b" {
		c.Fatalf("a backend that is down still has its flow")
	}
	sick.Store(false)
	c.Wait(c.within(5*time.Second), "the backend that is well again to be used", func() bool {
		x, err := c.Client(p).AskWithin("who?", 500*time.Millisecond)
		return err == nil && x.Backend == "a"
	})
}
