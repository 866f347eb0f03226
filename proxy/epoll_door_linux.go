package proxy

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"usher/proxy/flow"
	"usher/proxy/rules"
)

// screen judges a client that was accepted, where somebody has to. It reports false if the
// client was not let in: then it is gone, or held without an answer.
func (w *worker) screen(n *newcomer) bool {
	a := &w.server.admission
	set := a.Rules()
	w.identify(set, n.fd, n.from, n.at.local)
	n.entrance = w.door.Enter(set, &n.at.Binding, n.cfg, w.now)
	if n.entrance.Outcome == flow.Running {
		n.pass = w.door.TakePass()
		return true
	}
	a.TurnAway(n.cfg, n.origin(), n.entrance.Outcome, w.now)
	switch {
	case !n.entrance.IsDropped:
		closeReset(n.fd)
	case !a.HoldsMore() || a.Place(n.cfg) != flow.Running:
		closeFD(n.fd)
	default:
		c := w.newConn(n, n.at.local)
		w.follow(c, c.Silence(a, w.now))
	}
	return false
}

// identify has the door's packet be of the client of a socket.
func (w *worker) identify(set *rules.Set, fd int32, client, local netip.AddrPort) {
	p := &w.door.Packet
	*p = rules.Packet{Client: client, Local: local, Protocol: rules.TCP}
	if set == nil || !client.IsValid() {
		return
	}
	p.Local = w.actual(fd, local)
	if set.NeedsInterface() {
		p.Interface = w.interfaces.of(fd)
	}
}

// actual returns what a client is connected to, at a listener that may be on all addresses.
func (w *worker) actual(fd int32, local netip.AddrPort) netip.AddrPort {
	if !local.Addr().IsUnspecified() {
		return local
	}
	return netip.AddrPortFrom(localAddr(fd, &w.sa).Addr(), local.Port())
}

// peek reports what a client has sent so far, which stays where it is.
func (w *worker) peek(c *conn) flow.Action {
	h := &c.half[flow.Client]
	n, e := recv(h.fd, w.buffer[:flow.PeekMost], unix.MSG_PEEK)
	if e != noError && e != unix.EAGAIN {
		return flow.EndAs(c.OutcomeOf(flow.Client, classifyErrno(e)))
	}
	if e == noError && n == 0 {
		c.ReceivedFIN(flow.Client)
	}
	w.door.Packet.Local = w.actual(h.fd, c.Local)
	return c.Peeked(&w.door, w.buffer[:max(n, 0)], c.HasReceivedFIN(flow.Client), w.now)
}

// name takes the PROXY header of a client off its queue, and reports whom it has named.
func (w *worker) name(c *conn, header int) flow.Action {
	h := &c.half[flow.Client]
	if !w.discard(h, header) {
		return flow.EndAs(flow.Failed)
	}
	set := w.server.admission.Rules()
	w.identify(set, h.fd, c.Client, c.Local)
	return c.Named(&w.door, set, w.now)
}

// hold keeps a client that gets no answer. Only its end matters: what it sends stays in the
// kernel.
func (w *worker) hold(c *conn) bool {
	h := &c.half[flow.Client]
	control := epollAdd
	if h.watched {
		control = epollModify
	}
	h.watched = control(w.ep, h.fd, epollEnd, c.tag(flow.Client), h.gen) == noError
	return h.watched
}

// letGo ends the flows of clients that get no answer.
func (w *worker) letGo() {
	for c := range w.live {
		if w.server.admission.Dropped() == 0 {
			return
		}
		if c.IsSilent() {
			w.end(c, flow.Denied)
		}
	}
}

// sendHeader sends the PROXY header to the backend, and with it what the client has sent, if
// there is something: in one piece.
func (w *worker) sendHeader(c *conn) {
	src, dst := &c.half[flow.Client], &c.half[flow.Backend]
	header := len(w.server.admission.AppendProxyHeader(w.buffer[:0], &c.Flow, w.actual(src.fd, c.Local)))
	end := header
	if src.readable {
		room := w.buffer[header:]
		n, e := recv(src.fd, room, 0)
		switch {
		case e == unix.EAGAIN:
			src.readable = false
		case e != noError:
			c.readFailed(flow.Client, e)
		case n > 0: // a FIN is read again by the relay
			end += n
			src.readable = src.probing || n == len(room)
		}
	}
	sent, e := send(dst.fd, w.buffer[:end])
	if e != noError {
		if sent = 0; e != unix.EAGAIN {
			c.writeFailed(flow.Backend, e)
			return
		}
	}
	if sent < end {
		src.buf = w.rests.get(w.buffer[sent:end])
		src.rest = src.buf
		w.awaitWritable(c, flow.Backend)
	}
	src.preface = uint16(header) // see AppendProxyHeader
	c.passed(flow.Client, sent, w.now)
}
