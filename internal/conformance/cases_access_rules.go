//go:build linux

package conformance

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"usher/internal/api"
)

func ruleCases() []Case {
	const group = "rules"
	return []Case{
		{Name: "rules-by-source", Group: group, Run: rulesBySource},
		{Name: "rules-policy-refuses-the-rest", Group: group, Run: rulesPolicy},
		{Name: "rules-by-port", Group: group, Run: rulesByPort},
		{Name: "refused-client-is-reset", Group: group, Run: refusedIsReset},
		{Name: "rules-in-chains", Group: group, Run: rulesInChains},
		{Name: "rules-change-while-flows-run", Group: group, Run: rulesChange},
		{Name: "rules-count-what-they-decide", Group: group, Run: rulesCount},
		{Name: "udp-rules-by-source", Group: group, Run: udpRules},
		{Name: "dropped-client-hears-nothing", Group: group, Run: dropIsSilent},
		{Name: "dropped-clients-are-few", Group: group, Run: droppedAreFew},
		{Name: "dropped-client-is-held-for-a-while", Group: group, Run: dropTimeout},
		{Name: "dropped-clients-make-room", Group: group, Run: droppedMakeRoom},
		{Name: "dropped-client-that-leaves-is-forgotten", Group: group, Run: droppedLeave},
	}
}

// welcome connects a client from a local address, which must be served.
func welcome(c *C, p *Proxy, local string) *Conn {
	e, err := c.TryDialFrom(p, local)
	c.Must(err)
	c.Must(e.Hear("hello"))
	return e
}

// refuse connects a client from a local address, which must be ended without a byte.
func refuse(c *C, p *Proxy, local string) {
	e, err := c.TryDialFrom(p, local)
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	c.Must(err)
	defer e.Close()
	c.Must(e.endedUnserved())
}

// endedUnserved waits for the end of a connection, of any kind, before which no byte comes.
func (e *Conn) endedUnserved() error {
	switch n, err := e.next(e.patience); {
	case n > 0:
		return e.errorf("is served, and was to be refused")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return e.errorf("is neither served nor ended, and was to be refused")
	}
	return nil
}

// sawOnly fails if more clients have reached a backend than those that were served.
func sawOnly(c *C, b *Backend, served int) {
	if n := b.Accepted(); n != int64(served) {
		c.Fatalf("%d clients have reached the backend, and %d were let in", n, served)
	}
}

func rulesBySource(c *C) {
	b := c.Greet("hello")
	p := c.Start(Config{Backends: []string{b.Addr}, Access: Access{Rules: []Rule{
		{Target: "ACCEPT", Source: c.neighbour(1, 7)},
		{Target: "REJECT", Source: c.neighbour(1, 0) + "/24"},
	}}})
	for range 3 {
		refuse(c, p, c.neighbour(1, 8))
		c.Must(echo(welcome(c, p, c.neighbour(1, 7))))
		c.Must(echo(welcome(c, p, c.neighbour(2, 8))))
	}
	sawOnly(c, b, 6)
}

func rulesPolicy(c *C) {
	b := c.Greet("hello")
	p := c.Start(Config{Backends: []string{b.Addr}, Access: Access{Rules: []Rule{
		{Target: "ACCEPT", Source: c.neighbour(1, 0) + "/24"},
		{Target: "REJECT"},
	}}})
	refuse(c, p, c.neighbour(2, 1))
	c.Must(echo(welcome(c, p, c.neighbour(1, 200))))
	refuse(c, p, "")
	sawOnly(c, b, 1)
}

func rulesByPort(c *C) {
	b := c.Greet("hello")
	port := c.udpPorts(2)
	p := c.Start(Config{Listen: []Listener{{Port: port}, {Port: port + 1}}, Backends: []string{b.Addr}, Access: Access{Rules: []Rule{
		{Target: "REJECT", Source: c.neighbour(1, 1), Port: port + 1},
	}}})
	c.Must(echo(welcome(c, p, c.neighbour(1, 1))))
	other := &Proxy{c: c, addrs: p.addrs[1:]}
	refuse(c, other, c.neighbour(1, 1))
	c.Must(echo(welcome(c, other, c.neighbour(1, 2))))
	sawOnly(c, b, 2)
}

// refusedIsReset wants the end of a refused client to be a reset. It is one that no
// client mistakes for an empty answer.
func refusedIsReset(c *C) {
	b := c.Greet("hello")
	p := c.Start(Config{Backends: []string{b.Addr}, Access: Access{Rules: []Rule{{Target: "REJECT", Source: c.neighbour(1, 1)}}}})
	e, err := c.TryDialFrom(p, c.neighbour(1, 1))
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	c.Must(err)
	c.Must(e.WasReset())
}

