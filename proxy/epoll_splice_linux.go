package proxy

import (
	"golang.org/x/sys/unix"

	"usher/proxy/flow"
)

const (
	// spliceAfter is how many reads in a row must fill the buffer before a
	// direction moves by splice, and copyAfter how many splices in a row must move
	// less than spliceSmall before it goes back to copying.
	spliceAfter = 2
	spliceSmall = 8 << 10
	copyAfter   = 4
)

// moveSplice is move inside the kernel. src has a pipe, an empty one, and keeps
// it only if dst does not take all.
func (w *worker) moveSplice(c *conn, s flow.Side) (again bool) {
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
			c.readFailed(s, e)
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
			if w.now = w.server.Now(); w.now >= w.until {
				share = 0
			}
		}
	}
	w.releasePipe(src)
	return again
}

// unpipe turns what a pipe holds into a rest, and gives splicing up.
func (w *worker) unpipe(c *conn, s flow.Side) bool {
	src, dst := &c.half[s], &c.half[s.Other()]
	dst.nosplice, src.splicing = true, false
	p := src.pipe
	all := make([]byte, p.held)
	n, _ := unix.Read(int(p.r), all)
	if n < p.held {
		dst.broken = flow.Failed
		return false
	}
	p.held = 0
	w.releasePipe(src)
	src.buf, src.rest = nil, all
	return w.flush(c, s)
}

// acquirePipe makes sure that a side has a pipe. Without one it copies.
func (w *worker) acquirePipe(h *half) bool {
	if h.pipe == nil {
		h.pipe = w.pipes.get(w.now)
	}
	if h.pipe == nil {
		h.splicing = false
	}
	return h.pipe != nil
}

// releasePipe gives a side's pipe back.
func (w *worker) releasePipe(h *half) {
	if h.pipe != nil {
		w.pipes.put(h.pipe)
		h.pipe = nil
	}
}
