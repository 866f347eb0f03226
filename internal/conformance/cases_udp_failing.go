//go:build linux

package conformance

import (
	"errors"
	"os"
	"time"
)

func udpFailingCases() []Case {
	const group = "UDP backends"
	return []Case{
		{Name: "udp-backend-is-killed-under-load", Group: group, Run: udpKilled},
		{Name: "udp-backend-is-paused-under-load", Group: group, Run: udpPaused},
	}
}

// queries starts a load of clients who ask once, and again as name servers are
// asked when no answer comes.
func (c *C) queries(p *Proxy) *load {
	const tries, wait = 6, time.Second
	return c.begin(func() (string, int, error) {
		client, err := c.TryClient(p, c.host(1)+":0")
		if err != nil {
			return "", 0, err
		}
		defer client.Close()
		for try := 1; ; try++ {
			a, err := client.AskWithin("who?", wait)
			if err == nil || try == tries || !errors.Is(err, os.ErrDeadlineExceeded) {
				return a.Backend, try, err
			}
		}
	})
}

// udpFails lets backend a fail under a load on a and b. Every client must get an
// answer. Once the failure is known, no client asks twice.
func udpFails(c *C, l *load, fail func()) {
	before := count(l.since(time.Time{}, crowd(c), "clients to be served by both backends"))
	if before.failed > 0 || before.tries > 1 || before.by["a"] == 0 || before.by["b"] == 0 {
		c.Fatalf("before the failure: %v; %v", before, before.first)
	}
	fail()
	after := time.Now()
	away := l.avoided(c.within(6*time.Second), "new clients to be led past the backend", "b", after, 20)
	c.Logf("the backend was out after %v", away.Sub(after).Round(time.Millisecond))
	l.since(away, crowd(c), "clients that came after the backend was out")
	l.end()
	t := count(l.of(func(v visit) bool { return !v.begun.Before(away) }))
	c.Logf("after the backend was out: %v", t)
	if t.failed > 0 || t.tries > 1 || t.by["a"] > 0 {
		c.Fatalf("clients that came after the backend was out: %v, asked %d times; %v", t, t.tries, t.first)
	}
	t = count(l.of(func(v visit) bool { return v.begun.Before(away) && v.begun.Add(v.took).After(after) }))
	c.Logf("before it was out: %v, asked up to %d times", t, t.tries)
	if t.failed > 0 {
		c.Fatalf("%d clients of %d that were at the backend got no answer, however often they asked: %v", t.failed, t.failed+t.served, t.first)
	}
}

// udpKilled ends the process of a backend: the kernel reports it by ICMP.
func udpKilled(c *C) {
	p, a := checkedProcesses(c)
	udpFails(c, c.queries(p), a.Kill)
}

// checkedProcesses starts a proxy that checks two processes, and returns one of them.
func checkedProcesses(c *C) (*Proxy, *Process) {
	a, b := c.Process("udp", "a", 0), c.Process("udp", "b", 0)
	return c.Start(Config{
		Listen: []Listener{{Network: "udp"}}, Backends: []string{a.Addr, b.Addr},
		Health: true, Probe: `udp:send=PING,expect=+PONG`,
	}), a
}

// udpPaused stops the process of a backend, which only the checks can see. The proxy
// also ends its flows, so the next question of a client is answered.
func udpPaused(c *C) {
	p, a := checkedProcesses(c)
	udpFails(c, c.queries(p), a.Pause)
	a.Resume()
	c.Wait(c.within(4*time.Second), "the backend that goes on to be used", func() bool {
		x, err := c.Client(p).AskWithin("who?", time.Second)
		return err == nil && x.Backend == "a"
	})
}
