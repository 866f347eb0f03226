//go:build linux

package conformance

import (
	"fmt"
	"io"
	"slices"
	"time"
)

func logCases() []Case {
	const group = "access log"
	return []Case{
		{Name: "log-counts-bytes-and-tries", Group: group, Run: logCounts},
		{Name: "log-says-how-a-flow-ended", Group: group, Run: logEnds},
		{Name: "log-counts-what-was-taken-down", Group: group, Run: func(c *C) { logTaken(c, "down") }},
		{Name: "log-counts-what-was-taken-up", Group: group, Run: func(c *C) { logTaken(c, "up") }},
		{Name: "log-says-who-was-not-served", Group: group, Run: logNotServed},
		{Name: "log-says-who-was-not-let-in", Group: group, Run: logNotLetIn},
	}
}

// logged waits for the line about the flow of that client address and checks
// its words and numbers.
func logged(c *C, p *Proxy, client string, want map[string]any) map[string]any {
	var line map[string]any
	c.Wait(c.patience(), fmt.Sprintf("the access log line of a flow that ends as %v", want["end"]), func() bool {
		for _, m := range p.AccessLog("client", "listener", "service", "backend", "network", "duration_ms", "bytes_up", "bytes_down", "tries", "end") {
			// A client may have had several flows, and be turned away after the last.
			if m["client"] == client && m["end"] == want["end"] {
				line = m
			}
		}
		return line != nil
	})
	for field, value := range want {
		if fmt.Sprint(line[field]) != fmt.Sprint(value) {
			c.Fatalf("the log says %s %v, want %v", field, line[field], value)
		}
	}
	return line
}

func logCounts(c *C) {
	b := c.Backend()
	p := c.Start(Config{Backends: []string{c.Refused(), b.Addr}, AccessLog: true})
	client, server := c.Pair(p, b) // the first flow tries the first backend first
	up, down := 3*mib+1, 5*mib+2
	c.Together(
		func() error { return client.Send(c.Stream(1), up) },
		func() error { return server.Receive(c.Stream(1), up) },
		func() error { return server.Send(c.Stream(2), down) },
		func() error { return client.Receive(c.Stream(2), down) },
	)
	c.Must(client.Finish())
	c.Must(server.Finished())
	c.Must(server.Finish())
	c.Must(client.Finished())
	logged(c, p, client.LocalAddr().String(), map[string]any{
		"end": "fin", "bytes_up": float64(up), "bytes_down": float64(down), "tries": 2,
		"listener": p.Addr(), "backend": b.Addr, "network": "tcp",
	})
}

func logEnds(c *C) {
	b := c.Backend()
	p := c.Start(Config{
		Backends: []string{b.Addr}, AccessLog: true, Workers: 1,
		IdleTimeout: 5 * time.Second, HalfCloseTimeout: time.Second, DrainTimeout: time.Second,
	})
	ends := []struct {
		word string
		play func(client, server *Conn) error
	}{
		{"client-reset", func(client, _ *Conn) error { return client.Reset() }},
		{"backend-reset", func(_, server *Conn) error { return server.Reset() }},
		{"half-close", func(client, _ *Conn) error { return client.Finish() }},
		{"idle", func(_, _ *Conn) error { return nil }},
	}
	addrs := make([]string, len(ends))
	for i, e := range ends {
		client, server := c.Pair(p, b)
		addrs[i] = client.LocalAddr().String()
		c.Must(Ping(client, server))
		c.Must(e.play(client, server))
	}
	for i, e := range ends {
		logged(c, p, addrs[i], map[string]any{"end": e.word, "bytes_up": 64, "bytes_down": 64, "tries": 1, "backend": b.Addr})
	}
	client, server := c.Pair(p, b)
	c.Must(Ping(client, server))
	p.Drain()
	logged(c, p, client.LocalAddr().String(), map[string]any{"end": "drain", "bytes_up": 64, "bytes_down": 64})
	exitsWell(c, p, c.within(3*time.Second))
}

