//go:build linux

package conformance

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func queueCases() []Case {
	const group = "full backends"
	return []Case{
		{Name: "backend-maximum-is-never-exceeded", Group: group, Run: maximum},
		{Name: "full-backend-refuses", Group: group, Run: fullRefuses},
		{Name: "queue-is-in-order", Group: group, Run: queueOrder},
		{Name: "queue-is-bounded", Group: group, Run: queueBound},
		{Name: "queue-times-out", Group: group, Run: queueTimeout},
	}
}

// counting is a backend that knows how many connections it has at once. One that
// is over is not counted any more when its end is sent, so a proxy can never see
// a place that is not there.
type counting struct {
	*Backend
	now, most atomic.Int64
}

func (c *C) counting(name string, think time.Duration) *counting {
	b := new(counting)
	b.Backend = c.Serve(func(e *Conn) {
		n := b.now.Add(1)
		for most := b.most.Load(); n > most && !b.most.CompareAndSwap(most, n); most = b.most.Load() {
		}
		answer(e.Conn, name, think)
		b.now.Add(-1)
	})
	return b
}

// maximum sends many more clients than the backends may have. All wait for their
// turn and are served, while neither backend has one flow more than its maximum.
func maximum(c *C) {
	const most = 3
	a, b := c.counting("a", 3*time.Millisecond), c.counting("b", 3*time.Millisecond)
	n := c.Size(400, 150)
	limited := fmt.Sprintf(",max=%d", most)
	p := c.Start(Config{
		Backends:    []string{a.Addr + limited, b.Addr + limited},
		QueueLength: n, QueueTimeout: 5 * time.Minute, Workers: 2,
	})
	c.Step("all clients to be served")
	var seats = make(chan struct{}, 60) // at once
	c.Each(n, func(int) error {
		seats <- struct{}{}
		defer func() { <-seats }()
		_, err := c.Visit(p, "")
		return err
	})
	c.Logf("%d clients, at most %d and %d at once", n, a.most.Load(), b.most.Load())
	for _, b := range []*counting{a, b} {
		if got := b.most.Load(); got != most {
			c.Fatalf("with a maximum of %d a backend had up to %d flows", most, got)
		}
	}
}

// holdsAll starts a proxy before one backend that may have one flow, which a
// client holds.
func holdsAll(c *C, cfg Config) (p *Proxy, held *Conn) {
	b := c.Answers("b")
	cfg.Backends = []string{b.Addr + ",max=1"}
	p = c.Start(cfg)
	return p, at(c, p, "b")
}

func fullRefuses(c *C) {
	p, held := holdsAll(c, Config{})
	if over, err := c.TryDialFrom(p, ""); err == nil { // else ended already
		if _, err := over.Ended(c.within(2 * time.Second)); err != nil {
			c.Fatalf("one client more than the backend may have: %v", err)
		}
	}
	who, err := held.Who()
	c.Must(err)
	held.Close()
	c.Wait(c.patience(), "the freed place to be given to a client", func() bool {
		again, err := c.Visit(p, "")
		return err == nil && again == who
	})
}

// joins connects a client that is to wait, and returns when the proxy has it, so
// that the next one stands behind it.
func joins(c *C, p *Proxy) *Conn {
	sockets := p.Descriptors().Sockets
	e, err := c.TryDialFrom(p, "")
	c.Must(err)
	c.Wait(c.patience(), "the proxy to take a client that is to wait", func() bool { return p.Descriptors().Sockets > sockets })
	looks := 0
	c.Wait(c.patience(), "the proxy to have nothing to do", func() bool {
		if looks++; !p.Resting() {
			looks = 0
		}
		return looks == 3
	})
	return e
}

// queueOrder lets clients line up, of which one leaves. They are served in the
// order in which they came, and the backend never hears of the one that left.
func queueOrder(c *C) {
	var mu sync.Mutex
	var order []string
	b := c.Serve(func(e *Conn) {
		for {
			who, err := e.line()
			if err != nil {
				return
			}
			mu.Lock()
			order = append(order, who)
			mu.Unlock()
			e.Say(who + "\n")
		}
	})
	p := c.Start(Config{Backends: []string{b.Addr + ",max=1"}, QueueLength: 10, QueueTimeout: 5 * time.Minute, Workers: 2})
	visit := func(e *Conn, name string) error {
		if err := e.Say(name + "\n"); err != nil {
			return err
		}
		if err := e.Hear(name + "\n"); err != nil {
			return err
		}
		return e.Close()
	}
	held := c.Dial(p)
	c.Must(held.Say("first\n"))
	c.Must(held.Hear("first\n"))
	want := []string{"first"}
	var waits []func() error
	for i := range 6 {
		e, name := joins(c, p), fmt.Sprint("client ", i)
		if i == 2 {
			sockets := p.Descriptors().Sockets
			c.Must(e.Say("left\n"))
			c.Must(e.Reset())
			c.Wait(c.patience(), "a client that waits to leave", func() bool { return p.Descriptors().Sockets < sockets })
			continue
		}
		waits, want = append(waits, c.Begin(func() error { return visit(e, name) })), append(want, name)
	}
	c.Must(held.Close())
	for _, wait := range waits {
		c.Must(wait())
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(order, want) {
		c.Fatalf("not in the order in which they came: %s", strings.Join(order, ", "))
	}
}

func queueBound(c *C) {
	const length = 3
	p, held := holdsAll(c, Config{QueueLength: length, QueueTimeout: 5 * time.Minute})
	var waits []*Conn
	for range length {
		waits = append(waits, joins(c, p))
	}
	if over, err := c.TryDialFrom(p, ""); err == nil { // else ended already
		if _, err := over.Ended(c.within(2 * time.Second)); err != nil {
			c.Fatalf("one client more than the queue holds: %v", err)
		}
	}
	held.Close()
	c.Each(length, func(i int) error {
		defer waits[i].Close()
		_, err := waits[i].Who()
		return err
	})
}

func queueTimeout(c *C) {
	p, held := holdsAll(c, Config{QueueLength: 3, QueueTimeout: time.Second})
	start := c.stopwatch()
	e, err := c.TryDialFrom(p, "")
	c.Must(err)
	c.Must(e.WasReset())
	aboutOneSecond(c, start)
	if who, err := held.Who(); err != nil || who != "b" {
		c.Fatalf("the flow that has the backend: %q, %v", who, err)
	}
}
