package proxy

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"usher/proxy/flow"
)

const (
	// copyTurns bounds the reads of one direction before the loop's other flows get
	// their turn.
	copyTurns = 4
	// bulkTime bounds the time of a turn that goes to flows with much to move. spliceTurn
	// is what all of them may splice meanwhile, and spliceLeast what each may at the
	// least: small pieces cost more a byte.
	bulkTime    = 500 * time.Microsecond
	spliceTurn  = 8 << 20
	spliceLeast = 128 << 10
	// peekAfter is the read after which the next one only looks at what it passes on, and
	// takes off the queue what was sent: the rest stays in the kernel, not in a buffer.
	peekAfter = 16 << 10
)

// ready takes note of what the kernel says of one side, and goes on from there.
func (w *worker) ready(c *conn, s flow.Side, ev uint32) {
	h := &c.half[s]
	h.note(ev)
	if !c.IsRelaying() {
		switch {
		case s == flow.Backend:
			w.follow(c, w.attemptEnded(c, ev))
		case c.IsSilent():
			w.follow(c, c.ClientEnded())
		case ev&unix.EPOLLERR != 0:
			w.end(c, s.Broken(classifyErrno(socketError(h.fd)).IsLost()))
		case c.IsGreeting():
			if ev&unix.EPOLLRDHUP != 0 {
				c.ReceivedFIN(s)
			}
			w.follow(c, flow.Action{Do: flow.Peek})
		case ev&unix.EPOLLRDHUP != 0:
			w.follow(c, c.ClientEnded())
		}
		return
	}
	switch {
	case ev&unix.EPOLLERR != 0:
		c.noteFailure(s, socketError(h.fd))
	case ev&unix.EPOLLRDHUP != 0:
		c.ReceivedFIN(s)
	}
	w.relay(c)
}

// note keeps what an edge said until it is used up: the kernel says it once.
func (h *half) note(ev uint32) {
	if ev&unix.EPOLLOUT != 0 {
		h.writable = true
	}
	if ev&unix.EPOLLIN != 0 {
		h.readable = true
	}
	if ev&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		h.readable, h.probing = true, true
	}
	if ev&unix.EPOLLPRI != 0 {
		// Urgent data: a read stops at its mark, as if there were no more, and a
		// splice does not get past it.
		h.readable, h.probing, h.nosplice, h.splicing = true, true, true, false
	}
}

// relay moves what can be moved, both ways: bulk in the flow's turn, and all else at once.
func (w *worker) relay(c *conn) {
	up, down := &c.half[flow.Client], &c.half[flow.Backend]
	switch {
	case c.IsDelivering(), up.broken|down.broken != flow.Running:
		w.relayNow(c)
	case c.queued:
	case up.isBulk() || down.isBulk():
		w.queue(c)
	default:
		w.relayNow(c)
	}
}

// queue gives a flow its turn after those that wait for theirs.
func (w *worker) queue(c *conn) {
	if !c.queued {
		c.queued = true
		w.again = append(w.again, c.ID)
	}
}

// isBulk reports whether a side has much to pass on.
func (h *half) isBulk() bool { return (h.bulk || h.splicing) && (h.readable || h.pending()) }

// relayNow moves what can be moved, both ways, as far as a turn goes.
func (w *worker) relayNow(c *conn) {
	if c.IsDelivering() {
		w.follow(c, w.deliver(c))
		return
	}
	more := false
	for s := flow.Client; s <= flow.Backend; s++ {
		if h := &c.half[s]; h.readable || h.pending() {
			done, again := w.move(c, s)
			if done {
				w.end(c, flow.Finished)
				return
			}
			more = more || again
		}
		if c.half[flow.Client].broken|c.half[flow.Backend].broken != flow.Running {
			w.broken(c)
			return
		}
	}
	if more {
		w.queue(c)
	}
}

