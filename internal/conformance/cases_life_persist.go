//go:build linux

package conformance

import (
	"fmt"
	"time"
)

func persistCases() []Case {
	const group = "persistence"
	return []Case{
		{Name: "persist-by-address", Group: group, Run: func(c *C) { persist(c, "tcp", 0) }},
		{Name: "persist-by-prefix", Group: group, Run: func(c *C) { persist(c, "tcp", 24) }},
		{Name: "persist-survives-a-failure", Group: group, Run: func(c *C) { persistMoves(c, "tcp") }},
		{Name: "persist-ends", Group: group, Run: persistEnds},
		{Name: "udp-persist-by-address", Group: group, Run: func(c *C) { persist(c, "udp", 0) }},
		{Name: "udp-persist-by-prefix", Group: group, Run: func(c *C) { persist(c, "udp", 24) }},
		{Name: "udp-persist-survives-a-failure", Group: group, Run: func(c *C) { persistMoves(c, "udp") }},
	}
}

// neighbour returns the i-th loopback address of the n-th /24 of the case.
func (c *C) neighbour(n, i int) string {
	r := c.Rand(8)
	return fmt.Sprintf("127.%d.%d.%d", 128+r.IntN(127), (r.IntN(256)+n)%256, i)
}

// trio is a proxy before three backends, over TCP or UDP.
type trio struct {
	*Proxy
	addrs  []string
	vanish map[string]func() error
	back   map[string]func()
}

func (c *C) trio(network string, cfg Config) trio {
	t := trio{vanish: make(map[string]func() error), back: make(map[string]func())}
	if network == "udp" {
		cfg.Listen = []Listener{{Network: "udp"}}
		cfg.ConnectTimeout = 0
	}
	for _, name := range []string{"a", "b", "c"} {
		if network == "udp" {
			b := c.Names(name)
			t.addrs, t.vanish[name] = append(t.addrs, b.Addr), b.Vanish
			t.back[name] = func() { c.udpBackendOn(b.Addr).answer(name) }
			continue
		}
		b := c.Answers(name)
		t.addrs = append(t.addrs, b.Addr)
		t.vanish[name] = func() error { b.Vanish(); return nil }
		t.back[name] = func() { c.serveOn("tcp", b.Addr, func(e *Conn) { answer(e.Conn, name, 0) }) }
	}
	cfg.Backends = t.addrs
	t.Proxy = c.Start(cfg)
	return t
}

// visit begins a flow of its own from a local address, and says which backend
// it got. A datagram that was lost with its backend is sent again.
func (c *C) visit(p *Proxy, local string) (who string, err error) {
	if !p.udp {
		return c.Visit(p, local)
	}
	client, err := c.TryClient(p, local+":0")
	if err != nil {
		return "", err
	}
	defer client.Close()
	var a Answer
	for range 12 {
		if a, err = client.AskWithin("who?", 400*time.Millisecond); err == nil {
			break
		}
	}
	return a.Backend, err
}

// persist has clients come again and again, among others. Those of one address,
// or of one prefix, are always served by one backend, and not all by the same.
func persist(c *C, network string, bits int) {
	p := c.trio(network, Config{Persist: time.Minute, PersistBits: bits})
	const clients, times = 8, 4
	at, used := make(map[int]string), make(map[string]bool)
	for round := range times {
		for i := range clients {
			local := c.neighbour(0, 1+i)
			if bits > 0 {
				local = c.neighbour(i, 1+round)
			}
			who, err := c.visit(p.Proxy, local)
			c.Must(err)
			if was, ok := at[i]; ok && who != was {
				c.Fatalf("a client of %s was at backend %s and is now at %s", local, was, who)
			}
			at[i], used[who] = who, true
		}
	}
	if len(used) != 3 {
		c.Fatalf("%d clients are kept at %d of 3 backends", clients, len(used))
	}
}

// persistMoves lets a backend vanish. Its clients move together with none of
// the others, and stay where they are when it comes back.
func persistMoves(c *C, network string) {
	p := c.trio(network, Config{Persist: time.Minute, ConnectTimeout: connectBudget4s})
	const clients = 9
	var at [clients]string
	for i := range clients {
		var err error
		at[i], err = c.visit(p.Proxy, c.neighbour(0, 1+i))
		c.Must(err)
	}
	gone := at[0]
	c.Must(p.vanish[gone]())
	round := func(what string) {
		for i := range clients {
			who, err := c.visit(p.Proxy, c.neighbour(0, 1+i))
			c.Must(err)
			switch {
			case at[i] == gone:
				at[i] = who
			case who != at[i]:
				c.Fatalf("%s a client went from backend %s to %s", what, at[i], who)
			}
			if who == gone {
				c.Fatalf("a backend that is gone has answered")
			}
		}
	}
	round("when another backend vanished")
	round("after it had moved")
	p.back[gone]()
	for i := range clients {
		who, err := c.visit(p.Proxy, c.neighbour(0, 1+i))
		c.Must(err)
		if who != at[i] {
			c.Fatalf("when a backend came back a client went from backend %s to %s", at[i], who)
		}
	}
}

// persistEnds waits until the affinity of a client has expired. Its next flow is then
// scheduled like any other.
func persistEnds(c *C) {
	p := c.trio("tcp", Config{Persist: time.Second})
	who := func(i int) string {
		who, err := c.visit(p.Proxy, c.neighbour(0, i))
		c.Must(err)
		return who
	}
	first := who(1)
	last := time.Now()
	moves := 0
	for i := 2; moves == 0; i++ {
		// Others take their turns meanwhile, so that it cannot fall to the same backend for long.
		who(i)
		c.Sleep(1200 * time.Millisecond)
		if now := who(1); now != first {
			moves++
		}
		if time.Since(last) > 2*c.patience() {
			c.Fatalf("a client that was away for longer than it is remembered always goes back to its backend")
		}
	}
}
