package proxy

import (
	"fmt"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bindUDP binds a listening socket. As with bindTCP, only a shard may join an
// address that is taken.
//
// The input of a socket that is to have shards is blocked until all are there: while the
// kernel spreads clients over only some of the sockets of a port, it would give a client
// to one worker now and to another later.
func bindUDP(b *binding, shard, isBlocked bool) (l udpListener, err error) {
	var sa sockaddr
	at, bothFamilies := b.local, b.at.BothFamilies()
	family := sa.setAddrPort(at)
	fd, e := newDatagramSocket(family)
	if e == unix.EAFNOSUPPORT && bothFamilies {
		family = sa.setAddrPort(netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port()))
		fd, e = newDatagramSocket(family)
	}
	if e != noError {
		return l, fmt.Errorf("listen udp %v: socket: %w", at, e)
	}
	fail := func(what string, err error) (udpListener, error) {
		closeFD(fd)
		return l, fmt.Errorf("listen udp %v: %s: %w", at, what, err)
	}
	l = udpListener{fd: fd, v6: family == unix.AF_INET6, wildcard: at.Addr().IsUnspecified()}
	if l.v6 {
		v6only := int32(1)
		if bothFamilies {
			v6only = 0
		}
		setsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, v6only)
	}
	if shard || b.joins {
		if e := setsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); e != noError {
			return fail("SO_REUSEPORT", e)
		}
	}
	if e := l.prepare(b); e != nil {
		closeFD(fd)
		return l, e
	}
	if isBlocked {
		if e := blockInput(fd); e != noError {
			return fail("SO_ATTACH_FILTER", e)
		}
	}
	if e := bindOwned(fd, &sa, shard || bothFamilies); e != noError {
		return fail("bind", e)
	}
	if !shard {
		if e := setsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); e != noError {
			return fail("SO_REUSEPORT", e)
		}
	}
	l.local = netip.AddrPortFrom(at.Addr(), localAddr(fd, &sa).Port())
	return l, nil
}

// prepare sets what the loop expects of a socket.
func (l *udpListener) prepare(b *binding) error {
	if l.wildcard {
		if e := askForLocalAddress(l.fd, l.v6); e != noError {
			return fmt.Errorf("listen udp %v: packet information: %w", b.local, e)
		}
	}
	widenReceiveBuffer(l.fd)
	l.gso = setsockoptInt(l.fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) == noError
	l.merges = l.gso
	l.setMerging(!b.splits)
	return nil
}

// askForLocalAddress has the address that a datagram was sent to come with it.
func askForLocalAddress(fd int32, v6 bool) syscall.Errno {
	if !v6 {
		return setsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	}
	// IPV6_PKTINFO says of a broadcast over IPv4 no more than that it was one.
	setsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	return setsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
}

func newDatagramSocket(family int) (int32, syscall.Errno) {
	fd, _, e := syscall.RawSyscall(unix.SYS_SOCKET, uintptr(family),
		unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	return int32(fd), e
}

// bindUDP gives each worker a socket of its own: the kernel gives all datagrams of a client
// to the same one, by the hash of both addresses, and so to the worker that owns the flow.
func (e *epollEngine) bindUDP(b *binding, sockets *epollSockets) error {
	b.local = b.at.Addr
	for n := range e.workers {
		l, err := bindUDP(b, n > 0, len(e.workers) > 1)
		if err != nil {
			return err
		}
		b.local, l.at = l.local, &b.Binding
		sockets.udp = append(sockets.udp, l)
	}
	for _, l := range sockets.udp {
		unblockInput(l.fd)
		if b.joins {
			shareAddress(l.fd, true)
		}
	}
	if b.joins {
		e.joined = append(e.joined, sockets)
	}
	return nil
}

// newListener returns a free slot.
func (d *datagrams) newListener() int32 {
	if n := len(d.freeSlots); n > 0 {
		slot := d.freeSlots[n-1]
		d.freeSlots = d.freeSlots[:n-1]
		return slot
	}
	d.listeners = append(d.listeners, udpListener{})
	return int32(len(d.listeners) - 1)
}

// adopt takes a listening socket over.
func (d *datagrams) adopt(b *binding, l udpListener) (slot int32) {
	if d.in == nil {
		d.in, d.back = newBatch(true), newBatch(false)
	}
	slot = d.newListener()
	l.replies, l.gen = slot, d.listeners[slot].gen
	d.listeners[slot] = l
	if d.w.server.asksInterface.Load() {
		askForLocalAddress(l.fd, l.v6)
	}
	d.register(slot)
	return slot
}

// needInterfaces has all listening sockets tell by which interface datagrams come.
func (d *datagrams) needInterfaces() {
	for i := range d.listeners {
		if l := &d.listeners[i]; l.fd >= 0 {
			askForLocalAddress(l.fd, l.v6)
		}
	}
}

// register has the loop told of datagrams. Without memory for it, it tries again.
func (d *datagrams) register(slot int32) {
	l := &d.listeners[slot]
	if l.isInherited && l.isLeaving {
		return // replies alone leave by it
	}
	if e := epollAdd(d.w.ep, l.fd, unix.EPOLLIN, slot, tagDatagrams|l.gen); e != noError && e != unix.EEXIST {
		d.unregistered = append(d.unregistered, slot)
		d.w.pauseAccept()
	}
}

// registerAgain tries to register what could not be before.
func (d *datagrams) registerAgain() {
	again := d.unregistered
	d.unregistered = nil
	for _, slot := range again {
		if d.listeners[slot].fd >= 0 {
			d.register(slot)
		}
	}
}

func (l *udpListener) close() {
	if l.fd >= 0 {
		closeFD(l.fd)
		l.fd = -1
	}
}

// free closes a listening socket.
func (d *datagrams) free(slot int32) {
	l := &d.listeners[slot]
	l.close()
	l.at, l.isInherited, l.isLeaving, l.hasLeft, l.gen = nil, false, false, false, (l.gen+1)&tagGen
	d.freeSlots = append(d.freeSlots, slot)
}

// blockInput has the kernel drop all that comes to a socket, until unblockInput.
func blockInput(fd int32) syscall.Errno {
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	program := unix.SockFprog{Len: 1, Filter: &drop}
	return setsockopt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, unsafe.Pointer(&program), unsafe.Sizeof(program))
}

func unblockInput(fd int32) { setsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0) }
