//go:build linux

package conformance

import (
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

func poolCases() []Case {
	const group = "who is used"
	return []Case{
		{Name: "resetting-backend-is-ejected", Group: group, Run: ejected},
		{Name: "backup-waits", Group: group, Run: backupWaits},
		{Name: "panic-uses-those-that-are-down", Group: group, Run: panics},
		{Name: "slow-start", Group: group, Limit: 3 * time.Minute, Run: slowStart},
		{Name: "thresholds-have-hysteresis", Group: group, Run: thresholds},
	}
}

// ejected has a backend that accepts each connection and resets it at once. A check
// that merely connects passes there.
func ejected(c *C) {
	const out = time.Second
	var ill atomic.Bool
	a := c.Serve(func(e *Conn) {
		if ill.Load() {
			e.Reset()
			return
		}
		answer(e.Conn, "a", 0)
	})
	b := c.Answers("b")
	p := c.Start(Config{Backends: []string{a.Addr, b.Addr}, Health: true, Eject: 3, EjectTime: out})
	at(c, p, "a")
	at(c, p, "b")
	ill.Store(true)
	l := c.visits(p)
	start := time.Now()
	away := l.avoided(c.within(4*time.Second), "the backend to be ejected", "b", start, 20)
	ill.Store(false)
	well := c.stopwatch()
	c.Wait(c.within(4*time.Second), "the backend to come back after its time", func() bool {
		return len(l.of(func(v visit) bool { return v.who == "a" })) > 0
	})
	if took := well.fair(); took > 4*out {
		c.Fatalf("the backend was back after %v more, it is ejected for %v", took.Round(time.Millisecond), out)
	}
	l.end()
	// A client may have waited for its turn: when its backend was chosen is between when
	// it began and when it was over.
	var back time.Time
	for _, v := range l.of(func(v visit) bool { return v.who == "a" }) {
		if over := v.begun.Add(v.took); back.IsZero() || over.Before(back) {
			back = over
		}
	}
	before := count(l.of(func(v visit) bool { return v.begun.Before(away) }))
	c.Logf("ejected after %v, when %d clients had failed; back %v later", away.Sub(start).Round(time.Millisecond), before.failed, back.Sub(away).Round(time.Millisecond))
	// Where the look at it took long, it may have been back before it was well.
	early := start.Add(out * 9 / 10)
	if t := count(l.of(func(v visit) bool {
		return !v.begun.Before(away) && (v.begun.Before(early) || v.begun.After(well.began))
	})); t.failed > 0 {
		c.Fatalf("%d clients of %d failed after the backend was ejected: %v", t.failed, t.failed+t.served, t.first)
	}
	if d := back.Sub(start); d < out*9/10 {
		c.Fatalf("the backend was back after %v, it is ejected for %v", d.Round(time.Millisecond), out)
	}
}

// sample makes n visits one after the other, and says who has served them.
func sample(c *C, p *Proxy, n int) string {
	var order strings.Builder
	for range n {
		who, err := c.Visit(p, "")
		c.Must(err)
		order.WriteString(who)
	}
	return order.String()
}

func backupWaits(c *C) {
	a, b := c.Answers("a"), c.Answers("b")
	p := c.Start(Config{Backends: []string{a.Addr, b.Addr + ",backup"}, ConnectTimeout: connectBudget4s, Health: true})
	if order := sample(c, p, 12); order != strings.Repeat("a", 12) {
		c.Fatalf("the backup serves beside a backend that is up: %s", order)
	}
	a.Vanish()
	// Before the first check fails, only the backend that refuses is available.
	c.Wait(c.within(4*time.Second), "the backup to serve", func() bool {
		who, err := c.Visit(p, "")
		return err == nil && who == "b"
	})
	if order := sample(c, p, 12); order != strings.Repeat("b", 12) {
		c.Fatalf("without another backend the backup is to serve, and it was %s", order)
	}
	c.serveOn("tcp", a.Addr, func(e *Conn) { answer(e.Conn, "a", 0) })
	c.Wait(c.within(4*time.Second), "the backup to rest again", func() bool {
		return sample(c, p, 6) == strings.Repeat("a", 6)
	})
}

// panics has three backends that all serve, and checks that call some of them bad.
// With fewer than half of them up, the others are used as well.
func panics(c *C) {
	var ill [3]atomic.Bool
	var backends []string
	for i, name := range []string{"a", "b", "c"} {
		ln := c.listen()
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { plain(w, r, ill[i].Load()) })}
		go server.Serve(ln)
		c.own(server)
		backends = append(backends, checkedAt(c.Answers(name), ln))
	}
	p := c.Start(Config{Backends: backends, Health: true, Probe: "http:/health", Panic: 50})
	uses := func(what string, names string) {
		c.Wait(c.within(4*time.Second), what, func() bool {
			order := sample(c, p, 9)
			for _, name := range []string{"a", "b", "c"} {
				if strings.Contains(order, name) != strings.Contains(names, name) {
					return false
				}
			}
			return true
		})
	}
	uses("three backends to be used", "abc")
	ill[0].Store(true)
	uses("two backends to be used when one is down", "bc")
	ill[1].Store(true)
	uses("all backends to be used when one of three is up", "abc")
	ill[1].Store(false)
	uses("two backends to be used when one has come back", "bc")
}

