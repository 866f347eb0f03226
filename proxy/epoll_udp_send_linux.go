package proxy

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"usher/proxy/flow"
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
func (d *datagrams) send(o *sendBatch, first int, fd int32, gso *bool, svc *Service) (r sendResult) {
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
			o.groups[k].sent = true
			r.add(o.groups[k].count, o.groups[k].payload())
		}
		r.messages += n
		if e == noError {
			// Stopped short, the call keeps the reason to itself, and a refusal is told
			// only once. With the message that met it sent alone, the next refusal
			// meets the first of a call.
			alone, again = n < count, false
			continue
		}
		t, class := &o.groups[i], classifyErrno(e)
		verdict := class.SendVerdict(again)
		switch {
		case verdict == flow.SendFull && widenSendBuffer(fd):
			continue
		case verdict == flow.SendFull:
			o.drop(i, svc)
			r.messages = o.n - first
			return r
		case t.count > 1 && !class.IsPeerAbsent():
			// No such offload on this way (EIO), or parts larger than its MTU.
			if e == unix.EIO && *gso { // once a socket, however many groups were under way
				*gso = false
				svc.CountFallBack()
			}
			parts := d.sendParts(o, i, fd, svc)
			if parts.refused {
				r.refused = true
				return r
			}
			t.sent = parts.datagrams > 0
			r.add(parts.datagrams, parts.bytes)
		case verdict == flow.SendAgain:
			again = true
			continue
		case verdict == flow.SendOversized:
			svc.CountDrop(flow.DropOversized, 1)
		default:
			r.refused = true
			return r
		}
		again = false
		r.messages++
	}
	return r
}

// drop counts the messages from first on as dropped for lack of room.
func (o *sendBatch) drop(first int, svc *Service) {
	for i := first; i < o.n; i++ {
		svc.CountDrop(flow.DropFull, o.groups[i].count)
	}
}

// sendParts sends the datagrams of a group one by one.
func (d *datagrams) sendParts(o *sendBatch, i int, fd int32, svc *Service) (r sendResult) {
	t, m := &o.groups[i], &o.msgs[i]
	name := (*unix.RawSockaddrInet6)(unsafe.Pointer(m.hdr.Name))
	d.single.reset()
	for head, p := range o.parts(i) {
		for d.single.head = head; ; {
			part := p[:min(t.segment-t.head, len(p))]
			if !d.single.add(part, 0, name, m.hdr.Namelen, t.receiver, t.source, t.v6, false) {
				if !d.sendSingle(fd, svc, &r) {
					return r
				}
				d.single.head = head
			} else if p = p[len(part):]; len(p) == 0 {
				break
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
	some := d.send(&d.single, 0, fd, &off, svc) // no groups in it, so it comes no deeper
	d.single.reset()
	r.add(some.datagrams, some.bytes)
	r.refused = some.refused
	return !some.refused
}
