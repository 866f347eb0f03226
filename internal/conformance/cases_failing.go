//go:build linux

package conformance

import (
	"net/http"
	"sync/atomic"
	"time"
)

func failingCases() []Case {
	const group = "a backend fails under load"
	return []Case{
		{Name: "backend-is-killed-under-load", Group: group, Run: killedUnderLoad},
		{Name: "backend-is-paused-under-load", Group: group, Run: pausedUnderLoad},
		{Name: "backend-blackholes-under-load", Group: group, Run: blackholeUnderLoad},
		{Name: "backend-refuses-under-load", Group: group, Run: refusedUnderLoad},
		{Name: "backend-marked-down-is-the-last-resort", Group: group, Run: lastResort},
		{Name: "silent-backend-has-its-share-of-turns", Group: group, Run: func(c *C) { silentShare(c, "rr") }},
		{Name: "silent-backend-has-its-share-of-the-least-loaded", Group: group, Run: func(c *C) { silentShare(c, "lc") }},
	}
}

// think is how long a backend takes for an answer, so that some clients are always in
// progress.
const think = 20 * time.Millisecond

// crowd is how many clients are judged before and after a failure.
func crowd(c *C) int { return c.Size(100, 40) }

// failsUnder lets backend a fail under a load on a and b. Clients before and after the
// failure must succeed. A client that is not at a when a fails is connected to b. The
// clients that were at a are counted apart; release ends their wait.
func failsUnder(c *C, l *load, fail, release func()) (after time.Time) {
	before := l.since(time.Time{}, crowd(c), "clients to be served by both backends")
	if t := count(before); t.failed > 0 || t.by["a"] == 0 || t.by["b"] == 0 {
		c.Fatalf("before the failure: %v; %v", t, t.first)
	}
	began := time.Now()
	c.Step("the backend to fail")
	fail()
	after = time.Now()
	t := count(l.since(after, crowd(c), "clients that came after the failure"))
	c.Logf("after the failure: %v", t)
	if t.failed > 0 {
		c.Fatalf("%d clients of %d that came after the failure were not served: %v", t.failed, t.failed+t.served, t.first)
	}
	l.quit()
	if release != nil {
		release()
	}
	l.end()
	under := count(l.of(func(v visit) bool { return !v.begun.After(after) && v.begun.Add(v.took).After(began) }))
	c.Logf("under way when it failed: %v", under)
	if t := count(l.of(func(v visit) bool { return v.begun.Add(v.took).Before(began) })); t.failed > 0 {
		c.Fatalf("before the failure: %v", t.first)
	}
	if t := count(l.of(func(v visit) bool { return v.begun.After(after) })); t.failed > 0 {
		c.Fatalf("%d clients of %d that came after the failure were not served: %v", t.failed, t.failed+t.served, t.first)
	}
	return after
}

// onlyBy fails unless all that came after a moment were served by b, and soon.
func onlyBy(c *C, l *load, after time.Time) {
	t := count(l.of(func(v visit) bool { return v.begun.After(after) }))
	if t.by["b"] != t.served {
		c.Fatalf("a backend that is gone has answered: %v", t)
	}
	if t.slowest > 2500*time.Millisecond {
		c.Fatalf("with a healthy backend beside it a client was served after %v only", t.slowest.Round(time.Millisecond))
	}
}

// at connects clients until one is at that backend, and keeps it.
func at(c *C, p *Proxy, name string) (held *Conn) {
	c.Wait(c.patience(), "a client at backend "+name, func() bool {
		e, err := c.TryDialFrom(p, "")
		c.Must(err)
		who, err := e.Who()
		c.Must(err)
		if who != name {
			e.Close()
			return false
		}
		held = e
		return true
	})
	return held
}

// killedUnderLoad ends the process of a backend. Its connections are reset by
// its kernel, and no others are harmed.
func killedUnderLoad(c *C) {
	a, b := c.Process("tcp", "a", think), c.Process("tcp", "b", think)
	p := c.Start(Config{Backends: []string{a.Addr, b.Addr}, ConnectTimeout: connectBudget4s})
	withA, withB := at(c, p, "a"), at(c, p, "b")
	l := c.visits(p)
	after := failsUnder(c, l, a.Kill, nil)
	onlyBy(c, l, after)
	if _, err := withA.Ended(c.within(2 * time.Second)); err != nil {
		c.Fatalf("the backend of a flow was killed: %v", err)
	}
	if who, err := withB.Who(); err != nil || who != "b" {
		c.Fatalf("a flow of the other backend: %q, %v", who, err)
	}
}