// slowStart has a backend come up beside one that is past its slow start. Its share
// begins small and grows to the whole. The slow start is long enough to measure the
// share before it has grown.
func slowStart(c *C) {
	takes := 2 * time.Second
	for !hasSlowStart(c, takes) {
		if takes *= 2; takes > c.within(3*time.Second) {
			c.Skipf("this machine is too slow for %d clients in %v", slowStartClients, takes/4)
		}
	}
}

const slowStartClients = 20

// hasSlowStart returns false if too much of the slow start was over before the
// share was known.
func hasSlowStart(c *C, takes time.Duration) bool {
	backends, sick := webServed(c, nil, plain)
	sick(true)
	p := c.Start(Config{Backends: backends, Scheduler: "wrr", Health: true, Probe: "http:/health", SlowStart: takes})
	awaitAvoided(c, p, false)
	c.Sleep(takes * 3 / 2) // for the other one, which has just come up as well
	sick(false)
	start := time.Now()
	at(c, p, "a").Close()
	const n = slowStartClients
	got := strings.Count(sample(c, p, n), "a")
	if time.Since(start) > takes/2 {
		return false
	}
	if got > n*2/5 {
		c.Fatalf("a backend that has just come up gets %d clients of %d", got, n)
	}
	c.Wait(2*c.patience(), "the backend to get its whole share", func() bool {
		return strings.Count(sample(c, p, n), "a") >= n/2
	})
	c.Logf("the whole share came after %v", time.Since(start).Round(time.Millisecond))
	return true
}

// thresholds fills a backend up to the upper one. It gets nobody until it has
// fewer than the lower one.
func thresholds(c *C) {
	a, b := c.Answers("a"), c.Answers("b")
	p := c.Start(Config{Backends: []string{a.Addr + ",upper=3,lower=2", b.Addr}})
	var held []*Conn
	for range 12 {
		e, err := c.TryDialFrom(p, "")
		c.Must(err)
		who, err := e.Who()
		c.Must(err)
		if who == "a" {
			held = append(held, e)
		}
	}
	if len(held) != 3 {
		c.Fatalf("with an upper threshold of 3 the backend has %d flows", len(held))
	}
	closes := func(e *Conn) {
		sockets := p.Descriptors().Sockets
		e.Close()
		c.Wait(c.patience(), "a flow to end", func() bool { return p.Descriptors().Sockets < sockets })
	}
	closes(held[0])
	if order := sample(c, p, 6); strings.Contains(order, "a") {
		c.Fatalf("with 2 flows and a lower threshold of 2 the backend is used again: %s", order)
	}
	closes(held[1])
	c.Wait(c.patience(), "the backend to be used again below its lower threshold", func() bool {
		return strings.Contains(sample(c, p, 4), "a")
	})
}
