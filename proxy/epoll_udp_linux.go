package proxy

import (
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"usher/conntrack"
	"usher/proxy/flow"
)

// datagrams is the UDP side of a worker: its listening sockets, and a connected
// socket for each session. A datagram goes from a listening socket's batch to the
// session's socket in the same turn; replies of all sessions gather in another
// batch and leave together, when it is full or at the end of the turn.
type datagrams struct {
	w         *worker
	sessions  *flow.Sessions
	listeners []udpListener // by slot
	freeSlots []int32
	left      []int32 // slots of listeners that may be closed: no session replies by them any more

	unregistered []int32 // slots of listeners that epoll had no room for

	sockets [][]udpSocket // by slot of the table; chunks never move
	fronts  int           // sockets of openFronts
	leaving []int32       // slots of listeners whose addresses are being given up
	nowLeft int           // so many of them have theirs

	in       *batch
	segments [batchSlots]int // of what is in the batch
	skips    [batchSlots]int // so much at the start of a slot is not passed on
	arrival  flow.Arrival    // under way
	routing  int32           // the socket that it has come by
	next     [batchSlots]int // the next datagram of the same session, or -1
	turn     []conntrack.ID  // sessions with something in the batch

	up     sendBatch
	single sendBatch // parts of a group that cannot be sent as one
	again  sendBatch // what another backend has refused

	back     *batch
	held     int // slots of back whose replies have not left
	down     sendBatch
	downFrom int32 // the listener that they leave by

	head []byte // the PROXY header of the session whose datagrams are sent
}

type udpListener struct {
	fd       int32 // -1: the slot is free
	gen      int32 // guards against events for an earlier use of the slot
	at       *flow.Binding
	local    netip.AddrPort
	wildcard bool // replies must say which address they come from
	v6       bool
	gso      bool
	merges   bool   // the kernel hands over several datagrams of a client as one
	drops    uint32 // the kernel's count, as last seen
	replies  int32  // the listener that replies leave by

	isInherited bool // others may have the socket, too: it is neither connected nor emptied when it is given up
	isLeaving   bool // the address is being given up, or has been
	hasLeft     bool // it has been: the socket is there for replies alone
	sessions    int  // that reply by it
}

// udpSocket is the socket of a session.
type udpSocket struct {
	fd       int32 // -1 when there is none
	gen      int32 // guards against events for an earlier use of the slot, or socket of the session
	gso      bool
	drops    uint32 // the kernel's count, as last seen
	listener int32  // that replies leave by: of the client's last datagram; -1: none
	front    int32  // the listener for this session alone, see openFronts; -1: none
	name     unix.RawSockaddrInet6
	nameLen  uint32

	pending    int // datagrams in the batch under way
	head, tail int // slots of the first and the last of them
}

// replyTurn is how many datagrams of one session's backend, or groups of them, may be
// passed on before others have their turn: more than one batch, for bursts that would
// else wait, and fill the socket, for as long as the turns of all others take.
const replyTurn = 4 * batchSlots

// udpGen marks the generation of a session's socket in an event.
const udpGen = 1 << 30

func newDatagrams(w *worker) *datagrams {
	d := &datagrams{w: w}
	d.sessions = flow.NewSessions(&w.server.admission, w.server.capacity, d.end, w.evictElsewhere)
	d.sessions.InterfaceName = func(index int32) string { return w.interfaces.name(d.routing, index) }
	return d
}

// socket returns the socket of a session.
func (d *datagrams) socket(id conntrack.ID) *udpSocket {
	for int(id)/flow.SessionChunk >= len(d.sockets) {
		chunk := make([]udpSocket, flow.SessionChunk)
		for i := range chunk {
			chunk[i].fd, chunk[i].listener, chunk[i].front = -1, -1, -1
		}
		d.sockets = append(d.sockets, chunk)
	}
	return &d.sockets[id/flow.SessionChunk][id%flow.SessionChunk]
}

// replyBy has the replies of a session leave by a listener; -1 is none.
func (d *datagrams) replyBy(s *udpSocket, slot int32) {
	if s.listener == slot {
		return
	}
	if s.listener >= 0 {
		l := &d.listeners[s.listener]
		if l.sessions--; l.sessions == 0 && l.hasLeft {
			d.left = append(d.left, s.listener)
		}
	}
	if s.listener = slot; slot >= 0 {
		d.listeners[slot].sessions++
	}
	if s.front >= 0 {
		d.listeners[s.front].replies = slot
	}
}

// closeLeft closes the listeners that have given up their address and that no session
// replies by any more. Replies have left before.
func (d *datagrams) closeLeft() {
	for _, slot := range d.left {
		if l := &d.listeners[slot]; l.hasLeft && l.sessions == 0 {
			d.free(slot)
		}
	}
	d.left = d.left[:0]
}

// forward sends what a batch holds for one session.
func (d *datagrams) forward(x *flow.Session, s *udpSocket) {
	if x.SendsProxy() {
		d.forwardHeaded(x, s)
		return
	}
	svc, left := x.Service, s.pending
	s.pending = 0
	d.up.reset()
	for k := s.head; k >= 0; k = d.next[k] {
		rest, all := d.up.gather(d.payload(k), d.segments[k], s.gso)
		for !all {
			n, ok := d.sendUp(x, s)
			left -= n
			if !ok {
				svc.CountDrop(flow.DropRefused, left)
				return
			}
			rest, all = d.up.gather(rest, d.segments[k], s.gso)
		}
	}
	if n, ok := d.sendUp(x, s); !ok {
		svc.CountDrop(flow.DropRefused, left-n)
	}
}

