//go:build linux

package conformance

import (
	"strings"
	"time"
)

func proxyBadCases() []Case {
	const group = "bad PROXY headers"
	halves := func(c *C) string { return c.header(2, named6)[:20] }
	text := func(text string) func(*C) string { return func(*C) string { return text } }
	stay := func(*Conn) error { return nil }
	cases := []struct {
		name string
		text func(*C) string
		end  func(*Conn) error // what the peer does then
	}{
		{"garbage", text("GET / HTTP/1.0\r\n\r\n"), stay},
		{"nothing-but-an-end", text(""), (*Conn).Finish},
		{"cut-by-an-end", halves, (*Conn).Finish},
		{"cut-by-a-reset", halves, (*Conn).Reset},
		{"of-version-1-without-end", text("PROXY TCP4 " + strings.Repeat("1", 200)), stay},
		{"with-a-port-too-big", text("PROXY TCP4 198.51.100.7 192.0.2.80 65536 80\r\n"), stay},
		{"with-addresses-of-two-families", text("PROXY TCP4 198.51.100.7 2001:db8::80 1 80\r\n"), stay},
		{"too-short-for-its-addresses", text(signature + "\x21\x11\x00\x04\xc6\x33\x64\x07"), stay},
		{"of-version-3", text(signature + "\x31\x11\x00\x0c" + strings.Repeat("1", 12)), stay},
		{"of-64-kib", text(signature + "\x21\x11\xff\xff" + strings.Repeat("1", 1<<16)), stay},
	}
	late := Config{Access: Access{HeaderTimeout: 4 * time.Second}}
	var all []Case
	for _, x := range cases {
		all = append(all, Case{Name: "bad-header-" + x.name, Group: group, Run: func(c *C) { badHeader(c, Config{}, x.text(c), x.end) }})
	}
	return append(all,
		Case{Name: "bad-header-that-never-comes", Group: group, Run: func(c *C) { badHeader(c, late, "", stay) }},
		Case{Name: "bad-header-that-stops-half-way", Group: group, Run: func(c *C) { badHeader(c, late, halves(c), stay) }})
}

// badHeader has a peer send no good header. That connection ends, and the backend never
// hears of it. Others of the same peer are served.
func badHeader(c *C, cfg Config, text string, end func(*Conn) error) {
	p, b := behind(c, cfg)
	before, beforeAt := introduced(c, p, b, c.header(1, named4)+"first", named4)
	c.Must(beforeAt.Hear("first"))
	sockets := p.Descriptors().Sockets
	rounds := 3
	if cfg.Access.HeaderTimeout > 0 {
		rounds = 1
	}
	for range rounds {
		bad, err := c.TryDialFrom(p, c.peer())
		c.Must(err)
		if bad.Say(text) == nil { // else it has ended in the middle
			_ = end(bad) // likewise
		}
		client, server := introduced(c, p, b, c.header(2, other4), other4)
		c.Must(Ping(client, server))
		c.Must(Ping(before, beforeAt))
		if !isClosed(bad) {
			c.Must(bad.endedUnserved())
			bad.Close()
		}
		client.Close()
		server.Close()
	}
	settled(c, p, sockets, b)
	sawOnly(c, b, 1+rounds)
	c.Must(Ping(before, beforeAt))
}

// isClosed reports whether this side has closed the connection.
func isClosed(e *Conn) bool { return e.SetDeadline(time.Time{}) != nil }
