package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// echoProtocol is what long connections speak: HTTP/1.1 until the backend has switched,
// and lines that come back after that (RFC 9110, 7.8).
const echoProtocol = "usher-demo-echo"

// echo takes a connection over from the server and sends back what comes, until the
// client or the backend ends it.
func (b *Backend) echo(w http.ResponseWriter) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	id, leave := b.enter(conn)
	if leave == nil {
		return
	}
	defer leave()
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nServer: %s\r\n\r\n", echoProtocol, id)
	if err == nil {
		_, _ = io.Copy(conn, buffered) // it ends with the connection
	}
}

// enter has Kill close a connection too; leave is nil if the backend is dead.
func (b *Backend) enter(conn net.Conn) (id string, leave func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.server == nil {
		return "", nil
	}
	b.running.Add(1)
	b.echoing[conn] = struct{}{}
	all := b.echoing
	return b.idLocked(), func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(all, conn)
		b.running.Done()
	}
}

// echoConn is the client's end of a long connection. Its methods are for one goroutine.
type echoConn struct {
	net.Conn
	reader  *bufio.Reader
	backend string // id
	began   time.Time
	lines   int // that came back
}

// dialEcho opens a long connection by way of addr. The end of ctx ends the attempt.
func dialEcho(ctx context.Context, addr string) (*echoConn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c := &echoConn{Conn: conn, reader: bufio.NewReader(conn), began: time.Now()}
	_, err = fmt.Fprintf(conn, "GET /echo HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", addr, echoProtocol)
	if err == nil {
		err = c.readSwitch()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *echoConn) readSwitch() error {
	answer, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("the answer is %s", answer.Status)
	}
	c.backend = answer.Header.Get("Server")
	return nil
}

// ask sends a line, and returns when it has come back.
func (c *echoConn) ask() error {
	line := fmt.Sprintf("line %d\n", c.lines)
	if _, err := io.WriteString(c, line); err != nil {
		return err
	}
	got, err := c.reader.ReadString('\n')
	if err == nil && got != line {
		err = fmt.Errorf("%q came back as %q", line, got)
	}
	c.lines++
	return err
}

func isEcho(r *http.Request) bool { return strings.EqualFold(r.Header.Get("Upgrade"), echoProtocol) }
