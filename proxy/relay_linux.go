package proxy

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// copyTurns bounds the reads of one direction before the loop's other flows get
	// their turn.
	copyTurns = 4
	// spliceTurn is what all flows of a turn may splice together, a millisecond or
	// two of work, and spliceLeast what each may at the least: small pieces cost
	// more a byte, but many flows in long turns would keep others waiting.
	spliceTurn  = 8 << 20
	spliceLeast = 128 << 10
	// spliceAfter is how many reads in a row must fill the buffer before a
	// direction moves by splice, and copyAfter how many splices in a row must move
	// less than spliceSmall before it goes back to copying.
	spliceAfter = 2
	spliceSmall = 8 << 10
	copyAfter   = 4
)

// ready takes note of what the kernel says of one side, and goes on from there.
func (w *worker) ready(c *conn, s side, ev uint32) {
	h := &c.half[s]
	h.note(ev)
	if c.phase != relaying {
		if s == backend {
			w.attemptEnded(c, ev)
		} else if ev&unix.EPOLLERR != 0 {
			w.end(c, s.broken(isLost(socketError(h.fd))))
		}
		return
	}
	if ev&unix.EPOLLERR != 0 && h.broken == Running {
		h.broken = s.broken(isLost(socketError(h.fd)))
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

// relay moves what can be moved, both ways. A flow that still has a turn to come
// waits for that.
func (w *worker) relay(c *conn) {
	if c.queued && c.half[client].broken|c.half[backend].broken == Running {
		return
	}
	more := false
	for s := client; s <= backend; s++ {
		if h := &c.half[s]; h.readable || h.pending() {
			done, again := w.move(c, s)
			if done {
				w.end(c, Finished)
				return
			}
			more = more || again
		}
		if c.half[client].broken|c.half[backend].broken != Running {
			w.lastWords(c)
			return
		}
	}
	if more && !c.queued {
		c.queued = true
		w.again = append(w.again, c.id)
	}
}

// lastWords passes on what a broken side had sent before, as far as the other
// takes it at once, and ends the flow. The receive queue bounds the loop.
func (w *worker) lastWords(c *conn) {
	s := client
	if c.half[s].broken == Running {
		s = backend
	}
	why := c.half[s].broken
	for again := why != Failed; again && c.half[s.other()].broken == Running; {
		_, again = w.move(c, s)
	}
	w.end(c, why)
}

// move passes bytes from side s to the other side until there are none, there is
// no room, or the turn is used up; then again is true. It reports done when the
// FIN of s was the second one of the flow.
func (w *worker) move(c *conn, s side) (done, again bool) {
	src, dst := &c.half[s], &c.half[s.other()]
	for range copyTurns {
		if src.pending() && (!dst.writable || !w.flush(c, s)) {
			return false, false
		}
		if !src.readable || src.ended {
			w.returnPipe(src)
			return false, false
		}
		if src.splicing && w.lendPipe(src) {
			return false, w.moveSplice(c, s)
		}
		w.returnPipe(src)

		n, e := recv(src.fd, w.buffer)
		switch {
		case e == unix.EAGAIN:
			src.readable = false
			return false, false
		case e != noError:
			src.readFailed(s, e)
			return false, false
		case n == 0:
			return w.fin(c, s), false
		}
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

		m, e := send(dst.fd, w.buffer[:n])
		if e != noError {
			m = 0
			if e != unix.EAGAIN {
				dst.writeFailed(s.other(), e)
				return false, false
			}
		}
		c.passed(s, m, w.now)
		if m < n {
			src.buf = w.rests.get(w.buffer[m:n])
			src.rest = src.buf
			w.wantRoom(c, s.other())
			return false, false
		}
	}
	return false, src.readable
}

// moveSplice is move inside the kernel. src has a pipe, an empty one, and keeps
// it only if dst does not take all.
func (w *worker) moveSplice(c *conn, s side) (again bool) {
	src := &c.half[s]
	p := src.pipe
	again = true
	for share := w.share; share > 0 && again && src.splicing; {
		n, e := splice(src.fd, p.w, min(p.size, share))
		switch {
		case e == unix.EAGAIN:
			src.readable, again = false, false
		case e == unix.EINVAL:
			src.nosplice, src.splicing = true, false
		case e != noError:
			src.readFailed(s, e)
			again = false
		case n == 0:
			// The end, or the mark of urgent data that has just come: reading tells.
			src.splicing = false
		default:
			if n >= spliceSmall {
				src.small = 0
			} else if src.small++; src.small >= copyAfter {
				src.splicing = false
			}
			share -= n
			p.held = n
			if !w.flush(c, s) {
				return false
			}
		}
	}
	w.returnPipe(src)
	return again
}

// flush passes on what was read from side s before. It reports whether all of it
// is gone; if not, the other side is full or broken.
func (w *worker) flush(c *conn, s side) bool {
	src, dst := &c.half[s], &c.half[s.other()]
	for p := src.pipe; p != nil && p.held > 0; {
		n, e := splice(p.r, dst.fd, p.held)
		if e == unix.EINVAL {
			// dst cannot be spliced to: what the pipe holds is copied out.
			return w.unpipe(c, s)
		}
		if e != noError {
			return w.stuck(c, s.other(), e)
		}
		p.held -= n
		c.passed(s, n, w.now)
	}
	for len(src.rest) > 0 {
		n, e := send(dst.fd, src.rest)
		if e != noError {
			return w.stuck(c, s.other(), e)
		}
		src.rest = src.rest[n:]
		c.passed(s, n, w.now)
	}
	w.rests.put(src.buf)
	src.rest, src.buf = nil, nil
	return true
}

// unpipe turns what a pipe holds into a rest, and gives splicing up.
func (w *worker) unpipe(c *conn, s side) bool {
	src, dst := &c.half[s], &c.half[s.other()]
	dst.nosplice, src.splicing = true, false
	p := src.pipe
	all := make([]byte, p.held)
	n, _ := unix.Read(int(p.r), all)
	if n < p.held {
		dst.broken = Failed
		return false
	}
	p.held = 0
	w.returnPipe(src)
	src.buf, src.rest = nil, all
	return w.flush(c, s)
}

// fin passes the end of the stream from side s on, all its bytes being gone. It
// reports whether the flow is over: then closing is enough to send FIN.
func (w *worker) fin(c *conn, s side) (done bool) {
	src, dst := &c.half[s], &c.half[s.other()]
	src.readable, src.ended = false, true
	if src.broken != Running {
		return false // the end was a reset, which must not arrive as a FIN
	}
	if c.finished(s, w.now) {
		return true
	}
	if e := shutdownWrite(dst.fd); e != noError {
		dst.writeFailed(s.other(), e)
	}
	w.arm(c)
	return false
}

// stuck notes why a send to side s did not go through. It returns false.
func (w *worker) stuck(c *conn, s side, e syscall.Errno) bool {
	if e == unix.EAGAIN {
		w.wantRoom(c, s)
	} else {
		c.half[s].writeFailed(s, e)
	}
	return false
}

// wantRoom waits for room to write to side s, which is full.
func (w *worker) wantRoom(c *conn, s side) {
	h := &c.half[s]
	h.writable = false
	if !h.roomy {
		h.roomy = true
		// Room that has come meanwhile is told at once.
		epollModify(w.ep, h.fd, epollRead|epollWrite, c.tag(s), h.gen)
	}
}

// writeFailed notes that a side has broken. What it had sent before may still
// be there to read.
func (h *half) writeFailed(s side, e syscall.Errno) {
	if h.broken == Running {
		h.broken = s.broken(isLost(e))
	}
	h.readable = !h.ended
}

// readFailed notes that a side has broken and that all it had sent was read.
func (h *half) readFailed(s side, e syscall.Errno) {
	if h.broken == Running {
		h.broken = s.broken(isLost(e))
	}
	h.readable, h.ended = false, true
}

// lendPipe makes sure that a side has a pipe. Without one it copies.
func (w *worker) lendPipe(h *half) bool {
	if h.pipe == nil {
		h.pipe = w.pipes.get(w.now)
	}
	if h.pipe == nil {
		h.splicing = false
	}
	return h.pipe != nil
}

// returnPipe gives a side's pipe back.
func (w *worker) returnPipe(h *half) {
	if h.pipe != nil {
		w.pipes.put(h.pipe)
		h.pipe = nil
	}
}
