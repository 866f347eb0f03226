//go:build linux

package conformance

import (
	"fmt"
	"strings"
	"time"
)

func nameCases() []Case {
	const group = "server names"
	return []Case{
		{Name: "name-exact-and-below", Group: group, Run: namesChoose},
		{Name: "name-unknown-has-the-rest", Group: group, Run: namesRest},
		{Name: "name-unknown-is-refused", Group: group, Run: namesRefuse},
		{Name: "name-by-protocol", Group: group, Run: namesByProtocol},
		{Name: "name-and-protocol", Group: group, Run: nameAndProtocol},
		{Name: "hello-in-pieces", Group: group, Run: helloInPieces},
		{Name: "hello-of-many-records", Group: group, Run: func(c *C) { helloArrives(c, clientHello{record: 9}) }},
		{Name: "hello-of-16-kib", Group: group, Run: func(c *C) { helloArrives(c, clientHello{size: 16 * kib}) }},
		{Name: "hello-of-16-kib-in-records", Group: group, Run: func(c *C) { helloArrives(c, clientHello{size: 16 * kib, record: 4 * kib}) }},
		{Name: "hello-with-unknown-values", Group: group, Run: func(c *C) { helloArrives(c, clientHello{hasGREASE: true}) }},
		{Name: "hello-passes-every-byte", Group: group, Run: helloPasses},
		{Name: "hello-and-half-close", Group: group, Run: helloHalfClose},
		{Name: "hello-never-comes", Group: group, Run: func(c *C) { helloLate(c, "") }},
		{Name: "hello-stops-half-way", Group: group, Run: func(c *C) { helloLate(c, "half") }},
		{Name: "hello-cut-by-a-reset", Group: group, Run: helloCut},
		{Name: "name-moves-with-a-reload", Group: group, Run: namesReload},
		{Name: "hello-behind-a-proxy-header", Group: group, Run: helloBehindHeader},
	}
}

// withNames starts a proxy with a backend for each name, and one for the rest. Each says its
// own name, and then what it hears.
func withNames(c *C, cfg Config, names ...ServerName) *Proxy {
	for i := range names {
		names[i].Backend = c.echoes(fmt.Sprint(i)).Addr
	}
	cfg.Access.Names = names
	cfg.Backends = []string{c.echoes("r").Addr}
	return c.Start(cfg)
}

// echoes is a backend that says its name when it has heard a byte, and all that it hears.
func (c *C) echoes(name string) *Backend {
	return c.Serve(func(e *Conn) {
		e.SetDeadline(time.Time{})
		for buf, first := make([]byte, 32*kib), true; ; first = false {
			n, err := e.Read(buf)
			text := string(buf[:n])
			if first {
				text = name + text
			}
			if err != nil || e.Say(text) != nil {
				return
			}
		}
	})
}

// asks connects a client that says text. That must be answered by the backend of that
// name, which has heard every byte.
func asks(c *C, p *Proxy, text, by string) *Conn {
	client := c.Dial(p)
	c.Must(client.Say(text))
	c.Must(client.Hear(by + text))
	return client
}

// asksInVain connects a client whose text must be refused.
func asksInVain(c *C, p *Proxy, text string) {
	client := c.Dial(p)
	if client.Say(text) == nil {
		c.Must(client.endedUnserved())
	}
}

func namesChoose(c *C) {
	p := withNames(c, Config{}, ServerName{Name: "www.example.com"}, ServerName{Name: "*.example.com"})
	for name, by := range map[string]string{
		"www.example.com": "0", "WWW.Example.COM": "0", "other.example.com": "1", "a.b.example.com": "1", "a.www.example.com": "1",
		"example.com": "r", "www.example.com.example.net": "r", "notexample.com": "r",
	} {
		asks(c, p, c.clientHello(clientHello{name: name, protocols: []string{"h2", "http/1.1"}}), by)
	}
}

