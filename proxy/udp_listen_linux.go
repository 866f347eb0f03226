package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receiveBuffer is asked for at every listening udp socket; net.core.rmem_max
// cuts it.
const receiveBuffer = 4 << 20

// bindUDP binds a listening socket. As with bindTCP, only a shard may join an
// address that is taken.
//
// A socket that is to have shards is deaf until deafen is lifted: while the kernel
// spreads clients over only some of the sockets of a port, it would give a client
// to one worker now and to another later. Without merge the kernel hands over
// datagrams one by one.
func bindUDP(at netip.AddrPort, shard, deaf, merge bool) (l udpListener, err error) {
	var sa sockaddr
	family := sa.setAddrPort(at)
	fd, e := newDatagramSocket(family)
	if e == unix.EAFNOSUPPORT && at.Addr() == netip.IPv6Unspecified() {
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
		if at.Addr() == netip.IPv6Unspecified() {
			v6only = 0
		}
		setsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, v6only)
	}
	if shard {
		if e := setsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); e != noError {
			return fail("SO_REUSEPORT", e)
		}
	}
	if l.wildcard {
		level, option := unix.IPPROTO_IP, unix.IP_PKTINFO
		if l.v6 {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
		}
		if e := setsockoptInt(fd, level, option, 1); e != noError {
			return fail("packet information", e)
		}
		if l.v6 { // which says of a broadcast over IPv4 no more than that it was one
			setsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		}
	}
	setsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	setsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)
	gro := int32(0)
	if merge {
		gro = 1
	}
	l.gso = setsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, gro) == noError
	if deaf {
		if e := deafen(fd); e != noError {
			return fail("SO_ATTACH_FILTER", e)
		}
	}
	if e := bind(fd, &sa); e != noError {
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

func newDatagramSocket(family int) (int32, syscall.Errno) {
	fd, _, e := syscall.RawSyscall(unix.SYS_SOCKET, uintptr(family),
		unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	return int32(fd), e
}

// listenUDP binds the sockets of a udp listener. Each worker has one of its own
// for each port: the kernel gives all datagrams of a client to the same one, by
// the hash of both addresses, and so to the worker that owns the flow.
func (e *epollEngine) listenUDP(svc *Service, l Listener) ([]netip.AddrPort, error) {
	var bound []netip.AddrPort
	for i := range l.count() {
		at := l.at(i)
		for n, w := range e.workers {
			u, err := bindUDP(at, n > 0, len(e.workers) > 1, !svc.UDP.OnePacket)
			if err != nil {
				return nil, err
			}
			u.svc, u.offset = svc, uint16(i)
			at = u.local
			if err := w.listenUDP(u, e.workers); err != nil {
				return nil, err
			}
		}
		for _, w := range e.workers {
			hear(w.udp.listeners[len(w.udp.listeners)-1].fd)
		}
		bound = append(bound, at)
	}
	if note := e.receiveBuffers(); !slices.Contains(e.server.notes, note) {
		e.server.notes = append(e.server.notes, note)
	}
	return bound, nil
}

// receiveBuffers says how much the kernel has granted each udp listening socket.
// It counts its own bookkeeping as well, and doubles what is asked for to make up
// for that; see socket(7).
func (e *epollEngine) receiveBuffers() string {
	granted, err := unix.GetsockoptInt(int(e.workers[0].udp.listeners[0].fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return "udp receive buffers unknown"
	}
	return fmt.Sprintf("udp receive buffers %d KiB (%d KiB asked for; net.core.rmem_max)", granted/2>>10, receiveBuffer>>10)
}

// listenUDP takes a listening socket over. What may fail is done before clients
// are served.
func (w *worker) listenUDP(u udpListener, workers []*worker) error {
	if w.udp == nil {
		w.udp = newDatagrams(w, workers)
	}
	i := len(w.udp.listeners)
	w.udp.listeners = append(w.udp.listeners, u)
	if e := epollAdd(w.ep, u.fd, 0, int32(i), tagDatagrams); e != noError {
		return fmt.Errorf("listen udp %v: epoll_ctl: %w", u.local, e)
	}
	return nil
}

// begin has the loop told of datagrams.
func (d *datagrams) begin() {
	for i := range d.listeners {
		epollModify(d.w.ep, d.listeners[i].fd, unix.EPOLLIN, int32(i), tagDatagrams)
	}
}

// deafen has the kernel drop all that comes to a socket, until hear.
func deafen(fd int32) syscall.Errno {
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	program := unix.SockFprog{Len: 1, Filter: &drop}
	return setsockopt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, unsafe.Pointer(&program), unsafe.Sizeof(program))
}

func hear(fd int32) { setsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0) }
