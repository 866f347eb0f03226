//go:build linux

package conformance

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Backend is a server of the suite. With a handler it serves by itself;
// without one the case takes each connection with Accept.
type Backend struct {
	Addr     string // as in Config.Backends
	c        *C
	ln       net.Listener
	conns    chan *Conn
	accepted atomic.Int64
	vanished atomic.Bool
	stuck    atomic.Bool
	kept     chan net.Conn // connections accepted since Blackhole
}

// Backend listens on 127.0.0.1 for connections that the case accepts.
func (c *C) Backend() *Backend { return c.Serve(nil) }

// Serve listens on 127.0.0.1 and runs handle for each connection, which is
// closed afterwards.
func (c *C) Serve(handle func(*Conn)) *Backend {
	// Refused reserves the address after the listener closes.
	return c.serveOn("tcp", c.Refused(), handle)
}

// Greet serves connections with a greeting and then echoes until the end.
func (c *C) Greet(greeting string) *Backend {
	return c.Serve(func(e *Conn) { greet(e, greeting) })
}

func greet(e *Conn, greeting string) {
	if e.Say(greeting) != nil {
		return
	}
	e.SetDeadline(time.Time{}) // it echoes for as long as the client likes
	buf := make([]byte, 4096)
	for {
		n, err := e.Read(buf)
		if n > 0 {
			if _, err := e.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (c *C) unixBackend() *Backend {
	path := filepath.Join(c.TempDir(), "b")
	b := c.serveOn("unix", path, nil)
	c.Must(os.Chmod(path, 0o777)) // the proxy may be another user
	return b
}

func (c *C) serveOn(network, addr string, handle func(*Conn)) *Backend {
	ln, err := net.Listen(network, addr)
	if err != nil {
		c.Fatalf("backend: %v", err)
	}
	c.own(ln)
	b := &Backend{Addr: ln.Addr().String(), c: c, ln: ln, conns: make(chan *Conn, 1<<14), kept: make(chan net.Conn, 1)}
	if network == "unix" {
		b.Addr = "unix://" + addr
	}
	go b.accept(handle)
	return b
}

func (b *Backend) accept(handle func(*Conn)) {
	for {
		conn, err := b.ln.Accept()
		if errors.Is(err, net.ErrClosed) || err != nil && b.vanished.Load() {
			return
		}
		if err != nil {
			b.c.Errorf("backend: %v", err)
			return
		}
		if b.stuck.Load() {
			b.c.own(conn)
			b.kept <- conn
			return
		}
		b.accepted.Add(1)
		e := &Conn{Conn: conn, who: "backend", patience: b.c.patience()}
		b.c.own(e)
		if handle == nil {
			b.conns <- e
			continue
		}
		go func() {
			defer e.Close()
			handle(e)
		}()
	}
}

// Accept returns the next connection.
func (b *Backend) Accept() (*Conn, error) {
	select {
	case e := <-b.conns:
		return e, nil
	case <-time.After(b.c.patience()):
		return nil, errors.New("backend: no connection came from the proxy")
	case <-b.c.ctx.Done():
		return nil, b.c.ctx.Err()
	}
}

// Accepted counts the connections so far.
func (b *Backend) Accepted() int64 { return b.accepted.Load() }

// Vanish closes the listener, so that new connects are refused. It shuts the socket
// down first: a process that is starting holds a copy of each descriptor until it
// executes. A close alone may leave the kernel accepting for a moment.
func (b *Backend) Vanish() {
	b.vanished.Store(true)
	if raw, err := b.ln.(*net.TCPListener).SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	}
	b.ln.Close()
}

// Blackhole stops accepting and fills the accept queue, so that a connect gets no
// answer. A few clients of a proxy may be in the queue, connected and never served.
func (b *Backend) Blackhole() {
	b.stuck.Store(true)
	b.c.fill(b.ln.(*net.TCPListener))
	// The accept loop takes one more connection before it stops, which makes room
	// again.
	b.c.Wait(b.c.patience(), "a backend to stop accepting", func() bool { return len(b.kept) == 1 })
	b.c.fill(b.ln.(*net.TCPListener))
}

// Release resets the connections that wait since Blackhole, and refuses new ones.
func (b *Backend) Release() {
	b.Vanish()
	(<-b.kept).Close()
}

// Dial connects to the first address of p.
func (c *C) Dial(p *Proxy) *Conn {
	e, err := c.TryDial(p.Addr())
	c.Must(err)
	return e
}

// TryDial connects to an address of a proxy, from any goroutine.
func (c *C) TryDial(addr string) (*Conn, error) {
	network := "tcp"
	if path, ok := unixPath(addr); ok {
		network, addr = "unix", path
	}
	conn, err := net.DialTimeout(network, addr, c.patience())
	if err != nil {
		return nil, fmt.Errorf("client: connect: %w", short(err))
	}
	e := &Conn{Conn: conn, who: "client", patience: c.patience()}
	c.own(e)
	return e, nil
}

// Pair connects a client through p and returns both ends of the flow.
func (c *C) Pair(p *Proxy, b *Backend) (client, server *Conn) {
	client = c.Dial(p)
	server, err := b.Accept()
	c.Must(err)
	return client, server
}

// Refused returns an address that refuses, and goes on to.
func (c *C) Refused() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.reserve("127.0.0.1", 0)))
}