// lastResort has backend a marked down though it serves: its checks succeed again, but
// not often enough yet. When b goes, a takes all.
func lastResort(c *C) {
	var sick [2]atomic.Bool
	backends := []*Backend{c.Answers("a"), c.Answers("b")}
	var words []string
	for i, b := range backends {
		ln := c.listen()
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { plain(w, r, sick[i].Load()) })}
		go server.Serve(ln)
		c.own(server)
		words = append(words, checkedAt(b, ln))
	}
	p := c.Start(Config{Backends: words, Health: true, Probe: "http:/health", Rise: 10})
	at(c, p, "a")
	at(c, p, "b")
	sick[0].Store(true)
	awaitAvoided(c, p, false)
	l := c.visits(p)
	l.since(time.Time{}, crowd(c), "clients to be served by the backend that is up")
	sick[0].Store(false)
	sick[1].Store(true)
	backends[1].Vanish()
	gone := time.Now()
	if t := count(l.since(gone, crowd(c), "clients that came after it had gone")); t.failed > 0 || t.by["a"] != t.served {
		c.Fatalf("with a backend that serves, and is marked down: %v; %v", t, t.first)
	}
	l.end()
}

// silentShare has a backend that answers no SYN, and no checks. Each client stays.
// Clients sent there first have to wait; they must be half of all, not all.
func silentShare(c *C, scheduler string) {
	const clients = 16
	p := c.Start(Config{Backends: []string{c.BlackholeAddr(), c.Answers("b").Addr}, Scheduler: scheduler, ConnectTimeout: connectBudget4s})
	waited := 0
	for i := range clients {
		c.Step("client %d to be served", i)
		watch := c.stopwatch()
		e, err := c.TryDialFrom(p, "")
		c.Must(err)
		who, err := e.Who()
		c.Must(err)
		if who != "b" {
			c.Fatalf("client %d was served by %q", i, who)
		}
		if watch.fair() >= 200*time.Millisecond {
			waited++
		}
	}
	c.Logf("%d of %d clients waited", waited, clients)
	if waited > clients/2+2 {
		c.Fatalf("%d of %d clients waited for a backend that is silent, and is one of two", waited, clients)
	}
}

// pausedUnderLoad stops the process of a backend. Its kernel still accepts
// connections, so only a check that wants an answer sees it. Clients connected to it
// before wait, and are served when it resumes. Clients that come after the checks fail
// never reach it.
func pausedUnderLoad(c *C) {
	a, b := c.Process("tcp", "a", think), c.Process("tcp", "b", think)
	p := c.Start(Config{Backends: []string{a.Addr, b.Addr}, Health: true, Probe: "http:/", ConnectTimeout: connectBudget4s})
	at(c, p, "a")
	at(c, p, "b")
	l := c.visits(p)
	before := l.since(time.Time{}, crowd(c), "clients to be served by both backends")
	if t := count(before); t.failed > 0 || t.by["a"] == 0 || t.by["b"] == 0 {
		c.Fatalf("before the pause: %v; %v", t, t.first)
	}
	a.Pause()
	paused := time.Now()
	away := l.avoided(c.within(4*time.Second), "the checks to take the paused backend down", "b", paused, 20)
	c.Logf("the backend was taken down after %v", away.Sub(paused).Round(time.Millisecond))
	t := count(l.since(away, crowd(c), "clients that came after the backend was taken down"))
	c.Logf("after it was taken down: %v", t)
	if t.failed > 0 || t.by["a"] > 0 {
		c.Fatalf("after the backend was taken down: %v; %v", t, t.first)
	}
	given := count(l.of(func(v visit) bool { return v.begun.After(paused) && v.begun.Before(away) }))
	c.Logf("before it was taken down: %v", given)
	a.Resume()
	resumed := time.Now()
	c.Wait(c.within(4*time.Second), "the backend that goes on to be used", func() bool {
		return len(l.of(func(v visit) bool { return v.begun.After(resumed) && v.who == "a" })) > 0
	})
	l.end()
	if t := count(l.of(func(visit) bool { return true })); t.failed > 0 {
		c.Fatalf("%d clients of %d were not served by the end: %v", t.failed, t.failed+t.served, t.first)
	}
}

// blackholeUnderLoad lets a backend's accept queue fill up, so that its kernel
// answers no SYN any more.
func blackholeUnderLoad(c *C) {
	a, b := c.Answers("a"), c.Answers("b")
	p := c.Start(Config{Backends: []string{a.Addr, b.Addr}, Health: true, ConnectTimeout: connectBudget4s})
	at(c, p, "a")
	at(c, p, "b")
	l := c.visits(p)
	onlyBy(c, l, failsUnder(c, l, a.Blackhole, a.Release))
}

// refusedUnderLoad closes the listener of a backend. No connection breaks but
// those that it had not accepted.
func refusedUnderLoad(c *C) {
	a, b := c.Answers("a"), c.Answers("b")
	p := c.Start(Config{Backends: []string{a.Addr, b.Addr}, ConnectTimeout: connectBudget4s})
	withA := at(c, p, "a")
	l := c.visits(p)
	onlyBy(c, l, failsUnder(c, l, a.Vanish, nil))
	if who, err := withA.Who(); err != nil || who != "a" {
		c.Fatalf("a flow that was there when the listener closed: %q, %v", who, err)
	}
}
