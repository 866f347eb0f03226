package proxy

import (
	"math/bits"
	"net/netip"
	"time"

	"usher/conntrack"
	"usher/proxy/flow"
)

// conn is one TCP connection through an event loop: its policy and its two
// sockets. While it is idle it owns no buffer and no pipe.
type conn struct {
	half   [2]half // by side, and first, with what of Flow each event reads
	queued bool    // in worker.again
	flow.Flow
}

// half is one side of a conn: the socket, what the kernel said of it, and the
// bytes read from it that the other side has not taken yet.
type half struct {
	fd  int32 // -1 when closed
	gen int32 // guards against events for an earlier use of the slot; never negative

	readable bool    // a read may find something
	writable bool    // a write may find room
	probing  bool    // a short read may not be all there is: read until EAGAIN or the end
	watched  bool    // registered with epoll
	roomy    bool    // registered for room to write, too
	probed   bool    // has its keepalive
	ended    bool    // its FIN was read and passed on, or it is past reading
	broken   Outcome // how it failed; Running while it has not

	// The direction from this side to the other.
	splicing bool
	nosplice bool   // the kernel cannot splice from or to such a socket
	bulk     bool   // the last read was a large one
	full     uint8  // reads in a row that filled the buffer
	small    uint8  // splices in a row that moved little
	preface  uint16 // how many bytes of rest are not the client's: they are a PROXY header
	pipe     *pipe
	rest     []byte // unsent part of buf
	buf      []byte // from the restPool; nil while rest is empty
}

// payload returns how many of n bytes that were sent are the client's own: the first ones may
// be those of the PROXY header.
func (h *half) payload(n int) int {
	header := min(n, int(h.preface))
	h.preface -= uint16(header)
	return n - header
}

// passed counts n bytes from side s that were sent.
func (c *conn) passed(s flow.Side, n int, now time.Duration) {
	if n = c.half[s].payload(n); n > 0 {
		c.Passed(s, n, now)
	}
}

// pending reports whether bytes wait for the other side.
func (h *half) pending() bool { return len(h.rest) > 0 || h.pipe != nil && h.pipe.held > 0 }

// tag names a side of the flow in an event.
func (c *conn) tag(s flow.Side) int32 { return int32(uint32(c.ID)<<1 | uint32(s)) }

// open makes h a fresh half with a new generation.
func (h *half) open(fd int32) {
	*h = half{fd: fd, gen: (h.gen + 1) & (udpGen - 1)}
}

// newConn makes the conn of an admitted client. The table has room: it holds as
// many as the server admits.
func (w *worker) newConn(n *newcomer, local netip.AddrPort) *conn {
	proto := conntrack.TCP
	if !local.IsValid() {
		proto = conntrack.Unix
	}
	id, ent := w.table.Insert(conntrack.NewKey(proto, n.from, local), n.cfg.Service, w.now)
	w.grow(id)
	c := w.conn(id)
	if c.NeedsTicket(n.cfg, n.entrance.Greets()) {
		c.GiveTicket(func() { w.enqueue(func() { w.woken(c) }) }) // once a slot, which never moves
	}
	c.Feed = &w.feed
	c.Begin(n.cfg, id, ent, &flow.Origin{Client: n.from, Local: local, Path: n.at.path, Offset: n.offset}, w.now)
	c.queued = false
	c.half[flow.Client].open(n.fd)
	c.half[flow.Client].probed = true
	c.half[flow.Backend].open(-1)
	return c
}

// end closes both sockets and settles the flow.
func (w *worker) end(c *conn, o Outcome) {
	c.Ending(w.now)
	orderly := c.IsOrderly(o, c.half[flow.Client].pending() || c.half[flow.Backend].pending()) &&
		(o == flow.Finished || !unread(c.half[flow.Client].fd) && !unread(c.half[flow.Backend].fd))
	w.countPackets(c)
	for s := range c.half {
		h := &c.half[s]
		if h.pipe != nil {
			w.pipes.put(h.pipe)
			h.pipe = nil
		}
		w.rests.put(h.buf)
		h.rest, h.buf = nil, nil
		if h.fd < 0 {
			continue
		}
		if orderly {
			closeFD(h.fd)
		} else {
			closeReset(h.fd)
		}
		h.fd = -1
	}
	c.queued = false
	if w.paused {
		w.resume = w.now // there are descriptors now
	}
	w.server.admission.Settle(&c.Flow, o, w.now, w.table.Remove)
}

// countPackets counts the segments of a connection so far, if its service asks for that. The last ones, of its end, are
// never known here.
func (w *worker) countPackets(c *conn) {
	if c.Settings.CountsPackets && tcpInfo(c.half[flow.Client].fd, &w.info) == noError {
		c.CountPackets(w.info.Segs_in, w.info.Segs_out)
	}
}

// restPool keeps buffers for bytes that one side sent and the other has no room
// for: at most one buffer a direction, at most copyBuffer long. It keeps a few of
// each power of two and leaves the others to the collector. Only the loop uses it.
type restPool struct {
	free [bits.UintSize][][]byte // by log2 of the capacity
}

// restKeep bounds the free buffers of one size.
const restKeep = 16

// get returns a buffer with a copy of p.
func (r *restPool) get(p []byte) []byte {
	class := max(bits.Len(uint(len(p)-1)), 10)
	free := r.free[class]
	if n := len(free); n > 0 {
		b := free[n-1][:len(p)]
		r.free[class] = free[:n-1]
		copy(b, p)
		return b
	}
	b := make([]byte, len(p), 1<<class)
	copy(b, p)
	return b
}

// put takes back what get returned; nil is nothing.
func (r *restPool) put(b []byte) {
	if b == nil {
		return
	}
	class := bits.Len(uint(cap(b) - 1))
	if len(r.free[class]) < restKeep {
		r.free[class] = append(r.free[class], b)
	}
}