// broken deals with a side that has failed. What one that had finished has sent goes to
// the other in full. Of any other, what is here goes as far as it is taken at once.
func (w *worker) broken(c *conn) {
	s := flow.Client
	if c.half[s].broken == flow.Running {
		s = flow.Backend
	}
	why := c.half[s].broken
	if why != flow.Failed && c.half[s.Other()].broken == flow.Running {
		if a := c.SideFailed(s, why, w.now); a.Do != flow.End {
			w.follow(c, a)
			return
		}
	}
	// The receive queue bounds the loop.
	for again := why != flow.Failed; again && c.half[s.Other()].broken == flow.Running; {
		_, again = w.move(c, s)
	}
	w.end(c, why)
}

// deliver moves what is left of a side that has failed after it had finished. It asks for
// an inspection once nothing is left.
func (w *worker) deliver(c *conn) flow.Action {
	s := flow.Client
	if c.IsDeliveringFrom(flow.Backend) {
		s = flow.Backend
	}
	src, dst := &c.half[s], &c.half[s.Other()]
	src.readable, src.probing = !src.ended, true
	// The receive queue bounds the loop: nothing follows a FIN.
	for again := true; again && !src.ended && dst.broken == flow.Running; {
		var done bool
		if done, again = w.move(c, s); done {
			return flow.EndAs(flow.Finished)
		}
	}
	switch {
	case dst.broken != flow.Running, src.ended && !c.HasPassedFIN(s):
		return c.DeliveryEnded()
	case src.ended:
		return flow.Action{Do: flow.Inspect}
	}
	return flow.Action{}
}

// move passes bytes from side s to the other side until there are none, there is
// no room, or the turn is used up; then again is true. It reports done when the
// FIN of s was the second one of the flow.
func (w *worker) move(c *conn, s flow.Side) (done, again bool) {
	src, dst := &c.half[s], &c.half[s.Other()]
	for range copyTurns {
		if src.pending() && (!dst.writable || !w.flush(c, s)) {
			return false, false
		}
		if !src.readable || src.ended {
			w.releasePipe(src)
			return false, false
		}
		// Bulk stays in the kernel while the other side is full.
		if (src.bulk || src.splicing) && !dst.writable {
			w.releasePipe(src)
			return false, false
		}
		if src.splicing && w.acquirePipe(src) {
			return false, w.moveSplice(c, s)
		}
		w.releasePipe(src)

		flags, peek := 0, src.bulk
		if peek {
			flags = unix.MSG_PEEK
		}
		n, e := recv(src.fd, w.buffer, flags)
		switch {
		case e == unix.EAGAIN:
			src.readable = false
			return false, false
		case e != noError:
			c.readFailed(s, e)
			return false, false
		case n == 0:
			return w.fin(c, s), false
		}
		src.bulk = n >= peekAfter
		if n == len(w.buffer) {
			if src.full++; src.full >= spliceAfter && !src.nosplice && !dst.nosplice {
				src.full, src.small, src.splicing = 0, 0, true
			}
		} else {
			src.full = 0
			// A short read is the end of what is there: no second one to hear
			// EAGAIN, unless the kernel has said that more may follow.
			src.readable = src.probing
		}
		if !w.pass(c, s, n, peek) {
			return false, false
		}
	}
	return false, src.readable
}

// pass sends the n bytes of the loop's buffer that were read from side s, or only peeked
// at: those it then takes off the queue of s as far as they were sent. It reports whether
// all were; if not, the other side is full or broken.
func (w *worker) pass(c *conn, s flow.Side, n int, peeked bool) (all bool) {
	src, dst := &c.half[s], &c.half[s.Other()]
	m, e := send(dst.fd, w.buffer[:n])
	if e != noError {
		m = 0
		if e != unix.EAGAIN {
			c.writeFailed(s.Other(), e)
			return false
		}
	}
	c.Passed(s, m, w.now)
	if peeked && !w.discard(src, m) {
		c.readFailed(s, unix.EIO)
		return false
	}
	if m == n {
		dst.writable = true
		return true
	}
	if peeked {
		src.bulk, src.readable = true, true
	} else {
		src.buf = w.rests.get(w.buffer[m:n])
		src.rest = src.buf
	}
	w.awaitWritable(c, s.Other())
	return false
}

