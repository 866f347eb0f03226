package proxy

import (
	"iter"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batchSlots is how many datagrams, or groups of equal ones that the kernel has
	// put together (UDP_GRO), one call moves.
	batchSlots = 32
	// slotSize holds the largest datagram, and the largest group. The slots are one
	// block a worker, of which the kernel gives memory only to pages in use.
	slotSize = 64 << 10
	// maxDatagram is the largest payload that IPv4 has room for.
	maxDatagram = 65507
	// maxSegments is the most datagrams that UDP_SEGMENT cuts one send into.
	maxSegments = 64
	// controlSize holds the packet information of both families and the size of a
	// group's parts.
	controlSize = 128
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32 // what follows on 64 bits is up to the compiler, as in C
}

// batch is the memory of one recvmmsg or sendmmsg.
type batch struct {
	msgs    [batchSlots]mmsghdr
	names   [batchSlots]unix.RawSockaddrInet6
	iovs    [batchSlots]unix.Iovec
	control [batchSlots][controlSize]byte
	slots   []byte // batchSlots × slotSize
	used    int    // headers before this one may be as the kernel has left them
}

// newBatch returns an empty batch. Without named the senders are not asked for, as on a
// connected socket.
func newBatch(named bool) *batch {
	b := &batch{slots: make([]byte, batchSlots*slotSize), used: batchSlots}
	for i := range b.msgs {
		b.iovs[i].Base = &b.slots[i*slotSize]
		b.iovs[i].SetLen(slotSize)
		h := &b.msgs[i].hdr
		h.Iov, h.Control = &b.iovs[i], &b.control[i][0]
		h.SetIovlen(1)
		if named {
			h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		}
	}
	return b
}

// receive reads into the slots from first on, and returns how many it filled. The kernel
// writes only to the headers of those.
func (b *batch) receive(fd int32, first int) (int, syscall.Errno) {
	for i := first; i < b.used; i++ {
		h := &b.msgs[i].hdr
		h.Namelen = uint32(unsafe.Sizeof(b.names[i])) // ignored without a name
		h.SetControllen(controlSize)
	}
	b.used = first
	n, _, e := syscall.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd),
		uintptr(unsafe.Pointer(&b.msgs[first])), uintptr(batchSlots-first), unix.MSG_DONTWAIT, 0, 0)
	if e != noError {
		return 0, e
	}
	b.used = first + int(n)
	return int(n), noError
}

// payload returns what slot i holds.
func (b *batch) payload(i int) []byte { return b.slots[i*slotSize : i*slotSize+int(b.msgs[i].n)] }

// from returns the sender of slot i.
func (b *batch) from(i int) netip.AddrPort {
	return nameToAddrPort(&b.names[i])
}

func nameToAddrPort(name *unix.RawSockaddrInet6) netip.AddrPort {
	if name.Family == unix.AF_INET {
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), swapPort(in.Port))
	}
	return netip.AddrPortFrom(netip.AddrFrom16(name.Addr).Unmap(), swapPort(name.Port))
}

// ancillary is what came beside a datagram.
type ancillary struct {
	local   netip.Addr // the address that it was sent to, if asked for
	index   int32      // of the interface that it came by, if asked for
	segment int        // the size of the parts of a group; zero: one datagram
}

// ancillary returns what came beside slot i.
func (b *batch) ancillary(i int) ancillary {
	return parseAncillary(b.control[i][:b.msgs[i].hdr.Controllen])
}

func parseAncillary(c []byte) (a ancillary) {
	const head = unix.SizeofCmsghdr
	for len(c) >= head {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&c[0]))
		size := int(h.Len)
		if size < head || size > len(c) {
			return a
		}
		data := c[head:size]
		switch {
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 4:
			a.segment = int(*(*int32)(unsafe.Pointer(&data[0])))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			// The address to answer from: the one asked for, but for broadcasts.
			info := (*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0]))
			a.local, a.index = netip.AddrFrom4(info.Spec_dst), info.Ifindex
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			if a.local.Is4() {
				break // IP_PKTINFO knows better
			}
			info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
			a.local, a.index = netip.AddrFrom16(info.Addr).Unmap(), int32(info.Ifindex)
			if a.local.IsMulticast() {
				a.local = netip.Addr{} // nobody answers from there
			}
		}
		c = c[min(unix.CmsgSpace(size-head), len(c)):]
	}
	return a
}

// sendBatch builds the messages of one sendmmsg out of datagrams that stay where
// they are. Datagrams of one receiver and of equal size, the last may be smaller,
// make one message that the kernel cuts again (UDP_SEGMENT).
type sendBatch struct {
	// head goes before each datagram that is added. It stays as it is until the batch is sent.
	head []byte

	msgs    [maxSegments]mmsghdr
	iovs    [2 * maxSegments]unix.Iovec
	control [maxSegments][controlSize]byte
	groups  [maxSegments]segmentGroup
	n, used int // messages, and iovecs of them
}

// segmentGroup is what is known of a message under construction.
type segmentGroup struct {
	receiver uint32 // tells receivers apart
	segment  int    // the size of all datagrams but the last
	head     int    // the bytes before each, which are no payload
	total    int    // bytes
	count    int    // datagrams
	sent     bool   // it left, or a part of it
	closed   bool   // nothing may follow: the last one was smaller, or is empty
	source   netip.Addr
	v6       bool // the socket is one of IPv6
}

// payload returns the bytes of the message without those before its datagrams.
func (t *segmentGroup) payload() int { return t.total - t.count*t.head }

func (o *sendBatch) reset() { o.n, o.used, o.head = 0, 0, nil }

