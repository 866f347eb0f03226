package proxy

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sendResult says how far send came.
type sendResult struct {
	messages         int  // done with: sent, or dropped and counted
	datagrams, bytes int  // sent
	refused          bool // the peer is not there, and the next message was not sent
}

func (r *sendResult) add(datagrams, bytes int) {
	r.datagrams += datagrams
	r.bytes += bytes
}

// send sends messages from first on, until all are done with or the peer turns out
// to be unreachable. What cannot be sent is dropped and counted.
func (d *datagrams) send(o *outgoing, first int, fd int32, gso *bool, svc *Service) (r sendResult) {
	for i := first; i < o.n; i++ {
		o.finish(i)
	}
	alone, again := false, false
	for first+r.messages < o.n {
		i := first + r.messages
		count := o.n - i
		if alone {
			count = 1
		}
		n, e := o.sendmmsg(fd, i, count)
		for k := i; k < i+n; k++ {
			r.add(o.trains[k].count, o.trains[k].total)
		}
		r.messages += n
		if e == noError {
			// Stopped short, the call keeps the reason to itself, and a refusal is told
			// only once. With the message that met it sent alone, the next refusal
			// meets the first of a call.
			alone, again = n < count, false
			continue
		}
		t := &o.trains[i]
		switch {
		case refuses(e):
			r.refused = true
			return r
		case e == unix.EAGAIN || e == unix.ENOBUFS || e == unix.ENOMEM:
			for ; i < o.n; i++ {
				svc.dropped[DropFull].Add(uint64(o.trains[i].count))
			}
			r.messages = o.n - first
			return r
		case t.count > 1:
			// No such offload on this way (EIO), or parts larger than its MTU.
			if e == unix.EIO && *gso { // once a socket, however many trains were under way
				*gso = false
				svc.fellBack.Add(1)
			}
			parts := d.sendParts(o, i, fd, svc)
			if parts.refused {
				r.refused = true
				return r
			}
			r.add(parts.datagrams, parts.bytes)
		case !again:
			again = true // the error may be an earlier datagram's
			continue
		case e == unix.EMSGSIZE:
			svc.dropped[DropOversized].Add(1)
		default:
			// A firewall here forbids it (EPERM), or the socket's own address is gone
			// (EINVAL): nothing goes this way any more, and waiting does not help.
			r.refused = true
			return r
		}
		again = false
		r.messages++
	}
	return r
}

// sendParts sends the datagrams of a train one by one.
func (d *datagrams) sendParts(o *outgoing, i int, fd int32, svc *Service) (r sendResult) {
	t, m := &o.trains[i], &o.msgs[i]
	name := (*unix.RawSockaddrInet6)(unsafe.Pointer(m.hdr.Name))
	d.single.reset()
	for _, v := range unsafe.Slice(m.hdr.Iov, int(m.hdr.Iovlen)) {
		for p := unsafe.Slice(v.Base, int(v.Len)); len(p) > 0; {
			part := p[:min(t.segment, len(p))]
			if d.single.add(part, 0, name, m.hdr.Namelen, t.receiver, t.source, t.v6, false) {
				p = p[len(part):]
			} else if !d.sendSingle(fd, svc, &r) {
				return r
			}
		}
	}
	d.sendSingle(fd, svc, &r)
	return r
}

// sendSingle sends what sendParts has gathered. It reports false if the peer is
// unreachable.
func (d *datagrams) sendSingle(fd int32, svc *Service, r *sendResult) bool {
	off := false
	some := d.send(&d.single, 0, fd, &off, svc) // no trains in it, so it comes no deeper
	d.single.reset()
	r.add(some.datagrams, some.bytes)
	r.refused = some.refused
	return !some.refused
}

// refuses reports whether an error says that a peer is not there: nobody
// listens, or a firewall or router refuses (RFC 1122, 4.1.3.3).
func refuses(e syscall.Errno) bool {
	switch e {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENONET, unix.ENOPROTOOPT, unix.EACCES:
		return true
	default:
		return false
	}
}
