package proxy

import (
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"usher/proxy/flow"
)

// A udp address is given up as those of TCP are: a successor, which may be another process,
// can have it at once, and until there is one new clients are refused.
//
//   - A flow in use gets a socket of its own at the front: bound to the address that its
//     client asked and connected to the client. The kernel prefers it for that client, so
//     the flow goes on, whichever process owns the address. Before it is connected others' datagrams
//     may come to it: those of flows of other workers are dropped, and begin no new ones.
//   - The listening socket is connected to itself. It receives nothing any more, and
//     replies still leave by it, from the address that was asked.
//   - Both have SO_REUSEADDR, with which a successor binds; see bindOwned. SO_REUSEPORT
//     is taken back, or the kernel would spread the successor's clients over both.
//
// Flows beyond frontSockets have no socket of their own: what they are owed is passed on,
// and what their clients send is for the successor.

// frontSockets is how many flows of a worker get a socket at the front while it drains. The
// kernel walks all sockets of an address to bind one more, and to find that of a new
// client: so many cost the successor some microseconds a datagram.
const frontSockets = 512

// drainBatches bounds the batches that are still taken from a listening socket.
const drainBatches = 256

// shareAddress lets others bind the address of a socket, or no more.
func shareAddress(fd int32, on bool) {
	value := int32(0)
	if on {
		value = 1
	}
	setsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, value)
}

// connectToItself has a socket receive nothing any more. It may still send to anybody.
func connectToItself(fd int32) syscall.Errno {
	var sa sockaddr
	at := localAddr(fd, &sa)
	if !at.IsValid() {
		return unix.EBADF
	}
	if at.Addr().IsUnspecified() {
		loopback := netip.IPv6Loopback()
		if at.Addr().Is4() {
			loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		sa.setAddrPort(netip.AddrPortFrom(loopback, at.Port()))
	}
	e := connect(fd, &sa)
	setsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 0)
	return e
}

// newFrontSocket returns a socket from the address that a client asked to the client; scope
// is the link of an IPv6 client. For IPv4 it is one of both families: until it is connected
// the kernel prefers the listening socket then, which is of IPv4 alone.
func newFrontSocket(local, client netip.AddrPort, scope uint32) (int32, syscall.Errno) {
	fd, e := newDatagramSocket(unix.AF_INET6)
	mapped := e == noError
	if e == unix.EAFNOSUPPORT && client.Addr().Is4() {
		fd, e = newDatagramSocket(unix.AF_INET)
	}
	if e != noError {
		return -1, e
	}
	var sa sockaddr
	set := func(a netip.AddrPort) {
		if mapped && a.Addr().Is4() {
			a = netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
		}
		if sa.setAddrPort(a) == unix.AF_INET6 && a.Addr().IsLinkLocalUnicast() {
			(*unix.RawSockaddrInet6)(unsafe.Pointer(&sa.raw)).Scope_id = scope
		}
	}
	if mapped {
		setsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	}
	setsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	widenReceiveBuffer(fd)
	set(local)
	if e = bind(fd, &sa); e == noError {
		set(client)
		e = connect(fd, &sa)
	}
	if e != noError {
		closeFD(fd)
		return -1, e
	}
	return fd, noError
}

// giveUpAddresses takes three steps, each by all workers before the next one: a socket
// at the front may be bound only when all listening sockets of its address allow it, and
// the first of these that is connected has the kernel spread clients anew over the others.
// Sessions that begin meanwhile get theirs afterwards.
func (e *epollEngine) giveUpAddresses() {
	e.rounds(func(w *worker, round int) (more bool) { return w.udp.shareAddresses(round * adoptShare) })
	e.openFronts()
	e.rounds(func(w *worker, _ int) (more bool) { return w.udp.leaveAddress() })
	e.openFronts()
	e.rounds(func(w *worker, _ int) (more bool) { return w.udp.endLeave() })
	e.ownAddresses()
}

// ownAddresses has nobody share the addresses any more that those which went had.
func (e *epollEngine) ownAddresses() {
	for _, sockets := range e.joined {
		for _, l := range sockets.udp {
			shareAddress(l.fd, false)
		}
	}
	e.joined = nil
}

