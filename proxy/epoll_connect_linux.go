package proxy

import (
	"syscall"

	"golang.org/x/sys/unix"

	"usher/conntrack"
	"usher/proxy/flow"
)

// follow carries out what the policy answers, until the flow waits for an event or has
// ended.
func (w *worker) follow(c *conn, a flow.Action) {
	for hasPeeked := false; ; {
		if a.Do != flow.End {
			flow.MustHold(&c.Flow)
		}
		switch a.Do {
		case flow.GoOn:
			c.Arm(w.table, w.now)
			return
		case flow.Dial:
			w.abandon(c)
			if a = w.dial(c); a.Do == flow.GoOn {
				c.Announce(w.now)
				c.Arm(w.table, w.now) // most attempts are over before the client is worth an event
				return
			}
		case flow.Wait:
			w.abandon(c)
			if w.watch(c, flow.Client) {
				c.Announce(w.now)
				c.Arm(w.table, w.now)
				return
			}
			a = flow.EndAs(flow.Failed)
		case flow.Peek:
			if hasPeeked {
				a.Do = flow.Wait
				continue
			}
			hasPeeked = true
			a = w.peek(c)
		case flow.Discard:
			hasPeeked = false // more may be behind the header
			a = w.name(c, a.Bytes)
		case flow.Hold:
			if w.hold(c) {
				c.Arm(w.table, w.now)
				return
			}
			a = flow.EndAs(flow.Failed)
		case flow.Relay:
			w.connected(c)
			return
		case flow.Inspect:
			a = w.inspect(c)
		case flow.Deliver:
			a = w.deliver(c)
		case flow.End:
			w.end(c, a.Outcome)
			return
		}
	}
}

// dial begins to connect to the flow's backend.
func (w *worker) dial(c *conn) flow.Action {
	family, ok := w.resolve(c)
	if !ok {
		return c.DialFailed(flow.ClassOther, w.now)
	}
	fd, e := newSocket(family)
	if e != noError {
		return w.dialFailed(c, e)
	}
	c.half[flow.Backend].open(fd)
	if source := c.Source(); source.IsValid() {
		if e := bindSource(fd, source); e != noError {
			return w.dialFailed(c, e)
		}
	}
	if family != unix.AF_UNIX {
		setsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		// The ACK that ends the handshake waits for connected: most clients have
		// sent something by then, and it travels with that.
		setsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
	}
	e = connect(fd, &w.sa)
	if e != noError && e != unix.EINPROGRESS {
		return w.dialFailed(c, e)
	}
	if !w.watch(c, flow.Backend) {
		return flow.EndAs(flow.Failed)
	}
	if e == noError {
		return c.Connected(w.now)
	}
	return flow.Action{}
}

// dialFailed reports that an attempt has failed.
func (w *worker) dialFailed(c *conn, e syscall.Errno) flow.Action {
	class := classifyErrno(e)
	if class == flow.ClassNoResources {
		// No more clients until some have gone.
		w.pauseAccept()
	}
	return c.DialFailed(class, w.now)
}

// resolve puts the reserved backend's address into w.sa.
func (w *worker) resolve(c *conn) (family int, ok bool) {
	addr, path := c.Target()
	if path != "" {
		return unix.AF_UNIX, w.sa.setPath(path)
	}
	return w.sa.setAddrPort(addr), true
}

// attemptEnded is called when the kernel has decided an attempt.
func (w *worker) attemptEnded(c *conn, ev uint32) flow.Action {
	switch {
	case ev&(unix.EPOLLERR|unix.EPOLLHUP) != 0:
		return w.dialFailed(c, socketError(c.half[flow.Backend].fd))
	case w.isSelfConnect(c):
		return w.dialFailed(c, unix.ECONNREFUSED)
	}
	return c.Connected(w.now)
}

// isSelfConnect reports whether an attempt has connected to itself: towards a local
// port that nobody listens on, the kernel may pick that very port as the source,
// and TCP's simultaneous open does the rest.
func (w *worker) isSelfConnect(c *conn) bool {
	to, path := c.Target()
	if path != "" || to.Port() < w.ephemeral {
		return false
	}
	own := localAddr(c.half[flow.Backend].fd, &w.sa)
	return own.Port() == to.Port() && own.Addr() == to.Addr().Unmap().WithZone("")
}

// abandon closes the socket of an attempt, if there is one.
func (w *worker) abandon(c *conn) {
	if h := &c.half[flow.Backend]; h.fd >= 0 {
		closeFD(h.fd)
		h.open(-1)
	}
}

// connected starts the relay. The client is read without being asked whether it
// has sent something: most have by now.
func (w *worker) connected(c *conn) {
	c.half[flow.Backend].writable = true
	if h := &c.half[flow.Client]; !h.watched {
		if !w.watch(c, flow.Client) {
			w.end(c, flow.Failed)
			return
		}
		h.readable, h.writable = true, true
	}
	c.Arm(w.table, w.now)
	// If nothing was sent this sends the ACK, which a server that speaks first
	// waits for; in any case later ACKs are prompt again.
	fd := c.half[flow.Backend].fd
	if c.SendsProxy() {
		w.sendHeader(c)
	}
	w.relay(c)
	if c.half[flow.Backend].fd == fd {
		setsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	}
}

// watch registers a side with epoll. The client's is left out until it matters:
// earlier it costs an event, and most attempts take no longer than a moment.
// Room to write is asked for at the backend, whose first tells that it has
// accepted, and at the client once it was found full (see awaitWritable). It reports
// false when the kernel has no room (fs.epoll.max_user_watches, or memory).
func (w *worker) watch(c *conn, s flow.Side) bool {
	h := &c.half[s]
	if h.watched {
		return true
	}
	interest := uint32(epollRead)
	if s == flow.Backend {
		interest |= epollWrite
		h.roomy = true
	}
	h.watched = epollAdd(w.ep, h.fd, interest, c.tag(s), h.gen) == noError
	return h.watched
}

// expired is called when the flow's timer has fired.
func (w *worker) expired(id conntrack.ID) {
	c := w.conn(id)
	if !w.watch(c, flow.Client) { // an attempt that takes its time may lose its client
		w.end(c, flow.Failed)
		return
	}
	w.follow(c, c.Flow.Expired(w.now))
}

// inspect asks the kernel for the state of both peers. The backend's socket gets its
// keepalive here: accepted sockets inherit theirs, and a flow that ends before its first
// inspection needs none.
func (w *worker) inspect(c *conn) flow.Action {
	var peers [2]flow.PeerState
	for s := range peers {
		peers[s] = readPeerState(c.half[s].fd, &w.info)
	}
	a := c.Inspected(&peers, w.now)
	for s := flow.Client; s <= flow.Backend && a.Do != flow.End; s++ {
		if h := &c.half[s]; h.probed != c.WantsKeepalive(s) {
			h.probed = !h.probed
			setKeepalive(h.fd, h.probed)
		}
	}
	return a
}
