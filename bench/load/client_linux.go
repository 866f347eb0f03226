package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// edge is the event mask of sockets that carry messages: one event an arrival.
const edge = uint32(unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET)

// tagSize is the length of the sender's tag at the start of a request.
const tagSize = 4

var errClosed = errors.New("closed before the reply")

// openMore opens clients until enough are open, or enough wait for their
// first reply. Those that keep a pace are not opened here.
func (g *Generator) openMore() {
	for g.cfg.Pace == 0 && g.opened < g.want && g.pending < g.window && g.err == nil {
		g.openClient(g.now())
	}
}

// openClient connects the next client, whose latency begins at start, and, if possible, sends its
// request at once. On loopback a connect is done when the call returns, even if it returns EINPROGRESS.
func (g *Generator) openClient(start time.Duration) {
	fd, err := g.dial()
	if err != nil {
		g.lost(err)
		return
	}
	g.opened++
	switch g.cfg.Kind {
	case UDP, UDPIdle:
		g.openAsker(fd)
		return
	case BulkUp, BulkDown:
		r, events := writer, uint32(unix.EPOLLOUT|unix.EPOLLRDHUP)
		if g.cfg.Kind == BulkDown {
			r, events = reader, unix.EPOLLIN
		}
		c, err := g.loop.add(fd, r, events)
		if err != nil {
			closeFD(fd)
			g.fail(err)
			return
		}
		c.client = true
		g.ready++
		return
	}
	sent := g.sendRequest(fd)
	if sent != 0 && sent != unix.EAGAIN {
		closeFD(fd)
		g.lost(fmt.Errorf("send the request: %w", sent))
		return
	}
	events := edge
	if sent == unix.EAGAIN {
		events |= unix.EPOLLOUT
	}
	c, err := g.loop.add(fd, caller, events)
	if err != nil {
		closeFD(fd)
		g.fail(err)
		return
	}
	c.client = true
	c.sent = sent == 0
	c.start = start
	g.pending++
}

// dial begins a connection from the next source address.
func (g *Generator) dial() (int, error) {
	fd, errno := socket(g.cfg.Kind)
	if errno != 0 {
		return -1, fmt.Errorf("socket: %w", errno)
	}
	if err := g.connect(fd, &g.sources[g.opened%len(g.sources)]); err != nil {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}

// connect begins a connection from a source address.
func (g *Generator) connect(fd int, source *unix.RawSockaddrInet4) error {
	// connect chooses the port when it knows the other three parts of the connection's
	// name. So all of the range serves each target.
	if errno := setOption(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); errno != 0 {
		return fmt.Errorf("set IP_BIND_ADDRESS_NO_PORT: %w", errno)
	}
	if errno := bind(fd, source); errno != 0 {
		return fmt.Errorf("bind a source address: %w", errno)
	}
	if g.cfg.Kind == PingPong || g.cfg.Kind == Idle {
		if errno := setOption(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); errno != 0 {
			return fmt.Errorf("set TCP_NODELAY: %w", errno)
		}
	}
	if errno := connect(fd, &g.target); errno != 0 && errno != unix.EINPROGRESS {
		return fmt.Errorf("connect: %w", errno)
	}
	return nil
}

// sendRequest sends one request. The client's descriptor in it shows a reply that went
// to the wrong client.
func (g *Generator) sendRequest(fd int) unix.Errno {
	if len(g.request) >= tagSize {
		binary.LittleEndian.PutUint32(g.request, uint32(fd))
	}
	n, errno := send(fd, g.request)
	if errno == 0 && n != len(g.request) {
		return unix.EMSGSIZE // impossible: see maxMessage
	}
	return errno
}

// call handles an event of a client that waits for its connection or its reply.
func (g *Generator) call(fd int, c *conn, events uint32) {
	if !c.sent {
		if errno := g.sendRequest(fd); errno == unix.EAGAIN {
			return
		} else if errno != 0 {
			g.drop(fd, c, fmt.Errorf("send the request: %w", errno))
			return
		}
		c.sent = true
	}
	if events&^uint32(unix.EPOLLOUT) == 0 {
		return
	}
	n, errno := recv(fd, g.buf[:maxMessage], 0)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return
	case errno != 0:
		g.drop(fd, c, fmt.Errorf("read the reply: %w", errno))
		return
	case n == 0:
		g.drop(fd, c, errClosed)
		return
	}
	if c.got == 0 && n >= tagSize && len(g.request) >= tagSize &&
		binary.LittleEndian.Uint32(g.buf) != uint32(fd) {
		g.fail(fmt.Errorf("a reply went to another client than asked"))
		return
	}
	c.got += int32(n)
	switch size := int32(g.cfg.Size); {
	case c.got < size:
	case c.got > size:
		g.fail(fmt.Errorf("a reply of %d bytes, not %d", c.got, size))
	default:
		g.replied(fd, c)
	}
}

// replied counts a whole reply and starts what follows it.
func (g *Generator) replied(fd int, c *conn) {
	now := g.now()
	g.units++
	_ = g.latency.RecordValue(min(max(int64(now-c.start), histLowest), histHighest))
	if !c.warm {
		c.warm = true
		g.ready++
		g.pending--
	}
	c.got = 0
	switch g.cfg.Kind {
	case CRR:
		g.loop.remove(fd)
		g.openMore()
	case PingPong:
		c.start = now
		if errno := g.sendRequest(fd); errno != 0 {
			g.drop(fd, c, fmt.Errorf("send the next request: %w", errno))
			return
		}
		g.openMore()
	case Idle:
		g.openMore()
	}
}

// drop closes a client that did not get its reply.
func (g *Generator) drop(fd int, c *conn, err error) {
	if !c.warm {
		g.pending--
	}
	g.loop.remove(fd)
	g.lost(err)
	g.openMore()
}

// lost counts a failed connection. It ends the run of a kind whose connections must
// stay.
func (g *Generator) lost(err error) {
	if g.cfg.Kind != CRR {
		g.fail(fmt.Errorf("client: %w", err))
		return
	}
	g.errors++
	if g.first == nil {
		g.first = err
	}
	if g.errors > maxErrors {
		g.fail(fmt.Errorf("more than %d connections failed; first error: %w", maxErrors, g.first))
	}
}

// read discards the received bytes in the kernel. For TCP, MSG_TRUNC is read without
// the copy (tcp(7)).
func (g *Generator) read(fd int, c *conn) {
	n, errno := recv(fd, g.buf, unix.MSG_TRUNC)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
	case errno == 0 && n > 0:
		g.units += int64(n)
	default:
		g.endBulk(fd, c, errno)
	}
}

// write sends one piece. The descriptor is level-triggered: there is another turn
// while there is room, and all connections get one in between.
func (g *Generator) write(fd int, c *conn, events uint32) {
	if c.client && events&unix.EPOLLRDHUP != 0 {
		g.endBulk(fd, c, 0)
		return
	}
	if _, errno := send(fd, g.request); errno != 0 && errno != unix.EAGAIN && errno != unix.EINTR {
		g.endBulk(fd, c, errno)
	}
}

// endBulk closes one side of a bulk flow. A backend's peer may end early, because a
// connection probes the proxy's start. A client's may not.
func (g *Generator) endBulk(fd int, c *conn, errno unix.Errno) {
	client := c.client
	g.loop.remove(fd)
	switch {
	case !client:
	case errno != 0:
		g.fail(fmt.Errorf("client: %w", errno))
	default:
		g.fail(fmt.Errorf("client: %w", errClosed))
	}
}
