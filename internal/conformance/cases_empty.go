//go:build linux

package conformance

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

func emptyCases() []Case {
	const group = "no backend"
	return []Case{
		{Name: "without-a-backend-closed", Group: group, Run: emptyClosed},
		{Name: "without-a-backend-silent", Group: group, Run: emptySilent},
		{Name: "without-a-backend-refused", Group: group, Run: emptyRefused},
		{Name: "without-a-backend-clients-wait", Group: group, Run: emptyWait},
		{Name: "udp-without-a-backend-closed", Group: group, Run: udpEmptyClosed},
		{Name: "udp-without-a-backend-silent", Group: group, Run: func(c *C) { udpEmptySilent(c, "drop") }},
		{Name: "udp-without-a-backend-ignored", Group: group, Run: func(c *C) { udpEmptySilent(c, "refuse") }},
	}
}

// emptyClosed takes the only backend away, and brings another one, a few times. Meanwhile the kernel refuses clients. The
// flow of the first backend goes on.
func emptyClosed(c *C) {
	a, b := c.Answers("a").Addr, c.Answers("b").Addr
	p := c.Start(Config{Backends: []string{a}, Reloads: true, OnEmpty: "close"})
	flow := at(c, p, "a")
	for range 3 {
		p.Reload()
		c.Wait(c.within(10*time.Second), "the kernel to refuse clients", func() bool {
			_, err := c.Visit(p, "")
			return errors.Is(err, syscall.ECONNREFUSED)
		})
		staysAt(c, flow, "a")
		p.Reload(b)
		c.Wait(c.within(10*time.Second), "clients to reach the backend that was added", func() bool {
			who, err := c.Visit(p, "")
			return err == nil && who == "b"
		})
		staysAt(c, flow, "a")
	}
}

// staysAt wants a connection to be served by its backend still.
func staysAt(c *C, flow *Conn, name string) {
	if who, err := flow.Who(); err != nil || who != name {
		c.Fatalf("the flow of backend %s is served by %q: %v", name, who, err)
	}
}

// emptySilent takes the only backend away. Clients are connected then, and hear nothing.
func emptySilent(c *C) {
	a := c.Answers("a").Addr
	p := c.Start(Config{Backends: []string{a}, Reloads: true, OnEmpty: "drop"})
	flow := at(c, p, "a")
	p.Reload()
	var e *Conn
	ask := func() (isSilent, isServed bool) { // neither: a client that comes while the change is applied may be reset
		var err error
		if e, err = c.TryDial(p.Addr()); err != nil || e.Say("who?\n") != nil {
			return false, false
		}
		n, err := e.next(300 * time.Millisecond)
		return n == 0 && errors.Is(err, os.ErrDeadlineExceeded), n > 0
	}
	c.Wait(c.within(10*time.Second), "a client to get no answer", func() bool { isSilent, _ := ask(); return isSilent })
	dropped := e
	staysAt(c, flow, "a")
	p.Reload(a)
	c.Wait(c.within(10*time.Second), "a client to be served again", func() bool { _, isServed := ask(); return isServed })
	c.Must(func() error { _, err := c.Visit(p, ""); return err }())
	if n, err := dropped.next(100 * time.Millisecond); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		c.Fatalf("a client that was dropped hears of it: %d bytes, %v", n, err)
	}
}

// emptyRefused takes the only backend away. Clients are connected, and reset.
func emptyRefused(c *C) {
	p := c.Start(Config{Reloads: true, OnEmpty: "refuse"})
	for range 3 {
		refuse(c, p, "")
	}
	p.Reload(c.Answers("a").Addr)
	awaitServedBy(c, p, "a", 1<<20)
}

// emptyWait has clients come before there is a backend. They are served once there is one.
func emptyWait(c *C) {
	p := c.Start(Config{Reloads: true, OnEmpty: "refuse", Wait: 10 * time.Minute})
	clients := make([]*Conn, 8)
	for i := range clients {
		clients[i] = c.Dial(p)
		c.Must(clients[i].Say("who?\n"))
	}
	c.Sleep(200 * time.Millisecond)
	p.Reload(c.Answers("a").Addr)
	for _, e := range clients {
		if who, err := e.line(); err != nil || who != "a" {
			c.Fatalf("a client that has waited for a backend: %q, %v", who, err)
		}
	}
}

// askKernel sends a datagram from a new connected socket, and returns the answer, or the error that the kernel has for it.
func askKernel(c *C, p *Proxy, within time.Duration) (string, error) {
	e, err := net.Dial("udp", p.Addr())
	c.Must(err)
	defer e.Close()
	c.Must(e.SetDeadline(time.Now().Add(within)))
	if _, err = e.Write([]byte("who?")); err != nil {
		return "", fmt.Errorf("ask: %w", err)
	}
	answer := make([]byte, 100)
	n, err := e.Read(answer)
	return string(answer[:n]), err
}

// udpEmptyClosed takes the only backend away, and brings another one. Meanwhile the kernel refuses datagrams with ICMP.
func udpEmptyClosed(c *C) {
	a, b := c.Names("a").Addr, c.Names("b").Addr
	p := c.Start(Config{Listen: []Listener{{Network: "udp"}}, Backends: []string{a}, Reloads: true, OnEmpty: "close"})
	old := c.Client(p)
	_, err := old.Ask("before")
	c.Must(err)
	for range 3 {
		p.Reload()
		c.Wait(c.within(10*time.Second), "the kernel to refuse datagrams", func() bool {
			_, err := askKernel(c, p, time.Second)
			return errors.Is(err, syscall.ECONNREFUSED)
		})
		p.Reload(b)
		c.Wait(c.within(10*time.Second), "datagrams to reach the backend that was added", func() bool {
			answer, err := askKernel(c, p, time.Second)
			return err == nil && answer[:1] == "b"
		})
		if answer, err := old.AskAgain("still there?"); err != nil || answer.Backend != "b" {
			c.Fatalf("a client of the backend that was removed is answered by %q: %v", answer.Backend, err)
		}
	}
}

// udpEmptySilent takes the only backend away. Datagrams are ignored then, until there is another one.
func udpEmptySilent(c *C, how string) {
	a, b := c.Names("a").Addr, c.Names("b").Addr
	p := c.Start(Config{Listen: []Listener{{Network: "udp"}}, Backends: []string{a}, Reloads: true, OnEmpty: how})
	_, err := askKernel(c, p, c.patience())
	c.Must(err)
	p.Reload()
	c.Wait(c.within(10*time.Second), "datagrams to be ignored", func() bool {
		_, err := askKernel(c, p, 300*time.Millisecond)
		return errors.Is(err, os.ErrDeadlineExceeded)
	})
	p.Reload(b)
	c.Wait(c.within(10*time.Second), "datagrams to reach the backend that was added", func() bool {
		answer, err := askKernel(c, p, time.Second)
		return err == nil && answer[:1] == "b"
	})
}