// sendUp sends what is gathered for a session. It returns how many datagrams are
// done with, and false if the session is over.
func (d *datagrams) sendUp(x *flow.Session, s *udpSocket) (done int, ok bool) {
	for first := 0; first < d.up.n; {
		r := d.send(&d.up, first, s.fd, &s.gso, x.Service)
		d.sessions.Sent(x, r.datagrams, r.bytes, d.w.now)
		gone := 0
		for i := first; i < first+r.messages; i++ {
			gone += d.up.groups[i].count
		}
		if lost := gone - r.datagrams; lost > 0 {
			x.Answered(lost)
			x.HeaderDropped()
		}
		if d.sessions.Doubts(x, d.w.now) {
			d.keep(x, first, first+r.messages)
		}
		first, done = first+r.messages, done+gone
		if !r.refused {
			continue
		}
		if !d.failover(x, s) {
			return done, false
		}
		if x.SendsProxy() {
			break // what is left is gathered anew, with what this backend has to be told
		}
	}
	d.up.reset()
	return done, true
}

// keep copies what has left of the messages from first on, up to end.
func (d *datagrams) keep(x *flow.Session, first, end int) {
	for i := first; i < end; i++ {
		t := &d.up.groups[i]
		if !t.sent {
			continue
		}
		if _, p := d.sessions.Keep(x, t.count, t.payload(), t.segment-t.head, d.w.now); p != nil {
			d.up.copyTo(p, i)
		}
	}
}

// open makes the socket of a session. It reports false if the session is over.
func (d *datagrams) open(x *flow.Session, s *udpSocket) bool {
	for {
		e := d.connect(x, s)
		if e == noError {
			return true
		}
		if a := d.sessions.OpenFailed(x, classifyErrno(e), d.w.now); a.Do != flow.Open {
			return false
		}
	}
}

func (d *datagrams) connect(x *flow.Session, s *udpSocket) syscall.Errno {
	w := d.w
	to, _ := x.Target()
	if !to.Addr().IsValid() {
		return unix.EDESTADDRREQ // a unix socket is no place for datagrams
	}
	family := w.sa.setAddrPort(to)
	fd, e := newDatagramSocket(family)
	if e != noError {
		return e
	}
	s.fd, s.pending, s.drops = fd, 0, 0
	s.gen = (s.gen + 1) & (udpGen - 1)
	if source := x.Source(); source.IsValid() {
		e = bindSource(s.fd, source)
	}
	if e == noError {
		e = connect(s.fd, &w.sa)
	}
	if e == noError && to.Port() >= w.ephemeral && localAddr(s.fd, &w.sa) == netip.AddrPortFrom(to.Addr().Unmap().WithZone(""), to.Port()) {
		e = unix.ECONNREFUSED // nobody listens there, and the kernel has given us the port: see isSelfConnect
	}
	if e == noError {
		widenReceiveBuffer(s.fd)
		s.gso = setsockoptInt(s.fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) == noError
		e = epollAdd(w.ep, s.fd, replyInterest, int32(x.ID), s.gen|udpGen)
	}
	if e != noError {
		d.close(x)
	}
	return e
}

// failover moves a session whose backend is not there to another one, with what the
// first one has refused. It reports false if there is none and the session is over.
func (d *datagrams) failover(x *flow.Session, s *udpSocket) bool {
	for {
		d.close(x)
		if a := d.sessions.PeerAbsent(x, d.w.now); a.Do != flow.Open || !d.open(x, s) {
			return false
		}
		if d.resend(x, s) {
			return true
		}
	}
}

// resend sends what is kept of a session by its new socket. It reports false if this
// backend is not there either.
func (d *datagrams) resend(x *flow.Session, s *udpSocket) bool {
	d.again.reset()
	for p, segment := range d.sessions.Copies(x) {
		rest, all := d.gatherAgain(x, s, p, segment)
		for !all {
			if !d.sendAgain(x, s) {
				return false
			}
			rest, all = d.gatherAgain(x, s, rest, segment)
		}
	}
	return d.sendAgain(x, s)
}

// gatherAgain adds a copy, or a group of them, to those that resend sends.
func (d *datagrams) gatherAgain(x *flow.Session, s *udpSocket, p []byte, segment int) (rest []byte, all bool) {
	if x.SendsProxy() {
		return d.gatherHeaded(&d.again, x, s, p, segment)
	}
	return d.again.gather(p, segment, s.gso)
}

// sendAgain sends what resend has gathered.
func (d *datagrams) sendAgain(x *flow.Session, s *udpSocket) bool {
	r := d.send(&d.again, 0, s.fd, &s.gso, x.Service)
	d.sessions.Resent(x, r.datagrams, r.bytes, d.w.now)
	d.again.reset()
	return !r.refused
}

// close closes the socket of a session. What the batch under way holds for it is
// dropped.
func (d *datagrams) close(x *flow.Session) {
	s := d.socket(x.ID)
	if s.fd >= 0 {
		closeFD(s.fd)
		s.fd = -1
	}
	if s.pending > 0 {
		x.Service.CountDrop(flow.DropRefused, s.pending)
		s.pending = 0
	}
}
