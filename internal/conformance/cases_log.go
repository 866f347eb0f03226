//go:build linux

package conformance

import (
	"fmt"
	"io"
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
