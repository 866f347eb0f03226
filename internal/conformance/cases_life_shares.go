//go:build linux

package conformance

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

func shareCases() []Case {
	const group = "shares"
	cases := []Case{
		{Name: "weights-share-the-clients", Group: group, Run: weights},
		{Name: "weights-share-the-flows", Group: group, Run: func(c *C) { heldShares(c, "wlc", []int{3, 1}, 1) }},
		{Name: "two-draws-share-the-flows", Group: group, Run: func(c *C) { heldShares(c, "p2c", []int{1, 1, 1, 1}, 4) }},
		{Name: "latency-shares-the-clients", Group: group, Run: latency},
		{Name: "hash-of-a-prefix", Group: group, Run: hashPrefix},
		{Name: "hash-with-bounded-load", Group: group, Run: hashBounded},
	}
	for _, scheduler := range []string{"mh", "sh", "ring", "hrw"} {
		cases = append(cases, Case{
			Name: "hash-agrees-between-processes-" + scheduler, Group: group,
			Run: func(c *C) { processesAgree(c, scheduler) },
		})
	}
	return cases
}

func weights(c *C) {
	a, b := c.Answers("a"), c.Answers("b")
	p := c.Start(Config{Backends: []string{a.Addr + "@3", b.Addr}, Scheduler: "wrr"})
	const n = 80
	if got := strings.Count(sample(c, p, n), "a"); got < n*3/4-2 || got > n*3/4+2 {
		c.Fatalf("of weights 3 and 1 the first gets %d clients of %d", got, n)
	}
}

// holds opens n flows, the i-th from local(i), and counts them by backend.
func holds(c *C, p *Proxy, n int, local func(i int) string) map[string]int {
	got := make(map[string]int)
	for i := range n {
		e, err := c.TryDialFrom(p, local(i))
		c.Must(err)
		who, err := e.Who()
		c.Must(err)
		got[who]++
	}
	return got
}

// heldShares opens flows that stay: each backend has its part of them, give or
// take slack.
func heldShares(c *C, scheduler string, weights []int, slack int) {
	var backends []string
	sum := 0
	for i, w := range weights {
		backends = append(backends, fmt.Sprintf("%s@%d", c.Answers(fmt.Sprint(i)).Addr, w))
		sum += w
	}
	p := c.Start(Config{Backends: backends, Scheduler: scheduler, Workers: 2})
	const n = 40
	got := holds(c, p, n, func(int) string { return "" })
	for i, w := range weights {
		if want := n * w / sum; got[fmt.Sprint(i)] < want-slack || got[fmt.Sprint(i)] > want+slack {
			c.Fatalf("by weights %v %d flows are spread %v", weights, n, got)
		}
	}
}

// latency has one backend of two answer late, by far more than a busy machine does. It gets few clients, though it has
// hardly more flows than the other at any time.
func latency(c *C) {
	slow := c.Serve(func(e *Conn) { answer(e.Conn, "s", time.Second) })
	fast := c.Answers("f")
	p := c.Start(Config{Backends: []string{slow.Addr, fast.Addr}, Scheduler: "ewma"})
	const n = 18
	order := ""
	for range n {
		order += sample(c, p, 1)
		if strings.Count(order, "s") > n/3 {
			c.Fatalf("a backend that is slow gets as many clients as one that is not: %s", order)
		}
	}
}

// hashed visits p until two visits in a row reach the same backend, which is the
// hash's choice. On a busy machine a slow connect moves a client to another backend.
func (c *C) hashed(p *Proxy, local string) (string, error) {
	last, err := c.visit(p, local)
	for range 8 {
		if err != nil {
			break
		}
		was := last
		if last, err = c.visit(p, local); last == was {
			break
		}
	}
	return last, err
}

func hashPrefix(c *C) {
	p := c.trio("tcp", Config{Scheduler: "mh", HashBits: 24})
	used := make(map[string]bool)
	for n := range 16 {
		first, err := c.hashed(p.Proxy, c.neighbour(n, 1))
		c.Must(err)
		used[first] = true
		for i := range 3 {
			who, err := c.hashed(p.Proxy, c.neighbour(n, 2+i))
			c.Must(err)
			if who != first {
				c.Fatalf("clients of one /24 are at backends %s and %s", first, who)
			}
		}
	}
	if len(used) < 2 {
		c.Fatalf("the clients of 16 prefixes are all at one backend")
	}
}

// hashBounded sends all clients from one address. No backend gets more than its
// fair share and a quarter; the first ones are where the hash wants them.
func hashBounded(c *C) {
	const n, balance = 30, 125
	p := c.trio("tcp", Config{Scheduler: "mh", HashBalance: balance})
	local := c.neighbour(0, 1)
	got := holds(c, p.Proxy, n, func(int) string { return local })
	for name, flows := range got {
		if most := n*balance/100/3 + 1; flows > most {
			c.Fatalf("backend %s has %d flows of %d, want %d at the most", name, flows, n, most)
		}
	}
	if len(got) != 3 {
		c.Fatalf("%d flows are at %d of 3 backends", n, len(got))
	}
}

// processesAgree runs two proxies before the same backends. The lists are in different
// orders, except for sh, which depends on the order. A client of one and then the
// other must reach the same backend.
func processesAgree(c *C, scheduler string) {
	var addrs []string
	for i := range 5 {
		addrs = append(addrs, c.Answers(fmt.Sprint(i)).Addr)
	}
	one := c.Start(Config{Backends: addrs, Scheduler: scheduler})
	if scheduler != "sh" {
		addrs = slices.Clone(addrs)
		slices.Reverse(addrs)
	}
	other := c.Start(Config{Backends: addrs, Scheduler: scheduler})
	used := make(map[string]bool)
	for i := range 24 {
		local := c.neighbour(i%4, 1+i)
		first, err := c.hashed(one, local)
		c.Must(err)
		second, err := c.hashed(other, local)
		c.Must(err)
		if first != second {
			c.Fatalf("a client of %s is at backend %s of one process and at %s of the other", net.ParseIP(local), first, second)
		}
		used[first] = true
	}
	if len(used) < 3 {
		c.Fatalf("24 client addresses are spread over %d of 5 backends", len(used))
	}
}