func rulesInChains(c *C) {
	b := c.Greet("hello")
	in := c.neighbour(1, 0) + "/24"
	p := c.Start(Config{Backends: []string{b.Addr}, Access: Access{Words: []string{
		"-N friends",
		"-A friends -s " + c.neighbour(1, 1) + " -j RETURN",
		"-A friends -s " + c.neighbour(1, 2) + " -j REJECT",
		"-A friends -p tcp --dport 1:65535 -j ACCEPT",
		"-A INPUT -s " + in + " -j friends",
		"-A INPUT -s " + c.neighbour(1, 1) + " -p tcp -m comment --comment 'came back' -j REJECT --reject-with tcp-reset",
		"-A INPUT ! -s " + in + " -j REJECT",
	}}})
	refuse(c, p, c.neighbour(1, 1))
	refuse(c, p, c.neighbour(1, 2))
	refuse(c, p, c.neighbour(2, 3))
	c.Must(echo(welcome(c, p, c.neighbour(1, 3))))
	sawOnly(c, b, 1)
}

// rulesChange has new rules refuse the client of a flow that runs. The flow goes on, and
// new clients of its address are refused until the rules allow them again.
func rulesChange(c *C) {
	b := c.Greet("hello")
	client := c.neighbour(1, 1)
	p := c.Start(Config{Backends: []string{b.Addr}, Reloads: true})
	before := welcome(c, p, client)
	p.ReloadAccess(Access{Rules: []Rule{{Target: "REJECT", Source: client}}})
	c.Wait(c.within(10*time.Second), "the new rules to refuse a client", func() bool {
		e, err := c.TryDialFrom(p, client)
		if err == nil {
			defer e.Close()
			err = e.Hear("hello")
		}
		return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
	})
	c.Must(echo(before))
	c.Must(echo(welcome(c, p, c.neighbour(1, 2))))
	p.ReloadAccess(Access{})
	c.Wait(c.within(10*time.Second), "the rules of before to serve the client again", func() bool {
		e, err := c.TryDialFrom(p, client)
		if err == nil {
			defer e.Close()
			err = e.Hear("hello")
		}
		return err == nil
	})
	c.Must(echo(before))
}

// rulesCount reads the counters of usher's rules.
func rulesCount(c *C) {
	b := c.Greet("hello")
	cfg := Config{Backends: []string{b.Addr}, Control: filepath.Join(c.TempDir(), "usher.sock")}
	cfg.Access.Words = []string{"-s " + c.neighbour(1, 1) + " -j REJECT", "-s " + c.neighbour(1, 2) + " -j ACCEPT"}
	p := c.Start(cfg)
	for range 3 {
		refuse(c, p, c.neighbour(1, 1))
	}
	welcome(c, p, c.neighbour(2, 1))
	for range 2 {
		e := welcome(c, p, c.neighbour(1, 2))
		c.Must(echo(e))
		c.Must(e.Close())
	}
	const bytes = 2 * uint64(len("hello")+2*len("still there?"))
	client := api.NewClient(cfg.Control)
	c.Wait(c.patience(), "the counters of the rules to be 3 flows, 2 flows of 58 bytes, and 1 by the policy", func() bool {
		r, err := client.Rules(c.ctx)
		c.Must(err)
		in := r.Chains[0]
		return len(in.Rules) == 2 && in.Flows == 1 && in.Rules[0].Flows == 3 && in.Rules[1].Flows == 2 && in.Rules[1].Bytes == bytes
	})
}

// udpRules has a datagram of a refused client ignored.
func udpRules(c *C) {
	b := c.Names("b")
	p := through(c, Config{Access: Access{Rules: []Rule{{Target: "REJECT", Source: c.host(1)}}}}, b)
	over, err := c.TryClient(p, c.host(1)+":0")
	c.Must(err)
	for i := range 3 {
		c.Must(over.Say(letMeIn))
		// What a proxy did with a datagram is seen once it has answered a later one.
		_, err := askNew(c, p, c.host(2+i)).Ask("who?")
		c.Must(err)
		c.Must(over.Silent(50 * time.Millisecond))
	}
	if n := b.over.Load(); n > 0 {
		c.Fatalf("%d datagrams of a client that was to be refused got through", n)
	}
}

