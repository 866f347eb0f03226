package proxy

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"usher/conntrack"
	"usher/proxy/flow"
)

// replyInterest is the interest in a session's socket. Edge-triggered, a socket that was
// read until it had no more costs the next wait nothing.
const replyInterest = unix.EPOLLIN | unix.EPOLLET

// readable takes replies from a session's socket. A batch that is not full has taken all.
func (d *datagrams) readable(id conntrack.ID, ev uint32) {
	x, s := d.sessions.At(id), d.socket(id)
	// Whatever the error was, it is taken now and told no more.
	refused := ev&unix.EPOLLERR != 0 && classifyErrno(socketError(s.fd)).IsPeerAbsent()
	datagrams, bytes := 0, 0
	more := true
	for more && datagrams < replyTurn {
		if d.held > 0 && (d.held == batchSlots || d.downFrom != s.listener) {
			d.flush()
		}
		d.downFrom = s.listener
		n, e := d.back.receive(s.fd, d.held)
		if classifyErrno(e).IsPeerAbsent() {
			refused = true // but there may be replies from before
			n, e = d.back.receive(s.fd, d.held)
		}
		first := d.held
		d.held += n
		more = n > 0 && d.held == batchSlots || e != noError && e != unix.EAGAIN
		for k := first; k < first+n; k++ {
			datagrams, bytes = datagrams+1, bytes+int(d.back.msgs[k].n)
			if !d.answer(x, s, k) {
				return
			}
		}
		if n == 0 {
			break
		}
	}
	if more { // EPOLL_CTL_MOD reports data that is there already once more
		epollModify(d.w.ep, s.fd, replyInterest, int32(id), s.gen|udpGen)
	}
	if mayHaveOverflowed(datagrams, bytes) {
		lookUpDrops(s.fd, x.Service.DropCounter(flow.DropReplies), &s.drops)
	}
	if refused {
		d.failover(x, s)
	}
}

// answer gathers the replies in a slot. It reports false if the session is over.
func (d *datagrams) answer(x *flow.Session, s *udpSocket, k int) bool {
	d.back.names[k] = s.name // the session may end before the reply leaves
	l, segment := &d.listeners[s.listener], d.back.ancillary(k).segment
	for rest := d.back.payload(k); ; {
		part := rest
		if segment > 0 {
			part = rest[:min(segment, len(rest))]
		}
		d.reply(l, x, part, k, s.nameLen)
		if a := d.sessions.Replied(x, len(part), d.w.now); a.Do == flow.End {
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
func (d *datagrams) reply(l *udpListener, x *flow.Session, p []byte, k int, nameLen uint32) {
	var source netip.Addr
	if l.wildcard && !x.Local.Addr().IsUnspecified() {
		source = x.Local.Addr()
	}
	for !d.down.add(p, 0, &d.back.names[k], nameLen, uint32(x.ID), source, l.v6, l.gso) {
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
	svc := l.at.Destination().Service
	for first := 0; first < d.down.n; {
		r := d.send(&d.down, first, l.fd, &l.gso, svc)
		first += r.messages
		if r.refused { // there is no way to this client
			svc.CountDrop(flow.DropRefused, d.down.groups[first].count)
			first++
		}
	}
	d.down.reset()
}