// add appends a datagram, or a group with parts of the given size. It reports
// false if there is no room: send and reset first. gso says whether the socket
// can cut groups; without it, and with a head, the caller adds datagrams one by one.
func (o *sendBatch) add(p []byte, segment int, to *unix.RawSockaddrInet6, toLen uint32, receiver uint32, source netip.Addr, v6, gso bool) bool {
	if o.used+2 > len(o.iovs) { // one is for a head
		return false
	}
	head := len(o.head)
	length := head + len(p)
	size, count := length, 1
	if segment > 0 && segment < size {
		count = (size + segment - 1) / segment
		size = segment
	}
	if gso && o.n > 0 {
		t := &o.groups[o.n-1]
		if !t.closed && t.receiver == receiver && t.source == source && t.head == head && size <= t.segment && len(p) > 0 &&
			(size == t.segment || count == 1) && t.total+length <= maxDatagram && t.count+count <= maxSegments {
			o.extend(t, p)
			t.count += count
			t.closed = length%t.segment != 0
			return true
		}
	}
	if o.n == len(o.msgs) {
		return false
	}
	i := o.n
	o.n++
	o.groups[i] = segmentGroup{receiver: receiver, segment: size, head: head, count: count, source: source, v6: v6,
		closed: len(p) == 0 || length%size != 0}
	m := &o.msgs[i]
	m.n = 0
	m.hdr = unix.Msghdr{Iov: &o.iovs[o.used]}
	if to != nil {
		m.hdr.Name, m.hdr.Namelen = (*byte)(unsafe.Pointer(to)), toLen
	}
	o.extend(&o.groups[i], p)
	return true
}

// gather adds a datagram to a connected peer, or a group with parts of the given size. It
// returns what there was no room for, unless that was all.
func (o *sendBatch) gather(p []byte, segment int, gso bool) (rest []byte, all bool) {
	for rest = p; ; {
		part, size := rest, segment
		switch {
		case segment <= 0 || segment >= len(rest):
		case gso:
			part = rest[:min(segment*maxSegments, len(rest))]
		default:
			part, size = rest[:segment], 0
		}
		if !o.add(part, size, nil, 0, 0, netip.Addr{}, false, gso) {
			return rest, false
		}
		if rest = rest[len(part):]; len(rest) == 0 {
			return nil, true
		}
	}
}

// copyTo copies the datagrams of message i, without what goes before each.
func (o *sendBatch) copyTo(p []byte, i int) {
	for _, part := range o.parts(i) {
		p = p[copy(p, part):]
	}
}

// parts yields the payload of message i piece by piece, and what goes before each piece.
func (o *sendBatch) parts(i int) iter.Seq2[[]byte, []byte] {
	return func(yield func(head, part []byte) bool) {
		h := &o.msgs[i].hdr
		all := unsafe.Slice(h.Iov, int(h.Iovlen))
		for len(all) > 0 {
			var head []byte
			if o.groups[i].head > 0 {
				head = bytesOf(&all[0])
				all = all[1:]
			}
			if !yield(head, bytesOf(&all[0])) {
				return
			}
			all = all[1:]
		}
	}
}

func bytesOf(v *unix.Iovec) []byte { return unsafe.Slice(v.Base, int(v.Len)) }

// extend appends a head, if there is one, and a payload to the last message.
func (o *sendBatch) extend(t *segmentGroup, p []byte) {
	if t.head > 0 {
		o.point(o.head)
	}
	o.point(p)
	t.total += t.head + len(p)
}

// point has the last message go on with p.
func (o *sendBatch) point(p []byte) {
	v := &o.iovs[o.used]
	o.used++
	v.Base = unsafe.SliceData(p)
	v.SetLen(len(p))
	m := &o.msgs[o.n-1]
	m.hdr.SetIovlen(int(m.hdr.Iovlen) + 1)
}

// finish writes the control data of message i.
func (o *sendBatch) finish(i int) {
	t, m := &o.groups[i], &o.msgs[i]
	c := o.control[i][:0]
	if t.count > 1 {
		c = appendControl(c, unix.IPPROTO_UDP, unix.UDP_SEGMENT, uint16(t.segment))
	}
	if t.source.IsValid() {
		if t.v6 {
			c = appendControl(c, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.Inet6Pktinfo{Addr: t.source.As16()})
		} else {
			c = appendControl(c, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.Inet4Pktinfo{Spec_dst: t.source.As4()})
		}
	}
	m.hdr.Control, m.hdr.Controllen = nil, 0
	if len(c) > 0 {
		m.hdr.Control = &c[0]
		m.hdr.SetControllen(len(c))
	}
}

// appendControl appends a control message to c, which has room for it.
func appendControl[T any](c []byte, level, kind int32, value T) []byte {
	size := int(unsafe.Sizeof(value))
	at := len(c)
	c = c[:at+unix.CmsgSpace(size)]
	h := (*unix.Cmsghdr)(unsafe.Pointer(&c[at]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(size))
	*(*T)(unsafe.Pointer(&c[at+unix.SizeofCmsghdr])) = value
	return c
}

// sendmmsg sends so many messages from first on and returns how many went out.
// What stopped it short is told only if that was the first of them.
func (o *sendBatch) sendmmsg(fd int32, first, count int) (int, syscall.Errno) {
	const flags = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
	if h := &o.msgs[first].hdr; count == 1 && h.Iovlen == 1 && h.Control == nil {
		// A lone datagram: sendto copies no headers in.
		_, _, e := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(h.Iov.Base)),
			uintptr(h.Iov.Len), flags, uintptr(unsafe.Pointer(h.Name)), uintptr(h.Namelen))
		if e != noError {
			return 0, e
		}
		return 1, noError
	}
	n, _, e := syscall.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd),
		uintptr(unsafe.Pointer(&o.msgs[first])), uintptr(count), flags, 0, 0)
	if e != noError {
		return 0, e
	}
	return int(n), noError
}
