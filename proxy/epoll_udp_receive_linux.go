package proxy

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"usher/conntrack"
	"usher/proxy/flow"
)

// receive takes one batch from a listening socket to the backends. It reports whether
// there may be more.
func (d *datagrams) receive(slot int32) (more bool) {
	l := &d.listeners[slot]
	if l.fd < 0 {
		return false
	}
	at := l.at // the socket of one session is freed when that ends
	dest := at.Destination()
	to := dest.Service
	l.setMerging(dest.Settings().MergesDatagrams() && (l.merges || !d.sessions.HasNamed()))
	n, e := d.in.receive(l.fd, 0)
	if e != noError {
		return false // EAGAIN, or what an earlier reply has met
	}
	d.turn = d.turn[:0]
	bytes := 0
	d.arrival.KnownOnly, d.routing = l.replies != slot, l.fd
	for k := range n {
		bytes += int(d.in.msgs[k].n)
		d.skips[k] = 0
		x, todo := d.route(l, at, k)
		if x == nil {
			refused, _ := at.DestinationFor(d.arrival.Peer.Addr())
			refused.Service.CountDrop(flow.DropRefused, d.count(k))
			continue
		}
		if in := &d.arrival; in.Skip > 0 {
			to.CountDrop(flow.DropRefused, in.Refused)
			d.skips[k] = in.Skip
		}
		s := d.socket(x.ID)
		if todo.Do == flow.Open || x.IsNamed() && nameToAddrPort(&s.name) != d.arrival.Peer {
			d.setName(s, l, k)
		}
		if todo.Do == flow.Open && !d.open(x, s) {
			to.CountDrop(flow.DropRefused, d.count(k))
			continue
		}
		d.replyBy(s, l.replies)
		d.append(x.ID, s, k)
	}
	for _, id := range d.turn {
		// A session that was evicted meanwhile has nothing pending, unless its slot
		// has a new one: then that one's turn has come.
		if s := d.socket(id); s.pending > 0 {
			d.forward(d.sessions.At(id), s)
		}
	}
	if mayHaveOverflowed(n, bytes) {
		lookUpDrops(l.fd, to.DropCounter(flow.DropKernel), &l.drops)
	}
	return n == batchSlots
}

// route finds or begins the session of what is in slot k of the batch.
func (d *datagrams) route(l *udpListener, at *flow.Binding, k int) (*flow.Session, flow.Action) {
	a, in := d.in.ancillary(k), &d.arrival
	in.Peer, in.Local, in.Interface = d.in.from(k), l.local, a.index
	if l.wildcard && a.local.IsValid() {
		in.Local = netip.AddrPortFrom(a.local, l.local.Port())
	}
	in.Payload, in.Segment = d.in.payload(k), a.segment
	d.segments[k] = a.segment
	return d.sessions.Route(at, in, d.w.now)
}

// setName has replies go to the sender of what is in slot k of the batch. The socket of a session
// alone is of both families, and the listener that replies leave by may be of IPv4.
func (d *datagrams) setName(s *udpSocket, l *udpListener, k int) {
	s.name, s.nameLen = d.in.names[k], d.in.msgs[k].hdr.Namelen
	if peer := d.arrival.Peer; peer.Addr().Is4() && !d.listeners[l.replies].v6 && s.name.Family == unix.AF_INET6 {
		d.w.sa.setAddrPort(peer)
		s.name, s.nameLen = *(*unix.RawSockaddrInet6)(unsafe.Pointer(&d.w.sa.raw)), d.w.sa.size
	}
}

// payload returns what is passed on of slot k of the batch.
func (d *datagrams) payload(k int) []byte { return d.in.payload(k)[d.skips[k]:] }

// setMerging says whether the kernel may hand over several datagrams as one. It must not
// where each is scheduled by itself, or may have a header.
func (l *udpListener) setMerging(on bool) {
	if !l.gso || l.merges == on {
		return
	}
	l.merges = on
	value := int32(0)
	if on {
		value = 1
	}
	setsockoptInt(l.fd, unix.IPPROTO_UDP, unix.UDP_GRO, value)
}

// count returns how many datagrams slot k of the batch holds.
func (d *datagrams) count(k int) int {
	size, segment := len(d.payload(k)), d.segments[k]
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
