package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// arrival is the event mask of UDP sockets: one event an arrival. The handler
	// reads until the socket is empty.
	arrival = uint32(unix.EPOLLIN | unix.EPOLLET)

	// bufferSize is requested for the load's own sockets, which must lose nothing.
	bufferSize = 4 << 20

	// sweeps is how often a patience is divided to look for lost requests.
	sweeps = 16
)

var (
	errCrossed = errors.New("a reply went to another client than asked")
	errUnasked = errors.New("a reply to a request that was never sent")
	errTwice   = errors.New("more replies than requests")
)

// exchange is what UDP clients have in flight.
type exchange struct {
	in, out  batch
	queued   int       // datagrams in out that are to be sent
	window   int       // requests that a client may have in flight
	requests []request // window of them for each client, in the clients' order
	sockets  []int     // by client

	patience  time.Duration
	nextSweep time.Duration
	swept     int64 // sweeps so far
	overdue   int64 // requests that had no reply in time
	late      int64 // replies that came after that
}

// missing is how many requests were given up and are still unanswered.
func (x *exchange) missing() int64 { return x.overdue - x.late }

// request is one place in a client's window.
type request struct {
	turn    uint32 // counts the requests of this place; part of the current one's stamp
	waiting bool
	sent    time.Duration
	swept   int64 // exchange.swept at that time
}

func newExchange(c *Config) exchange {
	window, clients := max(c.Window, 1), c.Conns
	if c.Kind.IsIdle() {
		clients += idleWarmup
	}
	return exchange{
		in: newBatch(c.Size, true), out: newBatch(c.Size, false),
		window:   window,
		requests: make([]request, clients*window),
		sockets:  make([]int, clients),
		patience: Patience,
	}
}

// growBuffer asks for a receive buffer that holds all that is in flight. The kernel
// may grant less as long as it is enough: see checkDrops.
func growBuffer(fd int) {
	if setOption(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferSize) != 0 {
		_ = setOption(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bufferSize)
	}
}

// openAsker makes a connected socket the next client, which asks at once for
// all that its window takes.
func (g *Generator) openAsker(fd int) {
	growBuffer(fd)
	c, err := g.loop.add(fd, asker, arrival)
	if err != nil {
		closeFD(fd)
		g.fail(err)
		return
	}
	x := &g.datagrams
	c.client = true
	c.index = int32(g.opened - 1)
	x.sockets[c.index] = fd
	g.pending++
	now := g.now()
	first := int(c.index) * x.window
	for place := first; place < first+x.window; place++ {
		g.ask(fd, place, now)
	}
	g.flush(fd)
}

// ask queues the next request at a place of the window of fd's client. All
// that is queued goes to one socket: flush before the next.
func (g *Generator) ask(fd, place int, now time.Duration) {
	x := &g.datagrams
	if x.queued == batchSize {
		g.flush(fd)
	}
	r := &x.requests[place]
	r.turn++
	r.waiting = true
	r.sent, r.swept = now, x.swept
	stamp := x.out.datagram(x.queued)
	binary.LittleEndian.PutUint32(stamp, uint32(place))
	binary.LittleEndian.PutUint32(stamp[4:], r.turn)
	binary.LittleEndian.PutUint32(stamp[8:], ^uint32(place))
	x.queued++
}

// flush sends what is queued.
func (g *Generator) flush(fd int) {
	x := &g.datagrams
	n := x.queued
	x.queued = 0
	if errno := x.out.write(fd, n); errno != 0 {
		g.fail(fmt.Errorf("client: send: %w", errno))
	}
}

// collect reads the replies and asks again for each.
func (g *Generator) collect(fd int, c *conn) {
	x := &g.datagrams
	index, warm := int(c.index), c.warm
	for g.err == nil {
		n, errno := x.in.read(fd)
		if errno != 0 {
			if errno != unix.EAGAIN {
				g.fail(fmt.Errorf("client: read: %w", errno))
			}
			break
		}
		now := g.now()
		for i := range n {
			place, err := x.answered(index, i)
			if err != nil {
				g.fail(fmt.Errorf("client: %w", err))
				return
			}
			if place < 0 {
				continue
			}
			g.units++
			took := int64(now - x.requests[place].sent)
			_ = g.latency.RecordValue(min(max(took, histLowest), histHighest))
			if !c.warm {
				c.warm = true
				g.ready++
				g.pending--
			}
			if g.cfg.Kind == UDP {
				g.ask(fd, place, now)
			}
		}
		g.flush(fd)
		if n < batchSize {
			break
		}
	}
	if c.warm != warm {
		g.openMore() // may move c
	}
}

// answered finds the request of the reply in datagram i of a client's read, and marks
// it as answered. A place below zero means that the request was given up.
func (x *exchange) answered(index, i int) (place int, err error) {
	if !x.in.isWhole(i) {
		return 0, fmt.Errorf("a reply of %d bytes or more, not %d", x.in.headers[i].n, x.in.size)
	}
	stamp := x.in.datagram(i)
	tag := binary.LittleEndian.Uint32(stamp)
	turn := binary.LittleEndian.Uint32(stamp[4:])
	if binary.LittleEndian.Uint32(stamp[8:]) != ^tag {
		return 0, errUnasked
	}
	if int(tag)/x.window != index {
		return 0, errCrossed
	}
	r := &x.requests[tag]
	switch behind := r.turn - turn; {
	case behind > 1<<31:
		return 0, errUnasked
	case behind == 0 && r.waiting:
		r.waiting = false
		return int(tag), nil
	}
	// A request that was given up may still get one reply.
	if x.late++; x.missing() < 0 {
		return 0, errTwice
	}
	return -1, nil
}

// sweep sends again those requests that are overdue, if it is time to look. Age is
// counted in sweeps. A load that had to wait for its CPU does not count as lost what
// arrived meanwhile.
func (g *Generator) sweep() {
	x := &g.datagrams
	now := g.now()
	if now < x.nextSweep {
		return
	}
	x.nextSweep = now + x.patience/sweeps
	x.swept++
	for index, fd := range x.sockets[:g.opened] {
		for place := index * x.window; place < (index+1)*x.window; place++ {
			if r := &x.requests[place]; r.waiting && x.swept-r.swept > sweeps {
				x.overdue++
				g.ask(fd, place, now)
			}
		}
		if x.queued > 0 {
			g.flush(fd)
		}
	}
}

// checkDrops fails if the kernel dropped datagrams at the load's own UDP sockets. Such
// a loss is not the proxy's.
func (g *Generator) checkDrops() error {
	var drops uint64
	for fd := range g.loop.conns {
		if r := g.loop.conns[fd].role; r != mirror && r != asker {
			continue
		}
		var info [unix.SK_MEMINFO_DROPS + 1]uint32
		if errno := getOption(fd, unix.SOL_SOCKET, unix.SO_MEMINFO, &info); errno != 0 {
			return fmt.Errorf("read SO_MEMINFO: %w", errno)
		}
		drops += uint64(info[unix.SK_MEMINFO_DROPS])
	}
	if drops > 0 {
		return fmt.Errorf("the load itself dropped %d datagrams: net.core.rmem_max is too low", drops)
	}
	return nil
}