// discard takes n bytes off a receive queue, of which all are there. It reports whether
// it could.
func (w *worker) discard(h *half, n int) bool {
	for n > 0 {
		m, e := recv(h.fd, w.buffer[:n], unix.MSG_TRUNC) // of tcp nothing is copied
		if e != noError || m == 0 {
			return false
		}
		n -= m
	}
	return true
}

// flush passes on what was read from side s before. It reports whether all of it
// is gone; if not, the other side is full or broken.
func (w *worker) flush(c *conn, s flow.Side) bool {
	src, dst := &c.half[s], &c.half[s.Other()]
	for p := src.pipe; p != nil && p.held > 0; {
		n, e := splice(p.r, dst.fd, p.held)
		if e == unix.EINVAL {
			// dst cannot be spliced to: what the pipe holds is copied out.
			return w.unpipe(c, s)
		}
		if e != noError {
			return w.stuck(c, s.Other(), e)
		}
		p.held -= n
		c.Passed(s, n, w.now)
	}
	for len(src.rest) > 0 {
		n, e := send(dst.fd, src.rest)
		if e != noError {
			return w.stuck(c, s.Other(), e)
		}
		src.rest = src.rest[n:]
		c.passed(s, n, w.now)
	}
	w.rests.put(src.buf)
	src.rest, src.buf = nil, nil
	return true
}

// fin passes the end of the stream from side s on, all its bytes being gone. It
// reports whether the flow is over: then closing is enough to send FIN.
func (w *worker) fin(c *conn, s flow.Side) (done bool) {
	src, dst := &c.half[s], &c.half[s.Other()]
	src.readable, src.ended = false, true
	if src.broken != flow.Running && !c.IsDelivering() {
		return false // the end was a reset, which must not arrive as a FIN
	}
	if c.PassedFIN(s, w.now).Do == flow.End {
		return true
	}
	if e := shutdownWrite(dst.fd); e != noError {
		c.writeFailed(s.Other(), e)
	}
	c.Arm(w.table, w.now)
	return false
}

// stuck notes why a send to side s did not go through. It returns false.
func (w *worker) stuck(c *conn, s flow.Side, e syscall.Errno) bool {
	if e == unix.EAGAIN {
		w.awaitWritable(c, s)
	} else {
		c.writeFailed(s, e)
	}
	return false
}

// awaitWritable waits for room to write to side s, which is full.
func (w *worker) awaitWritable(c *conn, s flow.Side) {
	h := &c.half[s]
	h.writable = false
	if !h.roomy {
		h.roomy = true
		// Room that has come meanwhile is told at once.
		epollModify(w.ep, h.fd, epollRead|epollWrite, c.tag(s), h.gen)
	}
}

// noteFailure notes how a side has failed. The first error stands: once it was taken,
// the kernel has another one for each call.
func (c *conn) noteFailure(s flow.Side, e syscall.Errno) {
	h := &c.half[s]
	if h.broken != flow.Running {
		return
	}
	h.broken = c.OutcomeOf(s, classifyErrno(e))
}

// writeFailed notes that a side has failed. What it had sent before may still
// be there to read.
func (c *conn) writeFailed(s flow.Side, e syscall.Errno) {
	c.noteFailure(s, e)
	c.half[s].readable = !c.half[s].ended
}

// readFailed notes that a side has failed and that all it had sent was read.
func (c *conn) readFailed(s flow.Side, e syscall.Errno) {
	c.noteFailure(s, e)
	c.half[s].readable, c.half[s].ended = false, true
}
