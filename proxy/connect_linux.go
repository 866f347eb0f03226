package proxy

import (
	"syscall"

	"golang.org/x/sys/unix"

	"usher/conntrack"
)

// connect tries backends until an attempt is under way, the client is held, or
// the flow has ended.
func (w *worker) connect(c *conn) {
	for {
		if o := c.next(w.now); o != Running {
			w.end(c, o)
			return
		}
		if c.phase == waiting {
			w.hold(c)
			return
		}
		if w.attempt(c) {
			return
		}
	}
}

// hold waits until the flow's next look for a backend, and for the client to go.
func (w *worker) hold(c *conn) {
	if !w.watch(c, client) {
		w.end(c, Failed)
		return
	}
	w.arm(c)
}

// attempt begins to connect to the reserved backend. It reports false if that
// failed at once; the reservation is given back then.
func (w *worker) attempt(c *conn) bool {
	family, ok := w.resolve(c)
	if !ok {
		c.refused()
		return false
	}
	fd, e := newSocket(family)
	if isExhausted(e) {
		// No more clients until some have gone.
		w.pauseAll()
		if o := c.starved(w.now); o != Running {
			w.end(c, o)
			return true
		}
		w.hold(c)
		return true
	}
	if e != noError {
		c.refused()
		return false
	}
	c.half[backend].open(fd)
	if family != unix.AF_UNIX {
		setsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		// The ACK that ends the handshake waits for connected: most clients have
		// sent something by then, and it travels with that.
		setsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
	}
	switch e := connect(fd, &w.sa); e {
	case noError, unix.EINPROGRESS:
		if !w.watch(c, backend) {
			w.end(c, Failed)
			return true
		}
		if e == noError {
			w.connected(c)
		} else {
			w.arm(c)
		}
		return true
	case unix.EAGAIN:
		w.abandon(c)
		w.table.Arm(c.id, min(w.now+busyRetry, c.attempt))
		return true
	case unix.EADDRNOTAVAIL: // no local port left towards it
		w.abandon(c)
		c.unable()
		return false
	default:
		// Refused or unreachable: the next one may do.
		w.abandon(c)
		c.refused()
		return false
	}
}

// resolve puts the reserved backend's address into w.sa.
func (w *worker) resolve(c *conn) (family int, ok bool) {
	addr, path := c.target()
	if path != "" {
		return unix.AF_UNIX, w.sa.setPath(path)
	}
	return w.sa.setAddrPort(addr), true
}

// attemptEnded is called when the kernel has decided an attempt.
func (w *worker) attemptEnded(c *conn, ev uint32) {
	if ev&(unix.EPOLLERR|unix.EPOLLHUP) == 0 && !w.metItself(c) {
		w.connected(c)
		return
	}
	w.abandon(c)
	c.refused()
	w.connect(c)
}

// metItself reports whether an attempt has connected to itself: towards a local
// port that nobody listens on, the kernel may pick that very port as the source,
// and TCP's simultaneous open does the rest.
func (w *worker) metItself(c *conn) bool {
	to, path := c.target()
	if path != "" || to.Port() < w.ephemeral {
		return false
	}
	own := localAddr(c.half[backend].fd, &w.sa)
	return own.Port() == to.Port() && own.Addr() == to.Addr().Unmap().WithZone("")
}

// attemptSlow is called when an attempt has used up its step.
func (w *worker) attemptSlow(c *conn) {
	if !w.watch(c, client) {
		w.end(c, Failed)
		return
	}
	busy := c.half[backend].fd < 0
	if w.now >= c.attempt {
		if c.slow(w.now) {
			w.abandon(c)
			if !c.holding || !w.attempt(c) {
				w.connect(c)
			}
			return
		}
	}
	if busy {
		if !w.attempt(c) {
			w.connect(c)
		}
		return
	}
	w.arm(c)
}

// abandon closes the socket of an attempt.
func (w *worker) abandon(c *conn) {
	h := &c.half[backend]
	if h.fd >= 0 {
		closeFD(h.fd)
	}
	h.open(-1)
}

// connected starts the relay. The client is read without being asked whether it
// has sent something: most have by now.
func (w *worker) connected(c *conn) {
	c.established(w.now)
	c.half[backend].writable = true
	if h := &c.half[client]; !h.watched {
		if !w.watch(c, client) {
			w.end(c, Failed)
			return
		}
		h.readable, h.writable = true, true
	}
	w.arm(c)
	// If nothing was sent this sends the ACK, which a server that speaks first
	// waits for; in any case later ACKs are prompt again.
	fd := c.half[backend].fd
	w.relay(c)
	if c.half[backend].fd == fd {
		setsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	}
}

// watch registers a side with epoll. The client's is left out until it matters:
// earlier it costs an event, and most attempts take no longer than a moment.
// Room to write is asked for at the backend, whose first tells that it has
// accepted, and at the client once it was found full (see wantRoom). It reports
// false when the kernel has no room (fs.epoll.max_user_watches, or memory).
func (w *worker) watch(c *conn, s side) bool {
	h := &c.half[s]
	if h.watched {
		return true
	}
	interest := uint32(epollRead)
	if s == backend {
		interest |= epollWrite
		h.roomy = true
	}
	h.watched = epollAdd(w.ep, h.fd, interest, c.tag(s), h.gen) == noError
	return h.watched
}

// arm sets the flow's timer.
func (w *worker) arm(c *conn) { w.table.Arm(c.id, c.deadline()) }

// expired is called when the flow's timer has fired.
func (w *worker) expired(id conntrack.ID) {
	c := w.conn(id)
	switch c.phase {
	case waiting:
		w.connect(c)
	case connecting:
		w.attemptSlow(c)
	case relaying:
		o, look := c.overdue(w.now)
		if look {
			o = w.vigil(c)
		}
		if o != Running {
			w.end(c, o)
			return
		}
		w.arm(c)
	}
}

// vigil looks for a side that has vanished. The backend's socket gets its
// keepalive here: accepted sockets inherit theirs, and a flow that ends before
// its first silence needs none.
func (w *worker) vigil(c *conn) Outcome {
	if h := &c.half[backend]; !h.guarded {
		h.guarded = true
		setKeepalive(h.fd)
	}
	for s := client; s <= backend; s++ {
		if vanished(c.half[s].fd, &w.info) {
			return s.broken(true)
		}
	}
	return Running
}

// isLost tells silence and unreachability from a reset.
func isLost(e syscall.Errno) bool {
	switch e {
	case unix.ETIMEDOUT, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENETDOWN:
		return true
	default:
		return false
	}
}