// logTaken has a timeout end the flow of a reader that has stopped. What its kernel did
// not take was not passed on.
func logTaken(c *C, way string) {
	b := c.Backend()
	p := c.Start(Config{Backends: []string{b.Addr}, AccessLog: true, HalfCloseTimeout: time.Second})
	client, server := c.Pair(p, b)
	addr, sender, reader := client.LocalAddr().String(), server, client
	if way == "up" {
		sender, reader = client, server
	}
	c.Must(reader.setReadBuffer(readBuffer))
	c.Must(sender.Send(c.Stream(5), mib))
	c.Must(sender.Finish())
	_, err := sender.Ended(c.within(6 * time.Second))
	c.Must(err)
	c.Must(reader.Broken())
	reader.SetReadDeadline(time.Now().Add(c.patience()))
	taken, _ := io.Copy(io.Discard, reader.Conn)
	if taken == 0 || taken == mib {
		c.Fatalf("the reader that has stopped took %d bytes of %d", taken, mib)
	}
	logged(c, p, addr, map[string]any{"end": "half-close", "bytes_" + way: float64(taken)})
}

func logNotServed(c *C) {
	p := c.Start(Config{Backends: []string{c.Refused()}, AccessLog: true, ConnectTimeout: time.Second})
	refused := turnedAway(c, p)
	if refused != "connect-failed" {
		c.Fatalf("the log says %s when all backends refuse, want connect-failed", refused)
	}

	b := c.Greet("hello")
	p = c.Start(Config{Backends: []string{b.Addr}, AccessLog: true, MaxConns: 1})
	_, _, err := hello(c, p, "hello")
	c.Must(err)
	if over := turnedAway(c, p); over != "max-conns" {
		c.Fatalf("the log says %s for a client over the limit, want max-conns", over)
	}
}

// turnedAway connects a client that is refused and returns the reason of the first
// line in the log.
func turnedAway(c *C, p *Proxy) (word string) {
	if client, err := c.TryDial(p.Addr()); err == nil {
		client.Ended(c.patience())
	}
	c.Wait(c.patience(), "the access log line of a client that is not served", func() bool {
		for _, m := range p.AccessLog("client", "end") {
			word, _ = m["end"].(string)
		}
		return word != ""
	})
	return word
}

// logNotLetIn has a client end in each way in which it can be refused before it is served.
func logNotLetIn(c *C) {
	b := c.echoes("b")
	p := c.Start(Config{Backends: []string{c.Refused()}, AccessLog: true, Access: Access{
		AcceptProxy: c.neighbour(1, 0) + "/24", ProxyOnly: true, ClientConns: 1, ClientRate: 1, NamesOnly: true,
		Names: []ServerName{{Name: "www.example.com", Backend: b.Addr}},
		Rules: []Rule{{Target: "REJECT", Source: "203.0.113.0/24"}},
	}})
	hello := c.clientHello(clientHello{name: "www.example.com"})
	comes := func(source, text string) *Conn {
		e, err := c.TryDialFrom(p, c.peer())
		c.Must(err)
		c.Must(e.Say(c.header(2, source) + text))
		return e
	}
	has := func(word, client string) bool {
		return slices.ContainsFunc(p.AccessLog("client", "end"), func(m map[string]any) bool { return m["end"] == word && m["client"] == client })
	}
	says := func(word, client string) {
		c.Wait(c.patience(), "the access log to say "+word+" of "+client, func() bool { return has(word, client) })
	}
	refused := func(word, client, text string) {
		c.Must(comes(client, text).endedUnserved())
		says(word, client)
	}
	refused("denied", other4, hello)
	refused("no-sni", named6, "GET / HTTP/1.0\r\n\r\n")
	c.Must(comes(named4, hello).Hear("b"))
	refused("client-limit", named4, hello)
	const another = "198.51.100.8:1008"
	before := comes(another, hello)
	c.Must(before.Hear("b"))
	c.Must(before.Close())
	c.Wait(c.patience(), "the access log to say rate-limited of "+another, func() bool {
		c.Must(comes(another, hello).endedUnserved()) // over its connections, as long as the one before is there
		return has("rate-limited", another)
	})
	e, err := c.TryDialFrom(p, c.peer())
	c.Must(err)
	c.Must(e.Say(hello))
	c.Must(e.endedUnserved())
	says("bad-proxy-header", e.LocalAddr().String())
}