// dropping is a proxy that drops clients of the first /24 of the case.
func dropping(c *C, cfg Config) (p *Proxy, b *Backend) {
	b = c.Greet("hello")
	cfg.Backends = []string{b.Addr}
	cfg.Access.Rules = []Rule{{Target: "DROP", Source: c.neighbour(1, 0) + "/24"}}
	return c.Start(cfg), b
}

// dropIsSilent wants a client that is dropped to hear nothing, not even an end, whatever
// it says. Others are served meanwhile.
func dropIsSilent(c *C) {
	p, b := dropping(c, Config{})
	e, err := c.TryDialFrom(p, c.neighbour(1, 1))
	c.Must(err)
	c.Must(e.Say("is there anybody?"))
	for i := range 3 {
		c.Must(echo(welcome(c, p, c.neighbour(2, i+1))))
	}
	switch n, err := e.next(500 * time.Millisecond); {
	case n > 0:
		c.Fatalf("a client that was to be dropped is served")
	case !errors.Is(err, os.ErrDeadlineExceeded):
		c.Fatalf("a client that was to be dropped in silence hears of it: %v", short(err))
	}
	sawOnly(c, b, 3)
}

// drop connects n clients that are to be dropped.
func drop(c *C, p *Proxy, n int) (dropped []*Conn) {
	for range n {
		if e, err := c.TryDialFrom(p, c.neighbour(1, 1)); err == nil {
			dropped = append(dropped, e)
		} else if !errors.Is(err, syscall.ECONNRESET) {
			c.Must(err)
		}
	}
	return dropped
}

// droppedAreFew has more clients dropped than may be held. The rest is ended at once.
func droppedAreFew(c *C) {
	const most, more = 5, 20
	p, b := dropping(c, Config{Access: Access{MaxDropped: most, DropTimeout: 10 * time.Minute}})
	c.Must(welcome(c, p, "").Close())
	empty := p.Descriptors().Sockets
	dropped := drop(c, p, most+more)
	c.Wait(2*c.patience(), fmt.Sprintf("the proxy to end all but %d of the clients that it drops", most), func() bool {
		return p.held(c.neighbour(1, 1)) <= most
	})
	c.Must(echo(welcome(c, p, "")))
	if held := p.held(c.neighbour(1, 1)); held != most {
		c.Fatalf("%d clients that are dropped are held, and there is room for %d", held, most)
	}
	for _, e := range dropped {
		e.Close()
	}
	settled(c, p, empty+2) // of the client that is served
	sawOnly(c, b, 2)
}

// held counts the connections of clients of an address that the proxy has not closed. The
// kernel can skip a socket when others come and go, so it merges several looks.
func (p *Proxy) held(client string) int {
	found := make(map[netip.AddrPort]bool)
	for range looks {
		sockets(look{table: "tcp", states: 1<<stateEstablished | 1<<stateCloseWait}, func(s socket) bool {
			if s.remote.Addr().String() == client && s.local.String() == p.Addr() {
				found[s.remote] = true
			}
			return true
		})
	}
	return len(found)
}

// dropTimeout has a client be dropped, which is held for its time and ended then.
func dropTimeout(c *C) {
	const hold = time.Second
	p, b := dropping(c, Config{Access: Access{DropTimeout: hold}})
	start := time.Now()
	e, err := c.TryDialFrom(p, c.neighbour(1, 1))
	c.Must(err)
	c.Must(e.endedUnserved())
	if took := time.Since(start); took < hold*9/10 {
		c.Fatalf("a client that was to be held for %v is told after %v", hold, took)
	}
	sawOnly(c, b, 0)
}

// droppedMakeRoom has clients that are dropped take all places. Newcomers get them.
func droppedMakeRoom(c *C) {
	const places = 8
	p, _ := dropping(c, Config{MaxConns: places, Workers: 1, Access: Access{DropTimeout: 10 * time.Minute}})
	drop(c, p, places)
	var clients []*Conn
	for range places {
		clients = append(clients, welcome(c, p, ""))
	}
	for _, e := range clients {
		c.Must(echo(e))
	}
}

// droppedLeave has clients that are dropped leave by FIN and RST. The proxy keeps nothing
// of them.
func droppedLeave(c *C) {
	p, _ := dropping(c, Config{Access: Access{DropTimeout: 10 * time.Minute}})
	c.Must(welcome(c, p, "").Close())
	before := p.Descriptors().Sockets
	for i, e := range drop(c, p, 10) {
		if i%2 == 0 {
			c.Must(e.Say("bye"))
			c.Must(e.Close())
		} else {
			c.Must(e.Reset())
		}
	}
	settled(c, p, before)
	c.Must(echo(welcome(c, p, "")))
}
