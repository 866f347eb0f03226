package proxy

import (
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"usher/proxy/flow"
)

const (
	// acceptShare and acceptMost: one event takes one client, and one more for
	// each share of time that the loop's last turn took.
	acceptShare = 100 * time.Microsecond
	acceptMost  = 64
	// resumeShare bounds the sockets that a turn accepts from again after a pause: where
	// many have clients, there may be descriptors for a few of them.
	resumeShare = 16
	// closeShare bounds the clients and sockets that one turn of a draining loop sees to.
	closeShare = 64
	// adoptShare bounds the sockets that one turn begins with: each takes microseconds.
	adoptShare = 128
)

// acceptor is one listening socket of a worker. It has a slot of the worker's.
type acceptor struct {
	fd       int32 // -1: the slot is free
	gen      int32 // guards against events for an earlier use of the slot
	isShared bool  // the engine closes it, not the worker
	at       *binding

	isBlocked bool // it is in worker.blocked
	isClosing bool // it is in worker.closing
	drained   int  // clients accepted since then
}

// adoptSome takes sockets of a share of all bindings over. It reports whether there are more.
func (w *worker) adoptSome(all []*binding, from int, isFirst bool) (more bool) {
	end := min(from+adoptShare, len(all))
	for _, b := range all[from:end] {
		w.adopt(b, b.sockets.(*epollSockets), isFirst)
	}
	return end < len(all)
}

// adopt takes a worker's socket of a binding over, in the first turn or, if it is shared
// and another worker comes first, in the second.
func (w *worker) adopt(b *binding, sockets *epollSockets, isFirst bool) {
	if (!sockets.isShared || sockets.first == w.number) != isFirst {
		return
	}
	if sockets.isRestored {
		return
	}
	if b.at.Network == "udp" {
		if sockets.udp[w.number].fd < 0 {
			sockets.slots[w.number] = noSlot
			return
		}
		sockets.slots[w.number] = w.udp.adopt(b, sockets.udp[w.number])
		return
	}
	fd := sockets.fds[0]
	if !sockets.isShared {
		fd = sockets.fds[w.number]
	}
	slot := int32(len(w.acceptors))
	if n := len(w.freeSlots); n > 0 {
		slot, w.freeSlots = w.freeSlots[n-1], w.freeSlots[:n-1]
	} else {
		w.acceptors = append(w.acceptors, acceptor{})
	}
	w.acceptors[slot] = acceptor{fd: fd, gen: w.acceptors[slot].gen, isShared: sockets.isShared, at: b}
	sockets.slots[w.number] = slot
	w.register(slot)
}

// register has the loop told of clients. Listening sockets are level-triggered.
// Without memory for it, it tries again.
func (w *worker) register(slot int32) {
	a := &w.acceptors[slot]
	e := epollAdd(w.ep, a.fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, slot, tagListener|a.gen)
	if e != noError && e != unix.EEXIST {
		w.block(slot)
		w.pauseAccept()
	}
}

// accept takes clients from a listening socket and starts their flows. While
// more wait the socket is reported again, along with the other flows' events, so
// one will do: an accept that finds nobody would cost more than that, for the
// kernel makes a socket before it looks. But when turns are long, because other
// flows have much to move, new clients must not wait for a turn each.
func (w *worker) accept(slot int32) {
	a := &w.acceptors[slot]
	if a.isClosing {
		return // closeAcceptors takes its clients
	}
	if w.paused {
		w.blockStarved(slot)
		return
	}
	w.now = w.server.Now() // a flow's time must not begin before its client came
	for range min(1+w.turn/acceptShare, acceptMost) {
		if a.fd < 0 {
			return
		}
		fd, e := accept(a.fd, &w.sa)
		switch {
		case e == noError:
			if a.isShared {
				w.giveTurn(slot)
			}
			if w.admit(fd, a); w.paused {
				return
			}
		case e == unix.EAGAIN:
			return // or another worker was faster
		case classifyErrno(e).IsClientFault():
		default:
			w.pauseAccept()
			w.blockStarved(slot)
			return
		}
	}
}

// giveTurn has the kernel wake another worker for the next client of a shared socket:
// this one goes to the end of the queue.
func (w *worker) giveTurn(slot int32) {
	epollDelete(w.ep, w.acceptors[slot].fd)
	w.register(slot)
}

// admit starts the flow of a client, or resets it when there is no room.
func (w *worker) admit(fd int32, a *acceptor) {
	from := w.sa.addrPort()
	to, isTaken := a.at.DestinationFor(from.Addr())
	cfg := to.Settings()
	n := newcomer{fd: fd, at: a.at, offset: to.Offset, cfg: cfg, from: from}
	if !isTaken {
		w.server.admission.TurnAway(cfg, n.origin(), flow.Denied, w.now)
		closeReset(fd)
		return
	}
	if w.server.admission.MustEnter(&a.at.Binding, cfg) && !w.screen(&n) {
		return
	}
	if n.entrance.Greets() {
		n.short = w.server.admission.Place(cfg)
	} else {
		n.short = w.server.admission.Admit(cfg)
	}
	if n.short != flow.Running {
		n.short = w.server.admission.MakeRoom(flow.Shortage{Settings: cfg, Of: n.short}, w.evict)
	}
	if n.short == flow.Running {
		w.begin(&n)
	} else if !w.await(&n) {
		w.turnAway(&n)
	}
}

