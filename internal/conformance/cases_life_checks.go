//go:build linux

package conformance

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

func checkCases() []Case {
	const group = "health checks"
	return []Case{
		{Name: "check-http", Group: group, Run: checkHTTP},
		{Name: "check-grpc", Group: group, Run: checkGRPC},
		{Name: "check-conversation", Group: group, Run: checkConversation},
		{Name: "check-program", Group: group, Run: checkProgram},
	}
}

// examined has two backends that serve their clients all the time. Of the first
// one sick says whether its check is to fail, and the proxy must follow.
func examined(c *C, p *Proxy, sick func(bool)) {
	at(c, p, "a")
	at(c, p, "b")
	sick(true)
	awaitAvoided(c, p, false)
	sick(false)
	c.Wait(c.within(4*time.Second), "the backend that is well again to be used", func() bool {
		who, err := c.Visit(p, "")
		c.Must(err)
		return who == "a"
	})
}

// awaitAvoided waits until no client reaches backend a. All clients are served, except one
// whose flow is cut when a goes down.
func awaitAvoided(c *C, p *Proxy, cuts bool) {
	row, failed := 0, 0
	c.Wait(c.within(4*time.Second), "the checks to take the backend down", func() bool {
		who, err := c.Visit(p, "")
		if row++; err != nil || who == "a" {
			row = 0
		}
		if err != nil {
			failed++
		}
		if failed > 1 || failed > 0 && !cuts {
			c.Must(err)
		}
		return row == 8
	})
}

// checkedAt adds to a backend the port where it is checked.
func checkedAt(b *Backend, ln net.Listener) string {
	return fmt.Sprintf("%s,check=%d", b.Addr, ln.Addr().(*net.TCPAddr).Port)
}

// listen opens a listener for a server of checks.
func (c *C) listen() net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	c.Must(err)
	c.own(ln)
	return ln
}

// webServed returns two backends, each with an HTTP server for its checks, and
// a way to make the first sick.
func webServed(c *C, protocols *http.Protocols, handle func(w http.ResponseWriter, r *http.Request, sick bool)) (backends []string, sick func(bool)) {
	var ill atomic.Bool
	for _, name := range []string{"a", "b"} {
		ln := c.listen()
		server := &http.Server{Protocols: protocols}
		server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handle(w, r, name == "a" && ill.Load())
		})
		go server.Serve(ln)
		c.own(server)
		backends = append(backends, checkedAt(c.Answers(name), ln))
	}
	return backends, ill.Store
}

// plain answers checks of http: with 500 when sick, and with 404 when asked for
// something else.
func plain(w http.ResponseWriter, r *http.Request, sick bool) {
	switch {
	case r.URL.Path != "/health":
		http.NotFound(w, r)
	case sick:
		http.Error(w, "sick", http.StatusInternalServerError)
	}
}

func checkHTTP(c *C) {
	backends, sick := webServed(c, nil, plain)
	p := c.Start(Config{Backends: backends, Health: true, Probe: "http:/health"})
	examined(c, p, sick)
}

// checkGRPC speaks grpc.health.v1: one message SERVING or NOT_SERVING, and the
// status of the call in the trailers.
func checkGRPC(c *C) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	backends, sick := webServed(c, protocols, func(w http.ResponseWriter, r *http.Request, sick bool) {
		const serving, notServing = 1, 2
		status := byte(serving)
		if sick || r.URL.Path != "/grpc.health.v1.Health/Check" {
			status = notServing
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		w.Write([]byte{0, 0, 0, 0, 2, 1 << 3, status}) // field 1, a varint
		w.Header().Set("Grpc-Status", "0")
	})
	p := c.Start(Config{Backends: backends, Health: true, Probe: "grpc"})
	examined(c, p, sick)
}

// checkConversation has servers that greet, and then answer a question.
func checkConversation(c *C) {
	var ill atomic.Bool
	var backends []string
	for _, name := range []string{"a", "b"} {
		check := c.Serve(func(e *Conn) {
			if e.Say("220 ready\r\n") != nil || e.Hear("PING\r\n") != nil {
				return
			}
			if name == "a" && ill.Load() {
				e.Say("-LOADING\r\n")
				return
			}
			e.Say("+PONG\r\n")
		})
		backends = append(backends, checkedAt(c.Answers(name), check.ln))
	}
	p := c.Start(Config{Backends: backends, Health: true, Probe: `tcp:expect=^220,send=PING\r\n,expect=+PONG`})
	examined(c, p, ill.Store)
}

// checkProgram has a program look for a file named after the backend.
func checkProgram(c *C) {
	a, b := c.Answers("a"), c.Answers("b")
	dir := c.TempDir()
	program := `exec:/bin/sh -c 'test ! -e ` + dir + `/$USHER_BACKEND'`
	p := c.Start(Config{Backends: []string{a.Addr, b.Addr}, Health: true, Probe: program})
	mark := filepath.Join(dir, a.Addr)
	examined(c, p, func(sick bool) {
		if sick {
			c.Must(os.WriteFile(mark, nil, 0o644))
			return
		}
		c.Must(os.Remove(mark))
	})
}