// BlackholeAddr returns an address where a connect gets no answer. Its accept queue is
// full, so the kernel drops each further SYN.
func (c *C) BlackholeAddr() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	c.Must(err)
	c.own(ln)
	c.fill(ln.(*net.TCPListener))
	return ln.Addr().String()
}

// fill fills the accept queue of a listener without a reader, so that the kernel drops
// each SYN.
func (c *C) fill(ln *net.TCPListener) {
	raw, err := ln.SyscallConn()
	c.Must(err)
	// A second listen call only changes the backlog.
	var listenErr error
	c.Must(raw.Control(func(fd uintptr) { listenErr = syscall.Listen(int(fd), 0) }))
	c.Must(listenErr)
	for range 16 {
		conn, err := net.DialTimeout("tcp", ln.Addr().String(), 100*time.Millisecond)
		if err != nil {
			return
		}
		c.own(conn)
	}
	c.Skipf("this kernel answers although the accept queue is full")
}

// fileCloser closes a plain descriptor.
type fileCloser int

func (f fileCloser) Close() error { return unix.Close(int(f)) }

// reserve binds a port of host for the rest of the case and returns it. Port 0 lets
// the kernel choose. The socket never listens: connects are refused, and the kernel
// gives the port to no other process. A server with SO_REUSEADDR can still listen
// there. It returns 0 when a requested port is taken.
func (c *C) reserve(host string, port int) int {
	family, sa := unix.AF_INET, unix.Sockaddr(nil)
	ip := net.ParseIP(host)
	if ip4 := ip.To4(); ip4 != nil {
		sa = &unix.SockaddrInet4{Port: port, Addr: [4]byte(ip4)}
	} else {
		family = unix.AF_INET6
		sa = &unix.SockaddrInet6{Port: port, Addr: [16]byte(ip.To16())}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	c.Must(err)
	// Cleanup runs after the proxy has ended: a refused connect must not find a
	// stranger's server.
	c.Cleanup(func() { fileCloser(fd).Close() })
	c.Must(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	if err := unix.Bind(fd, sa); err != nil {
		if port == 0 {
			c.Fatalf("reserve a port of %s: %v", host, err)
		}
		return 0
	}
	got, err := unix.Getsockname(fd)
	c.Must(err)
	switch got := got.(type) {
	case *unix.SockaddrInet4:
		return got.Port
	case *unix.SockaddrInet6:
		return got.Port
	}
	return 0
}
