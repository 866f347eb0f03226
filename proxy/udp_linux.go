package proxy

import (
	"net/netip"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"usher/conntrack"
)

// datagrams is the UDP side of a worker: its listening sockets, and a connected
// socket for each session. A datagram goes from a listening socket's batch to the
// session's socket in the same turn; replies of all sessions gather in another
// batch and leave together, when it is full or at the end of the turn.
type datagrams struct {
	w         *worker
	workers   []*worker   // all of them
	asked     atomic.Bool // another worker's request to yield waits in w's mailbox
	sessions  *sessions
	listeners []udpListener
	sockets   [][]udpSocket // by slot of the table; chunks never move

	in       *batch
	segments [batchSlots]int // of what is in the batch
	next     [batchSlots]int // the next datagram of the same session, or -1
	turn     []conntrack.ID  // sessions with something in the batch

	up     outgoing
	single outgoing // parts of a train that cannot be sent as one

	back     *batch
	held     int // slots of back whose replies have not left
	down     outgoing
	downFrom int // the listener that they leave by
}

type udpListener struct {
	fd       int32 // -1 when closed
	svc      *Service
	local    netip.AddrPort
	offset   uint16
	wildcard bool // replies must say which address they come from
	v6       bool
	gso      bool
	drops    uint32 // the kernel's count, as last seen
}

// udpSocket is the socket of a session.
type udpSocket struct {
	fd       int32 // -1 when there is none
	gen      int32 // guards against events for an earlier use of the slot, or socket of the session
	gso      bool
	listener int32 // that the client's last datagram came by
	name     unix.RawSockaddrInet6
	nameLen  uint32

	pending    int // datagrams in the batch under way
	head, tail int // slots of the first and the last of them
}

// udpGen marks the generation of a session's socket in an event.
const udpGen = 1 << 30

func newDatagrams(w *worker, workers []*worker) *datagrams {
	d := &datagrams{w: w, workers: workers, in: newBatch(), back: newBatch()}
	d.sessions = newSessions(w.server, d.close)
	if len(workers) > 1 {
		d.sessions.others = d.askOthers
	}
	return d
}

// askOthers has the other workers yield. A worker that still has such a request to
// look at gets no second one, so mailboxes stay short.
func (d *datagrams) askOthers(crowd *Service, short bool) {
	for _, w := range d.workers {
		other := w.udp
		if other == d || !other.asked.CompareAndSwap(false, true) {
			continue
		}
		w.post(func() {
			other.asked.Store(false)
			other.sessions.yield(crowd, short, w.now)
		})
	}
}

// socket returns the socket of a session.
func (d *datagrams) socket(id conntrack.ID) *udpSocket {
	for int(id)/sessionChunk >= len(d.sockets) {
		chunk := make([]udpSocket, sessionChunk)
		for i := range chunk {
			chunk[i].fd = -1
		}
		d.sockets = append(d.sockets, chunk)
	}
	return &d.sockets[id/sessionChunk][id%sessionChunk]
}

// receive takes one batch from a listening socket to the backends.
func (d *datagrams) receive(i int) {
	l := &d.listeners[i]
	if l.fd < 0 {
		return
	}
	n, e := d.in.receive(l.fd, 0, true)
	if e != noError {
		return // EAGAIN, or what an earlier reply has met
	}
	d.turn = d.turn[:0]
	for k := range n {
		a := d.in.ancillary(k)
		if a.counted {
			l.count(a.drops)
		}
		local := l.local
		if l.wildcard && a.local.IsValid() {
			local = netip.AddrPortFrom(a.local, local.Port())
		}
		d.segments[k] = a.segment
		x, fresh, _ := d.sessions.route(l.svc, d.in.from(k), local, l.offset, d.w.now)
		if x == nil {
			l.svc.dropped[DropRefused].Add(uint64(d.count(k)))
			continue
		}
		s := d.socket(x.id)
		if fresh {
			s.name, s.nameLen = d.in.names[k], d.in.msgs[k].hdr.Namelen
			if !d.open(x, s) {
				l.svc.dropped[DropRefused].Add(uint64(d.count(k)))
				continue
			}
		}
		s.listener = int32(i)
		d.append(x.id, s, k)
	}
	for _, id := range d.turn {
		// A session that was evicted meanwhile has nothing pending, unless its slot
		// has a new one: then that one's turn has come.
		if s := d.socket(id); s.pending > 0 {
			d.forward(d.sessions.at(id), s)
		}
	}
}