// namesRest has clients that ask for nobody, or say something else.
func namesRest(c *C) {
	p := withNames(c, Config{}, ServerName{Name: "www.example.com"})
	asks(c, p, c.clientHello(clientHello{}), "r")
	asks(c, p, c.clientHello(clientHello{name: "nobody.example.net"}), "r")
	asks(c, p, "GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n", "r")
	asks(c, p, c.clientHello(clientHello{name: "www.example.com"}), "0")
}

func namesRefuse(c *C) {
	p := withNames(c, Config{Access: Access{NamesOnly: true}}, ServerName{Name: "www.example.com"})
	client := asks(c, p, c.clientHello(clientHello{name: "www.example.com"}), "0")
	asksInVain(c, p, c.clientHello(clientHello{}))
	asksInVain(c, p, c.clientHello(clientHello{name: "nobody.example.net"}))
	asksInVain(c, p, "GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n")
	c.Must(echo(client))
	asks(c, p, c.clientHello(clientHello{name: "www.example.com"}), "0")
}

func namesByProtocol(c *C) {
	p := withNames(c, Config{}, ServerName{Name: "www.example.com"}, ServerName{Protocol: "h2"})
	asks(c, p, c.clientHello(clientHello{name: "www.example.com", protocols: []string{"h2"}}), "0")
	asks(c, p, c.clientHello(clientHello{name: "other.example.com", protocols: []string{"http/1.1", "h2"}}), "1")
	asks(c, p, c.clientHello(clientHello{protocols: []string{"h2"}}), "1")
	asks(c, p, c.clientHello(clientHello{name: "other.example.com", protocols: []string{"http/1.1", "h2c"}}), "r")
}

func nameAndProtocol(c *C) {
	p := withNames(c, Config{}, ServerName{Name: "www.example.com", Protocol: "h2"}, ServerName{Name: "www.example.com"})
	asks(c, p, c.clientHello(clientHello{name: "www.example.com", protocols: []string{"h2", "http/1.1"}}), "0")
	asks(c, p, c.clientHello(clientHello{name: "www.example.com", protocols: []string{"http/1.1"}}), "1")
	asks(c, p, c.clientHello(clientHello{name: "other.example.com", protocols: []string{"h2"}}), "r")
}

func helloInPieces(c *C) {
	p := withNames(c, Config{}, ServerName{Name: "www.example.com"})
	text := c.clientHello(clientHello{name: "www.example.com"})
	client := c.Dial(p)
	for i := range len(text) {
		c.Must(client.Say(text[i : i+1]))
		if i%5 == 0 {
			c.Sleep(time.Millisecond)
		}
	}
	c.Must(client.Hear("0"))
	c.Must(client.Hear(text))
	c.Must(echo(client))
}

func helloArrives(c *C, h clientHello) {
	p := withNames(c, Config{}, ServerName{Name: "www.example.com"})
	h.name = "www.example.com"
	client := asks(c, p, c.clientHello(h), "0")
	c.Must(echo(client))
	h.name = "other.example.com"
	asks(c, p, c.clientHello(h), "r")
}

// helloPasses has much more than a hello come with it.
func helloPasses(c *C) {
	b := c.Backend()
	p := c.Start(Config{Backends: []string{c.Refused()}, Access: Access{Names: []ServerName{{Name: "www.example.com", Backend: b.Addr}}}})
	for range 3 {
		client := c.Dial(p)
		text := c.clientHello(clientHello{name: "www.example.com"})
		c.Must(client.Say(text))
		c.Must(client.Send(c.Stream(4), 300*kib))
		server, err := b.Accept()
		c.Must(err)
		c.Must(server.Hear(text))
		c.Must(server.Receive(c.Stream(4), 300*kib))
		bothWays(c, client, server, mib)
		c.Must(server.Finish())
		c.Must(client.Finished())
		c.Must(client.Say("bye"))
		c.Must(server.Hear("bye"))
	}
}

