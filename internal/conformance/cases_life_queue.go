//go:build linux

package conformance

import (
	"errors"
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
		{Name: "client-that-resets-leaves-the-queue", Group: group, Run: queueResets},
		{Name: "client-that-ends-is-served-from-the-queue", Group: group, Run: queueFin},
		{Name: "client-that-closes-leaves-the-queue", Group: group, Run: queueAborts},
		{Name: "client-that-resets-is-held-no-longer", Group: group, Run: heldResets},
		{Name: "client-that-closes-is-held-no-longer", Group: group, Run: heldAborts},
	}
}

// counting is a backend that counts its open connections. It stops counting a
// connection before it sends the end. So a proxy never sees a free place that the
// backend has not counted as free.
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

// joins connects a client that has to wait, and returns when the proxy has accepted
// it. The next client then waits behind it.
func joins(c *C, p *Proxy) *Conn {
	sockets := p.Descriptors().Sockets
	e, err := c.TryDialFrom(p, "")
	c.Must(err)
	c.Wait(c.patience(), "the proxy to take a client that is to wait", func() bool { return p.Descriptors().Sockets > sockets })
	looks := 0
	c.Wait(c.patience(), "the proxy to have nothing to do", func() bool {
		if looks++; !p.IsResting() {
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

// waysToReset says what a client does that waits, by what it sends before it resets.
var waysToReset = map[string]func(e *Conn) error{
	"":           (*Conn).Reset,
	"data":       func(e *Conn) error { return errors.Join(e.Say("PAY\n"), e.Reset()) },
	"FIN":        func(e *Conn) error { return errors.Join(e.Finish(), e.Reset()) },
	"data, FIN":  func(e *Conn) error { return errors.Join(e.Say("PAY\n"), e.Finish(), e.Reset()) },
	"FIN, later": func(e *Conn) error { e.Finish(); time.Sleep(20 * time.Millisecond); return e.Reset() },
}

// waysToClose are ways to close, which are a FIN each.
var waysToClose = map[string]func(e *Conn) error{
	"close":       (*Conn).Close,
	"data, close": func(e *Conn) error { return errors.Join(e.Say("PAY\n"), e.Close()) },
	"data, FIN":   func(e *Conn) error { return errors.Join(e.Say("PAY\n"), e.Finish()) },
}

// lets has a client of each kind wait, go, and be let go of.
func lets(c *C, p *Proxy, ways map[string]func(*Conn) error) {
	for name, leave := range ways {
		before := p.Descriptors().Sockets
		e := joins(c, p)
		if err := leave(e); err != nil {
			c.Fatalf("%q: %v", name, err)
		}
		c.Wait(c.patience(), fmt.Sprintf("a client that waits to leave, by %q", name), func() bool { return p.Descriptors().Sockets <= before })
	}
}

// payless is a backend that answers clients that send no PAY.
func payless(c *C) *Backend {
	return c.Serve(func(e *Conn) {
		for {
			line, err := e.line()
			if err != nil {
				return
			}
			if line == "PAY" {
				c.Errorf("the backend heard of a client that had gone")
			}
			e.Say("b\n")
		}
	})
}

// queued starts a proxy whose backend may have one flow, and has it.
func queued(c *C, cfg Config) (p *Proxy, held *Conn) {
	cfg.Backends = []string{payless(c).Addr + ",max=1"}
	cfg.QueueLength, cfg.QueueTimeout = 10, 5*time.Minute
	p = c.Start(cfg)
	return p, at(c, p, "b")
}

// servesOn ends the flow that has the backend, and has the next client served.
func servesOn(c *C, p *Proxy, held *Conn) {
	held.Close()
	if who, err := c.Visit(p, ""); err != nil || who != "b" {
		c.Fatalf("when there is room again: %q, %v", who, err)
	}
}

func queueResets(c *C) {
	p, held := queued(c, Config{})
	lets(c, p, waysToReset)
	servesOn(c, p, held)
}

func queueAborts(c *C) {
	p, held := queued(c, Config{AbortOnClose: true})
	lets(c, p, waysToClose)
	servesOn(c, p, held)
}

// queueFin has a client end its stream while it waits: it can still hear an answer.
func queueFin(c *C) {
	p, held := holdsAll(c, Config{QueueLength: 3, QueueTimeout: 5 * time.Minute})
	e := joins(c, p)
	c.Must(e.Say("who?\n"))
	c.Must(e.Finish())
	c.Sleep(100 * time.Millisecond)
	held.Close()
	c.Must(e.Hear("b\n"))
}

// heldResets is queueResets for clients that wait for a backend.
func heldResets(c *C) {
	p := c.Start(Config{Backends: []string{c.Refused()}, Wait: 5 * time.Minute})
	lets(c, p, waysToReset)
}

func heldAborts(c *C) {
	p := c.Start(Config{Backends: []string{c.Refused()}, Wait: 5 * time.Minute, AbortOnClose: true})
	lets(c, p, waysToClose)
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