// newcomer is a client that was accepted and has no flow yet.
type newcomer struct {
	fd     int32
	at     *binding
	offset uint16
	cfg    *flow.Settings
	from   netip.AddrPort
	short  Outcome // what there is no room for

	entrance flow.Entrance
	pass     flow.Pass
}

func (n *newcomer) origin() flow.Origin {
	return flow.Origin{Client: n.from, Local: n.at.local, Path: n.at.path, Offset: n.offset}
}

// begin starts the flow of a client that has its place.
func (w *worker) begin(n *newcomer) {
	local := n.at.local
	if n.cfg.Pool.UsesDestination() {
		local = w.actual(n.fd, local)
	}
	c := w.newConn(n, local)
	c.Carry(&n.pass)
	if n.entrance.Greets() {
		w.follow(c, c.Greet(n.entrance, &n.at.Binding, w.now))
		return
	}
	w.follow(c, c.Next(w.now))
}

func (w *worker) turnAway(n *newcomer) {
	n.pass.Release()
	if n.entrance.Greets() {
		w.server.admission.TurnAway(n.cfg, n.origin(), n.short, w.now)
	} else {
		w.server.admission.Refuse(n.cfg, n.origin(), n.short, w.now)
	}
	closeReset(n.fd)
}

// pauseAccept accepts no clients until descriptors may be free again: after a while, or
// when a flow ends. It is the answer to any error that would only come again at once.
func (w *worker) pauseAccept() {
	w.paused, w.resume = true, w.now+acceptPause
}

// blockStarved is called for a socket that has a client while none is accepted: the loop
// is not told of it again before resumeAccept. Sockets without clients cost nothing.
func (w *worker) blockStarved(slot int32) {
	a := &w.acceptors[slot]
	a.at.Destination().Service.CountShortage()
	epollDelete(w.ep, a.fd)
	w.block(slot)
}

// block has resumeAccept register a socket.
func (w *worker) block(slot int32) {
	if a := &w.acceptors[slot]; !a.isBlocked {
		a.isBlocked = true
		w.blocked = append(w.blocked, slot)
	}
}

// resumeAccept ends the pause if a socket can be had now, and takes the sockets that were
// blocked longest back.
func (w *worker) resumeAccept() {
	fd, e := newSocket(unix.AF_UNIX)
	if classifyErrno(e) == flow.ClassNoResources {
		for _, slot := range w.blocked {
			w.acceptors[slot].at.Destination().Service.CountShortage()
		}
		w.pauseAccept()
		return
	}
	if e == noError {
		closeFD(fd)
	}
	some := min(len(w.blocked), resumeShare)
	first := w.blocked[:some]
	w.blocked = w.blocked[some:]
	w.paused, w.resume = false, 0
	if len(w.blocked) > 0 {
		w.resume = w.now + 1 // in the next turn
	}
	for _, slot := range first {
		w.acceptors[slot].isBlocked = false
		w.register(slot)
	}
	w.udp.registerAgain()
}

// beginClose notes which sockets are to be closed.
func (w *worker) beginClose(gone []*binding) {
	for _, b := range gone {
		slot := b.sockets.(*epollSockets).slots[w.number]
		if b.at.Network == "udp" {
			if slot != noSlot {
				w.udp.beginLeave(slot)
			}
			continue
		}
		w.closing = append(w.closing, slot)
		w.acceptors[slot].isClosing = true
	}
	w.blocked = slices.DeleteFunc(w.blocked, func(slot int32) bool { return w.acceptors[slot].isClosing })
}

// closeAcceptors closes sockets that are to be, a share in each turn; it reports whether
// there is more to do. Clients that the kernel has accepted already are served: they were
// told that they are connected.
func (w *worker) closeAcceptors() (more bool) {
	for range closeShare {
		last := len(w.closing) - 1
		if last < 0 {
			return false
		}
		slot := w.closing[last]
		a := &w.acceptors[slot]
		if a.drained < backlog && w.acceptWaiting(a) {
			a.drained++
			continue
		}
		if a.isShared {
			epollDelete(w.ep, a.fd)
		} else {
			closeFD(a.fd)
		}
		*a = acceptor{fd: -1, gen: (a.gen + 1) & tagGen}
		w.freeSlots = append(w.freeSlots, slot)
		w.closing = w.closing[:last]
	}
	return true
}

// acceptWaiting takes a client that waits at a socket. It reports whether to look for
// another one.
func (w *worker) acceptWaiting(a *acceptor) bool {
	fd, e := accept(a.fd, &w.sa)
	if e == noError {
		w.admit(fd, a)
		return true
	}
	return classifyErrno(e).IsClientFault()
}