// helloHalfClose has a client that says hello and ends its stream at once.
func helloHalfClose(c *C) {
	b := c.Backend()
	p := c.Start(Config{Backends: []string{c.Refused()}, Access: Access{Names: []ServerName{{Name: "www.example.com", Backend: b.Addr}}}})
	client := c.Dial(p)
	text := c.clientHello(clientHello{name: "www.example.com"})
	c.Must(client.Say(text))
	c.Must(client.Finish())
	server, err := b.Accept()
	c.Must(err)
	c.Must(server.Hear(text))
	c.Must(server.Finished())
	c.Must(server.Say("late"))
	c.Must(client.Hear("late"))
	c.Must(server.Finish())
	c.Must(client.Finished())
}

// helloLate has clients that say too little. Their connections end, and others are served.
func helloLate(c *C, how string) {
	p := withNames(c, Config{Access: Access{NamesOnly: true, HelloTimeout: 4 * time.Second}}, ServerName{Name: "www.example.com"})
	text := c.clientHello(clientHello{name: "www.example.com"})
	before := asks(c, p, text, "0")
	late := c.Dial(p)
	if how == "half" {
		c.Must(late.Say(text[:len(text)/2]))
	}
	asks(c, p, text, "0")
	c.Must(late.endedUnserved())
	c.Must(echo(before))
}

// helloCut has clients leave in the middle of their hellos. Nothing is kept of them.
func helloCut(c *C) {
	p := withNames(c, Config{}, ServerName{Name: "www.example.com"})
	text := c.clientHello(clientHello{name: "www.example.com"})
	before := asks(c, p, text, "0")
	sockets := p.Descriptors().Sockets
	for range 4 {
		client := c.Dial(p)
		c.Must(client.Say(text[:len(text)/2]))
		c.Must(client.Reset())
	}
	settled(c, p, sockets)
	c.Must(echo(before))
}

// namesReload has two services exchange a name. Who has come before keeps the backend.
func namesReload(c *C) {
	a, b := c.echoes("a").Addr, c.echoes("b").Addr
	access := func(first, second string) Access {
		return Access{Names: []ServerName{{Name: first, Backend: a}, {Name: second, Backend: b}}}
	}
	p := c.Start(Config{Backends: []string{c.Refused()}, Reloads: true, Access: access("a.example.com", "b.example.com")})
	text := c.clientHello(clientHello{name: "a.example.com"})
	before := asks(c, p, text, "a")
	p.ReloadAccess(access("b.example.com", "a.example.com"))
	c.Wait(c.within(10*time.Second), "the other service to have the name", func() bool {
		client := c.Dial(p)
		defer client.Close()
		c.Must(client.Say(text))
		buf := make([]byte, 1)
		client.SetReadDeadline(time.Now().Add(c.patience()))
		n, err := client.Read(buf)
		if err != nil {
			c.Fatalf("a client that asks for a name during a reload: %v", short(err))
		}
		return n == 1 && buf[0] == 'b'
	})
	c.Must(echo(before))
	asks(c, p, c.clientHello(clientHello{name: "b.example.com"}), "a")
}

// helloBehindHeader has a peer's header precede the hello, in one segment and apart. The
// backend gets its own header, then the hello.
func helloBehindHeader(c *C) {
	b := c.Backend()
	p := c.Start(Config{Backends: []string{c.Refused()}, Access: Access{
		AcceptProxy: c.neighbour(1, 0) + "/24", ProxyOnly: true, SendProxy: "v1",
		Names: []ServerName{{Name: "www.example.com", Backend: b.Addr}},
	}})
	text := c.clientHello(clientHello{name: "www.example.com"})
	_, server := introduced(c, p, b, c.header(2, named4)+text, named4)
	c.Must(server.Hear(text))
	client, err := c.TryDialFrom(p, c.peer())
	c.Must(err)
	for _, piece := range strings.SplitAfter(c.header(1, other4)+text, "\r\n") {
		c.Must(client.Say(piece))
		c.Sleep(5 * time.Millisecond)
	}
	server, err = b.Accept()
	c.Must(err)
	c.Must(server.HearSource(other4))
	c.Must(server.Hear(text))
}
