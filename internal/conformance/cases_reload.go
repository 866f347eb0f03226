//go:build linux

package conformance

import (
	"fmt"
	"time"
)

// awaitServedBy visits until eight visits in a row were answered by that backend. The
// others may fail so often.
func awaitServedBy(c *C, p *Proxy, by string, failures int) {
	row := 0
	c.Wait(c.within(10*time.Second), "clients to reach backend "+by+" alone", func() bool {
		who, err := c.Visit(p, "")
		if err != nil {
			if failures--; failures < 0 {
				c.Must(err)
			}
		}
		if row++; who != by {
			row = 0
		}
		return row == 8
	})
}

// reloadUnderLoad exchanges the only backend a few times. Clients come all the time, and
// some have come before. All of them are served, the latter by the backend that they
// have.
func reloadUnderLoad(c *C) {
	names := [2]string{"a", "b"}
	addrs := [2]string{c.Answers("a").Addr, c.Answers("b").Addr}
	p := c.Start(Config{Backends: addrs[:1], Reloads: true})
	l := c.visits(p)
	stop := make(chan struct{})
	var waits []func() error
	remain := func(with string) {
		for range 8 {
			e := c.Dial(p)
			c.Must(e.Say("who?\n"))
			c.Must(e.Hear(with + "\n"))
			waits = append(waits, c.Begin(func() error { return stays(e, with, stop) }))
		}
	}
	for i := range c.Size(6, 4) {
		remain(names[i%2])
		p.Reload(addrs[(i+1)%2])
		awaitServedBy(c, p, names[(i+1)%2], 0)
	}
	close(stop)
	for _, wait := range waits {
		c.Must(wait())
	}
	l.end()
	t := count(l.of(func(visit) bool { return true }))
	c.Logf("short clients: %v", t)
	if t.failed > 0 || t.by["a"] == 0 || t.by["b"] == 0 {
		c.Fatalf("clients that come during reloads: %v: %v", t, t.first)
	}
}

// stays asks a connection for its backend until stop is closed.
func stays(e *Conn, with string, stop <-chan struct{}) error {
	defer e.Close()
	for {
		who, err := e.Who()
		if err == nil && who != with {
			err = fmt.Errorf("a connection of backend %s is of %s after a reload", with, who)
		}
		if err != nil {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-stop:
			return nil
		}
	}
}

// reloadKeepsWaiting stops the process while clients connect, which the kernel accepts
// for it. When it goes on, it has a reload to do first.
func reloadKeepsWaiting(c *C) {
	a, b := c.Answers("a").Addr, c.Answers("b").Addr
	p := c.Start(Config{Backends: []string{a}, Reloads: true})
	awaitServedBy(c, p, "a", 0)
	p.Pause()
	clients := make([]*Conn, 20)
	for i := range clients {
		clients[i] = c.Dial(p)
		c.Must(clients[i].Say("who?\n"))
	}
	p.Reload(b)
	p.Resume()
	for _, e := range clients {
		if who, err := e.line(); err != nil || who != "a" && who != "b" {
			c.Fatalf("a client that has waited for a reload: %q, %v", who, err)
		}
	}
	awaitServedBy(c, p, "b", 0)
}

// badFile has a file reloaded that is none. Old and new clients are served as before,
// and the next good file is taken up.
func badFile(c *C) {
	a, b := c.Answers("a").Addr, c.Answers("b").Addr
	p := c.Start(Config{Backends: []string{a}, Reloads: true})
	e := c.Dial(p)
	stop := make(chan struct{})
	wait := c.Begin(func() error { return stays(e, "a", stop) })
	p.ReloadText("services {\n")
	awaitServedBy(c, p, "a", 0)
	p.Reload(b)
	awaitServedBy(c, p, "b", 0)
	close(stop)
	c.Must(wait())
}

// removed has a reload remove a backend whose flows are to end so. The flow of the other
// one goes on.
func removed(c *C, how string) {
	a, b := c.Answers("a").Addr, c.Answers("b").Addr
	p := c.Start(Config{Backends: []string{a, b}, Reloads: true, OnRemove: how})
	withA, withB := at(c, p, "a"), at(c, p, "b")
	p.Reload(b)
	awaitServedBy(c, p, "b", 1) // a visit may be at the backend that is removed
	if how == "reset" {
		c.Must(withA.WasReset())
	} else {
		c.Must(withA.Finished())
	}
	if who, err := withB.Who(); err != nil || who != "b" {
		c.Fatalf("a flow of the backend that stays: %q, %v", who, err)
	}
}

// udpReload adds a backend. Clients keep their flows, and none of their datagrams is lost.
func udpReload(c *C) {
	a, b := c.Names("a").Addr, c.Names("b").Addr
	p := c.Start(Config{Listen: []Listener{{Network: "udp"}}, Backends: []string{a}, Reloads: true})
	clients, before := make([]*Client, 16), make([]Answer, 16)
	for i := range clients {
		clients[i] = c.Client(p)
		var err error
		before[i], err = clients[i].Ask("first")
		c.Must(err)
	}
	stay := func() {
		for i, e := range clients {
			c.Must(e.Stays(before[i]))
		}
	}
	p.Reload(a, b)
	c.Wait(c.within(10*time.Second), "a client to reach the backend that was added", func() bool {
		stay()
		fresh := c.Client(p)
		defer fresh.Close()
		answer, err := fresh.Ask("another")
		c.Must(err)
		return answer.Backend == "b"
	})
	stay()
}
