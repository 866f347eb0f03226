//go:build linux

package conformance

import (
	"fmt"
	"time"
)

func logCases() []Case {
	const group = "access log"
	return []Case{
		{Name: "log-counts-bytes-and-tries", Group: group, Run: logCounts},
		{Name: "log-says-how-a-flow-ended", Group: group, Run: logEnds},
		{Name: "log-says-who-was-not-served", Group: group, Run: logNotServed},
	}
}

// logged waits for the line about the flow of that client address and checks
// its words and numbers.
func logged(c *C, p *Proxy, client string, want map[string]any) {
	var line map[string]any
	c.Wait(c.patience(), fmt.Sprintf("the access log line of a flow that ends as %v", want["end"]), func() bool {
		for _, m := range p.AccessLog("client", "service", "backend", "duration", "up", "down", "tries", "end") {
			if m["client"] == client {
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
		"end": "fin", "up": float64(up), "down": float64(down), "tries": 2, "backend": b.Addr,
	})
}

func logEnds(c *C) {
	b := c.Backend()
	p := c.Start(Config{
		Backends: []string{b.Addr}, AccessLog: true, Workers: 1,
		IdleTimeout: 2 * time.Second, HalfCloseTimeout: time.Second, DrainTimeout: time.Second,
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
		logged(c, p, addrs[i], map[string]any{"end": e.word, "up": 64, "down": 64, "tries": 1, "backend": b.Addr})
	}
	client, server := c.Pair(p, b)
	c.Must(Ping(client, server))
	p.Drain()
	logged(c, p, client.LocalAddr().String(), map[string]any{"end": "drain", "up": 64, "down": 64})
	exitsWell(c, p, c.within(3*time.Second))
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
	if over := turnedAway(c, p); over != "limit" {
		c.Fatalf("the log says %s for a client over the limit, want limit", over)
	}
}

// turnedAway connects a client that will not be served and returns the word of
// the first line that the log then has.
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