// count takes note of the kernel's count of drops. It wraps, and a datagram may
// carry an older one than the datagram before it.
func (l *udpListener) count(drops uint32) {
	if more := int32(drops - l.drops); more > 0 {
		l.svc.dropped[DropKernel].Add(uint64(more))
		l.drops = drops
	}
}

// count returns how many datagrams slot k of the batch holds.
func (d *datagrams) count(k int) int {
	size, segment := int(d.in.msgs[k].n), d.segments[k]
	if segment <= 0 || segment >= size {
		return 1
	}
	return (size + segment - 1) / segment
}

// append adds slot k of the batch to those of its session.
func (d *datagrams) append(id conntrack.ID, s *udpSocket, k int) {
	d.next[k] = -1
	if s.pending > 0 {
		d.next[s.tail] = k
		s.tail = k
	} else {
		s.head, s.tail = k, k
		d.turn = append(d.turn, id)
	}
	s.pending += d.count(k)
}

// forward sends what a batch holds for one session.
func (d *datagrams) forward(x *session, s *udpSocket) {
	svc, left := x.svc, s.pending
	s.pending = 0
	d.up.reset()
	for k := s.head; k >= 0; k = d.next[k] {
		rest := d.in.payload(k)
		for {
			part, segment := rest, d.segments[k]
			switch {
			case segment <= 0 || segment >= len(rest):
			case s.gso:
				part = rest[:min(segment*maxTrain, len(rest))]
			default:
				part, segment = rest[:segment], 0
			}
			if !d.up.add(part, segment, nil, 0, 0, netip.Addr{}, false, s.gso) {
				n, ok := d.sendUp(x, s)
				left -= n
				if !ok {
					svc.dropped[DropRefused].Add(uint64(left))
					return
				}
				continue
			}
			if rest = rest[len(part):]; len(rest) == 0 {
				break
			}
		}
	}
	if n, ok := d.sendUp(x, s); !ok {
		svc.dropped[DropRefused].Add(uint64(left - n))
	}
}

// sendUp sends what is gathered for a session. It returns how many datagrams are
// done with, and false if the session is over.
func (d *datagrams) sendUp(x *session, s *udpSocket) (done int, ok bool) {
	for first := 0; first < d.up.n; {
		r := d.send(&d.up, first, s.fd, &s.gso, x.svc)
		d.sessions.sent(x, r.datagrams, r.bytes, d.w.now)
		for i := first; i < first+r.messages; i++ {
			done += d.up.trains[i].count
		}
		first += r.messages
		if r.refused && !d.elsewhere(x, s) {
			return done, false
		}
	}
	d.up.reset()
	return done, true
}

// readable takes replies from a session's socket.
func (d *datagrams) readable(id conntrack.ID, ev uint32) {
	x, s := d.sessions.at(id), d.socket(id)
	// Whatever the error was, it is taken now and told no more.
	refused := ev&unix.EPOLLERR != 0 && refuses(socketError(s.fd))
	if d.held > 0 && (d.held == batchSlots || d.downFrom != int(s.listener)) {
		d.flush()
	}
	d.downFrom = int(s.listener)
	n, e := d.back.receive(s.fd, d.held, false)
	if refuses(e) {
		refused = true // but there may be replies from before
		n, _ = d.back.receive(s.fd, d.held, false)
	}
	first := d.held
	d.held += n
	for k := first; k < first+n; k++ {
		if !d.answer(x, s, k) {
			return
		}
	}
	if refused {
		d.elsewhere(x, s)
	}
}

// answer gathers the replies in a slot. It reports false if the session is over.
func (d *datagrams) answer(x *session, s *udpSocket, k int) bool {
	d.back.names[k] = s.name // the session may end before the reply leaves
	l, segment := &d.listeners[s.listener], d.back.ancillary(k).segment
	for rest := d.back.payload(k); ; {
		part := rest
		if segment > 0 {
			part = rest[:min(segment, len(rest))]
		}
		d.reply(l, x, part, k, s.nameLen)
		if d.sessions.replied(x, len(part), d.w.now) {
			d.sessions.end(x, Replied, d.w.now)
			return false
		}
		if rest = rest[len(part):]; len(rest) == 0 {
			return true
		}
	}
}