func (e *epollEngine) openFronts() {
	e.rounds(func(w *worker, round int) (more bool) { return w.udp.openFronts(round * flow.CutShare) })
}

// beginLeave notes that the address of a listener is to be given up.
func (d *datagrams) beginLeave(slot int32) {
	d.listeners[slot].isLeaving = true
	d.leaving = append(d.leaving, slot)
}

// shareAddresses lets others bind a share of the addresses that are given up. It reports
// whether there are more.
func (d *datagrams) shareAddresses(from int) (more bool) {
	end := min(from+adoptShare, len(d.leaving))
	for _, slot := range d.leaving[min(from, end):end] {
		shareAddress(d.listeners[slot].fd, true)
	}
	return end < len(d.leaving)
}

// leaveAddress serves what waits at some of the listening sockets, which receive nothing
// more: up to the first at which much waits. It reports whether there are more of them.
func (d *datagrams) leaveAddress() (more bool) {
	for range closeShare {
		if d.nowLeft == len(d.leaving) {
			return false
		}
		slot := d.leaving[d.nowLeft]
		d.nowLeft++
		l := &d.listeners[slot]
		if l.isInherited {
			epollDelete(d.w.ep, l.fd)
			continue // what waits is for those that have it, too
		}
		if connectToItself(l.fd) != noError {
			l.close() // rather than keep the address
		}
		batches := 0
		for batches < drainBatches && d.receive(slot) {
			batches++
		}
		if batches > 0 {
			break
		}
	}
	return true
}

// endLeave closes what no session replies by, a share in each turn. It reports whether
// there is more to do.
func (d *datagrams) endLeave() (more bool) {
	d.flush()
	n := min(closeShare, len(d.leaving))
	for _, slot := range d.leaving[:n] {
		l := &d.listeners[slot]
		if l.hasLeft = true; l.isInherited {
			shareAddress(l.fd, false)
		}
	}
	d.left = append(d.left, d.leaving[:n]...)
	d.closeLeft()
	if d.leaving = d.leaving[n:]; len(d.leaving) > 0 {
		return true
	}
	d.leaving, d.nowLeft = nil, 0
	return false
}

// openFronts gives flows among cutShare slots, whose listener leaves and which have none, a
// socket at the front, as long as there are some. It reports whether there are more slots.
func (d *datagrams) openFronts(from int) (more bool) {
	if len(d.leaving) == 0 {
		return false
	}
	some, more := d.sessions.InTurn(from)
	for x := range some {
		if x.Settings.UDP.OnePacket || !d.needsFront(d.socket(x.ID)) {
			continue
		}
		if d.fronts == frontSockets || !d.openFront(x) {
			return false
		}
	}
	return more
}

func (d *datagrams) needsFront(s *udpSocket) bool {
	return s.front < 0 && s.listener >= 0 && d.listeners[s.listener].isLeaving
}

func (d *datagrams) openFront(x *flow.Session) bool {
	s := d.socket(x.ID)
	fd, e := newFrontSocket(x.Local, x.Sender(), scopeOf(&s.name))
	if e != noError {
		return classifyErrno(e) != flow.ClassNoResources
	}
	slot := d.newListener()
	gen := d.listeners[slot].gen
	d.listeners[slot] = udpListener{fd: fd, gen: gen, at: x.Binding, local: x.Local, replies: s.listener}
	s.front = slot
	d.fronts++
	if epollAdd(d.w.ep, fd, unix.EPOLLIN, slot, tagDatagrams|gen) != noError {
		d.closeFront(s)
		return false
	}
	return true
}

func (d *datagrams) closeFront(s *udpSocket) {
	if s.front >= 0 {
		d.free(s.front)
		s.front = -1
		d.fronts--
	}
}

// scopeOf returns the link of an IPv6 address.
func scopeOf(name *unix.RawSockaddrInet6) uint32 {
	if name.Family != unix.AF_INET6 {
		return 0
	}
	return name.Scope_id
}

// end closes the sockets of a session.
func (d *datagrams) end(x *flow.Session) {
	d.close(x)
	s := d.socket(x.ID)
	d.closeFront(s)
	d.replyBy(s, -1)
}
