//go:build linux

package conformance

import (
	"errors"
	"io"
	"time"
)

func endCases() []Case {
	const group = "ends"
	return []Case{
		{Name: "client-half-close-and-a-late-reply", Group: group, Run: clientHalfClose},
		{Name: "backend-half-close-and-the-client-goes-on", Group: group, Run: backendHalfClose},
		{Name: "client-reset-arrives-as-reset", Group: group, Run: clientReset},
		{Name: "backend-reset-arrives-as-reset", Group: group, Run: backendReset},
		{Name: "client-reset-after-its-half-close", Group: group, Run: func(c *C) {
			_, client, server := pairThrough(c)
			halfClosed(c, client, server)
			c.Must(client.Reset())
			c.Must(server.Broken())
		}},
		{Name: "backend-reset-after-client-half-close", Group: group, Run: func(c *C) {
			_, client, server := pairThrough(c)
			halfClosed(c, client, server)
			c.Must(server.Reset())
			c.Must(client.WasReset())
		}},
		{Name: "client-reset-after-backend-half-close", Group: group, Run: func(c *C) {
			_, client, server := pairThrough(c)
			halfClosed(c, server, client)
			c.Must(client.Reset())
			c.Must(server.WasReset())
		}},
		{Name: "backend-reset-after-its-half-close", Group: group, Run: func(c *C) {
			_, client, server := pairThrough(c)
			halfClosed(c, server, client)
			c.Must(server.Reset())
			c.Must(client.Broken())
		}},
		{Name: "reset-while-the-reader-is-stalled", Group: group, Run: resetWhileStalled},
		{Name: "reply-before-a-reset-arrives", Group: group, Run: replyThenReset},
		{Name: "reply-before-a-close-arrives", Group: group, Run: replyThenClose},
	}
}

func halfClosed(c *C, from, to *Conn) {
	c.Must(from.Finish())
	c.Must(to.Finished())
}

func clientHalfClose(c *C) {
	_, client, server := pairThrough(c)
	n, s := 10*mib, c.Stream(1)
	c.Must(client.Say("request"))
	c.Must(client.Finish())
	c.Must(server.Hear("request"))
	c.Must(server.Finished())
	c.Sleep(300 * time.Millisecond) // longer than proxies that linger for a moment
	c.Together(
		func() error {
			if err := server.Send(s, n); err != nil {
				return err
			}
			return server.Close()
		},
		func() error { return client.Receive(s, n) },
	)
	c.Must(client.Finished())
}

func backendHalfClose(c *C) {
	_, client, server := pairThrough(c)
	c.Must(server.Say("last words"))
	c.Must(server.Finish())
	c.Must(client.Hear("last words"))
	c.Must(client.Finished())
	s := c.Stream(2)
	for i := range 3 {
		c.Sleep(150 * time.Millisecond)
		from := s.From(i * mib)
		c.Together(
			func() error { return client.Send(from, mib) },
			func() error { return server.Receive(from, mib) },
		)
	}
	c.Must(client.Close())
	c.Must(server.Finished())
}

func clientReset(c *C) {
	_, client, server := pairThrough(c)
	c.Must(client.Reset())
	c.Must(server.WasReset())
}

func backendReset(c *C) {
	_, client, server := pairThrough(c)
	c.Must(server.Reset())
	c.Must(client.WasReset())
}

// resetWhileStalled resets a client whose backend does not read. The bytes
// that wait must not hide the reset for ever.
func resetWhileStalled(c *C) {
	_, client, server := pairThrough(c)
	n, s := 128*mib, c.Stream(3)
	sent := c.Begin(func() error { return client.Send(s, n) })
	c.WaitStill("the client to be stopped", client.Sent)
	c.Must(client.Reset())
	sent() // its error is the close above
	if err := server.Receive(s, n); err == nil {
		c.Fatalf("all bytes arrived though the client was reset")
	} else if errors.Is(err, io.EOF) {
		c.Fatalf("backend: a clean end came where a reset was due")
	} else if !isReset(err) {
		c.Fatalf("%v, want a reset", err)
	}
}

// replyThenReset sends a reply and a reset behind it. Bytes that are in the
// receive queue of the proxy when the reset comes can still be delivered.
func replyThenReset(c *C) {
	b := c.Backend()
	p := c.Start(Config{Backends: []string{b.Addr}})
	n, s := 16*kib, c.Stream(4)
	overtaken := false
	for range 50 {
		client, server := c.Pair(p, b)
		c.Must(Ping(client, server))
		c.Must(server.Send(s, n))
		c.Must(server.Reset())
		// On loopback a RST may overtake segments that another processor still has queued, and the kernel obeys it if it
		// is at the end of what has arrived out of order (RFC 5961, section 3.2). That is rare; a forwarder that resets
		// before it delivers does it each time.
		err := client.Receive(s, n)
		if isReset(err) && !overtaken {
			overtaken = true
			continue
		}
		c.Must(err)
		c.Must(client.WasReset())
	}
}

func replyThenClose(c *C) {
	b := c.Backend()
	p := c.Start(Config{Backends: []string{b.Addr}})
	n, s := 100*kib+1, c.Stream(5)
	for range 50 {
		client, server := c.Pair(p, b)
		c.Must(server.Send(s, n))
		c.Must(server.Close())
		c.Must(client.Receive(s, n))
		c.Must(client.Finished())
		c.Must(client.Close())
	}
}
