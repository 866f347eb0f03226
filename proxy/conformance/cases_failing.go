//go:build linux

package conformance

import (
	"time"
)

func failingCases() []Case {
	const group = "a backend fails under load"
	return []Case{
		{Name: "backend-is-killed-under-load", Group: group, Run: killedUnderLoad},
		{Name: "backend-is-paused-under-load", Group: group, Run: pausedUnderLoad},
		{Name: "backend-blackholes-under-load", Group: group, Run: blackholeUnderLoad},
		{Name: "backend-refuses-under-load", Group: group, Run: refusedUnderLoad},
	}
}

// think is how long a backend of these cases takes for an answer, so that some
// clients are always under way.
const think = 20 * time.Millisecond

// crowd is how many clients are judged before and after a failure.
func crowd(c *C) int { return c.Size(100, 40) }

// failsUnder lets backend a fail under a load on a and b. Until then and after
// it nobody may fail: who is not with a yet when it goes is connected to b. What
// becomes of those who were with it is counted apart; release ends their wait.
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

// pausedUnderLoad stops the process of a backend: the kernel goes on to take
// connections for it, so only a check that wants an answer tells. Clients who
// were given to it before that are connected, and wait. They are served when it
// goes on; who comes once the checks have told never meets it.
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
