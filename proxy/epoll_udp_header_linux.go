package proxy

import (
	"net/netip"

	"usher/proxy/flow"
)

// forwardHeaded is forward for a session whose backend is told of the client. Of what is
// gathered a part may be left when the session has moved to another backend: that has to be
// told, too, so the rest is gathered anew.
func (d *datagrams) forwardHeaded(x *flow.Session, s *udpSocket) {
	k, left := s.head, s.pending
	s.pending = 0
	rest := d.payload(k)
	for left > 0 {
		d.up.reset()
		more := rest
		for n := k; n >= 0; {
			all := false
			if more, all = d.gatherHeaded(&d.up, x, s, more, d.segments[n]); !all {
				break
			}
			if n = d.next[n]; n >= 0 {
				more = d.payload(n)
			}
		}
		done, ok := d.sendUp(x, s)
		left -= done
		if !ok {
			x.Service.CountDrop(flow.DropRefused, left)
			return
		}
		k, rest = d.skip(k, rest, done)
	}
}

// skip returns what follows so many datagrams of slot k, whose rest is given, and of the slots
// after it.
func (d *datagrams) skip(k int, rest []byte, datagrams int) (int, []byte) {
	for ; datagrams > 0; datagrams-- {
		rest = rest[len(firstOf(rest, d.segments[k])):]
		if len(rest) == 0 && d.next[k] >= 0 {
			k = d.next[k]
			rest = d.payload(k)
		}
	}
	return k, rest
}

// firstOf returns the first datagram of a group, whose parts have the given size.
func firstOf(p []byte, segment int) []byte {
	if segment <= 0 {
		return p
	}
	return p[:min(segment, len(p))]
}

// gatherHeaded is sendBatch.gather, with the session's header before the datagrams that need
// it.
func (d *datagrams) gatherHeaded(o *sendBatch, x *flow.Session, s *udpSocket, p []byte, segment int) (rest []byte, all bool) {
	for rest = p; ; {
		part := firstOf(rest, segment)
		o.head = nil
		if x.NeedsHeader(part, d.w.now) {
			d.head = d.sessions.AppendHeader(d.head[:0], x)
			o.head = d.head
		}
		if !o.add(part, 0, nil, 0, 0, netip.Addr{}, false, s.gso) {
			return rest, false
		}
		if o.head != nil {
			x.HeaderSent(d.w.now)
		}
		if rest = rest[len(part):]; len(rest) == 0 {
			return nil, true
		}
	}
}