// reply gathers one datagram for a client. The slot of a session that has ended is
// no other client's before the replies have left: sockets of new sessions are first
// heard of in the next turn.
func (d *datagrams) reply(l *udpListener, x *session, p []byte, k int, nameLen uint32) {
	var source netip.Addr
	if l.wildcard && !x.local.Addr().IsUnspecified() {
		source = x.local.Addr()
	}
	for !d.down.add(p, 0, &d.back.names[k], nameLen, uint32(x.id), source, l.v6, l.gso) {
		d.sendDown()
	}
}

// flush sends the replies that have gathered.
func (d *datagrams) flush() {
	if d.held > 0 {
		d.sendDown()
		d.held = 0
	}
}

func (d *datagrams) sendDown() {
	l := &d.listeners[d.downFrom]
	for first := 0; first < d.down.n; {
		r := d.send(&d.down, first, l.fd, &l.gso, l.svc)
		first += r.messages
		if r.refused { // there is no way to this client
			l.svc.dropped[DropRefused].Add(uint64(d.down.trains[first].count))
			first++
		}
	}
	d.down.reset()
}

// open makes the socket of a session. It reports false if the session is over.
func (d *datagrams) open(x *session, s *udpSocket) bool {
	relieved := false
	for {
		e := d.connect(x, s)
		switch {
		case e == noError:
			return true
		case isExhausted(e) || e == unix.EAGAIN || e == unix.ENOSPC: // no local port, no epoll watch
			if relieved || !d.sessions.relieve(x, d.w.now) {
				d.sessions.end(x, LimitReached, d.w.now)
				return false
			}
			relieved = true
		case !d.sessions.unreachable(x):
			d.sessions.end(x, Refused, d.w.now)
			return false
		}
	}
}

func (d *datagrams) connect(x *session, s *udpSocket) syscall.Errno {
	w := d.w
	to, _ := endpointFor(x.backend, x.local, x.offset)
	if !to.Addr().IsValid() {
		return unix.EDESTADDRREQ // a unix socket is no place for datagrams
	}
	family := w.sa.setAddrPort(to)
	fd, e := newDatagramSocket(family)
	if e != noError {
		return e
	}
	s.fd, s.pending = fd, 0
	s.gen = (s.gen + 1) & (udpGen - 1)
	e = connect(s.fd, &w.sa)
	if e == noError && to.Port() >= w.ephemeral && localAddr(s.fd, &w.sa) == netip.AddrPortFrom(to.Addr().Unmap().WithZone(""), to.Port()) {
		e = unix.ECONNREFUSED // nobody listens there, and the kernel has given us the port: see metItself
	}
	if e == noError {
		s.gso = setsockoptInt(s.fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) == noError
		e = epollAdd(w.ep, s.fd, unix.EPOLLIN, int32(x.id), s.gen|udpGen)
	}
	if e != noError {
		d.close(x)
	}
	return e
}

// elsewhere moves a session whose backend is not there to another one. It reports
// false if there is none and the session is over.
func (d *datagrams) elsewhere(x *session, s *udpSocket) bool {
	d.close(x)
	if !d.sessions.unreachable(x) {
		d.sessions.end(x, Refused, d.w.now)
		return false
	}
	return d.open(x, s)
}

// close closes the socket of a session. What the batch under way holds for it is
// dropped.
func (d *datagrams) close(x *session) {
	s := d.socket(x.id)
	if s.fd >= 0 {
		closeFD(s.fd)
		s.fd = -1
	}
	if s.pending > 0 {
		x.svc.dropped[DropRefused].Add(uint64(s.pending))
		s.pending = 0
	}
}

// closeListeners closes the listening sockets.
func (d *datagrams) closeListeners() {
	d.flush()
	for i := range d.listeners {
		if l := &d.listeners[i]; l.fd >= 0 {
			closeFD(l.fd)
			l.fd = -1
		}
	}
}
