package load

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

const backlog = 4096 // cut to net.core.somaxconn by the kernel

// listen opens a listener or UDP socket on each backend address, all at one
// port.
func (g *Generator) listen() error {
	const tries = 16 // a port that is free on the first address may be taken on another
	var err error
	for range tries {
		if err = g.listenOnce(); err == nil {
			return nil
		}
	}
	return err
}

func (g *Generator) listenOnce() error {
	var fds []int
	var port uint16
	g.backends = g.backends[:0]
	for _, a := range g.cfg.Backends {
		fd, at, err := listenAt(netip.AddrPortFrom(a, port), g.cfg.Kind)
		if err == nil {
			if g.cfg.Kind.isUDP() {
				_, err = g.loop.add(fd, mirror, arrival)
			} else {
				_, err = g.loop.add(fd, listener, unix.EPOLLIN)
			}
			fds = append(fds, fd)
		}
		if err != nil {
			for _, fd := range fds {
				g.loop.remove(fd)
			}
			return err
		}
		port = at.Port()
		g.backends = append(g.backends, at)
	}
	return nil
}

// listenAt listens on a for a kind of load; port 0 lets the kernel choose.
func listenAt(a netip.AddrPort, k Kind) (int, netip.AddrPort, error) {
	fail := func(fd int, err error) (int, netip.AddrPort, error) {
		if fd >= 0 {
			unix.Close(fd)
		}
		return -1, netip.AddrPort{}, fmt.Errorf("listen on %s: %w", a, err)
	}
	fd, errno := socket(k)
	if errno != 0 {
		return fail(-1, errno)
	}
	if k.isUDP() {
		growBuffer(fd)
	} else if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fail(fd, err) // accepted sockets inherit it
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}); err != nil {
		return fail(fd, err)
	}
	if !k.isUDP() {
		if err := unix.Listen(fd, backlog); err != nil {
			return fail(fd, err)
		}
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return fail(fd, err)
	}
	at, ok := sa.(*unix.SockaddrInet4)
	if !ok {
		return fail(fd, unix.EAFNOSUPPORT)
	}
	return fd, netip.AddrPortFrom(a.Addr(), uint16(at.Port)), nil
}

// accept takes one connection. The listener is level-triggered: if more wait, the next
// turn reports it. That costs less than a call that finds nothing.
func (g *Generator) accept(lfd int) {
	fd, errno := accept(lfd)
	if errno != 0 {
		if errno != unix.EAGAIN && errno != unix.ECONNABORTED && errno != unix.EINTR {
			g.fail(fmt.Errorf("backend: accept: %w", errno))
		}
		return
	}
	r, events := echo, edge
	switch g.cfg.Kind {
	case BulkUp:
		r, events = reader, unix.EPOLLIN
	case BulkDown:
		r, events = writer, unix.EPOLLOUT
	}
	if _, err := g.loop.add(fd, r, events); err != nil {
		closeFD(fd)
		g.fail(fmt.Errorf("backend: %w", err))
	}
}

// echo sends back what it reads and closes when the other side has. A read that does
// not fill the buffer is the last until the next event. The exception is an event that
// also reports the end.
func (g *Generator) echo(fd int, events uint32) {
	for {
		n, errno := recv(fd, g.buf, 0)
		switch {
		case errno == unix.EAGAIN || errno == unix.EINTR:
			return
		case errno != 0 || n == 0:
			g.loop.remove(fd)
			return
		}
		if sent, errno := send(fd, g.buf[:n]); errno == unix.EPIPE || errno == unix.ECONNRESET {
			g.loop.remove(fd)
			return
		} else if sent != n {
			g.fail(fmt.Errorf("backend: sent %d of %d bytes back: %w", sent, n, errno))
			return
		}
		if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
			return
		}
	}
}

// mirror sends back what has come to a backend.
func (g *Generator) mirror(fd int) {
	in := &g.datagrams.in
	for {
		n, errno := in.read(fd)
		if errno != 0 {
			if errno != unix.EAGAIN {
				g.fail(fmt.Errorf("backend: read: %w", errno))
			}
			return
		}
		for i := range n {
			if !in.isWhole(i) {
				g.fail(fmt.Errorf("backend: a request of %d bytes or more, not %d", in.headers[i].n, in.size))
				return
			}
		}
		if errno := in.write(fd, n); errno != 0 {
			g.fail(fmt.Errorf("backend: send: %w", errno))
			return
		}
		if n < batchSize {
			return
		}
	}
}
