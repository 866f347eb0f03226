package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// inspectSocket returns where a socket listens. No child gets it from then on.
func inspectSocket(fd int) (l Listener, err error) {
	unix.CloseOnExec(fd)
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return l, fmt.Errorf("getsockname: %w", err)
	}
	isStream, isListening := socketOption(int32(fd), unix.SO_TYPE) == unix.SOCK_STREAM, socketOption(int32(fd), unix.SO_ACCEPTCONN) == 1
	switch a := sa.(type) {
	case *unix.SockaddrUnix:
		l = Listener{Network: "unix", Path: a.Name}
	case *unix.SockaddrInet4:
		l.Addr = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		ip := netip.AddrFrom16(a.Addr)
		if a.ZoneId != 0 {
			ip = ip.WithZone(linkName(int(a.ZoneId)))
		}
		l.Addr = netip.AddrPortFrom(ip, uint16(a.Port))
		only, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		if err != nil {
			return l, fmt.Errorf("IPV6_V6ONLY: %w", err)
		}
		l.V6Only = only != 0 && ip == netip.IPv6Unspecified()
	default:
		return l, errors.New("it is of no address family that can be served")
	}
	if l.Network == "" {
		switch protocol := socketOption(int32(fd), unix.SO_PROTOCOL); {
		case protocol == unix.IPPROTO_TCP:
			l.Network = "tcp"
		case protocol == unix.IPPROTO_UDP && l.Addr.Port() != 0:
			l.Network = "udp"
			return l, verifyUnconnected(fd)
		default:
			return l, fmt.Errorf("it is of protocol %d, and not of tcp or udp", protocol)
		}
	}
	if !isStream || !isListening {
		return l, errors.New("it is not a stream socket that listens (Accept=no)")
	}
	return l, nil
}

// verifyUnconnected returns an error for a datagram socket that hears a single peer.
func verifyUnconnected(fd int) error {
	if _, err := unix.Getpeername(fd); err == nil {
		return errors.New("it is connected")
	}
	return nil
}

// linkName returns the name of a link, or its number.
func linkName(index int) string {
	if link, err := net.InterfaceByIndex(index); err == nil {
		return link.Name
	}
	return strconv.Itoa(index)
}

// duplicate returns a copy of a socket. No call waits on either.
func duplicate(fd int) (int, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return -1, fmt.Errorf("O_NONBLOCK: %w", err)
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("dup: %w", err)
	}
	return own, nil
}

func closeInherited(fd int) { closeFD(int32(fd)) }

// inherit has all workers share a socket of streams. Flows of datagrams belong to the worker that receives them, so one alone
// has such a socket: the kernel adds no others to a socket of another user.
func (e *epollEngine) inherit(b *binding, fd int) error {
	sockets := &epollSockets{isShared: b.at.Network != "udp", slots: make([]int32, len(e.workers))}
	b.sockets = sockets
	if b.at.Network != "udp" {
		sockets.fds = []int32{int32(fd)}
		if b.at.Network == "tcp" {
			setsockoptInt(int32(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
			setKeepalive(int32(fd), true)
		}
		return nil
	}
	l := udpListener{
		fd: int32(fd), at: &b.Binding, local: b.local, v6: b.local.Addr().Is6(), wildcard: b.local.Addr().IsUnspecified(), isInherited: true,
	}
	if err := l.prepare(b); err != nil {
		l.close()
		return err
	}
	sockets.udp = slices.Repeat([]udpListener{{fd: -1}}, len(e.workers))
	sockets.udp[int(b.local.Port())%len(e.workers)] = l
	return nil
}

// inherit has package net accept from a socket.
func (e *portableEngine) inherit(b *binding, fd int) error {
	sockets := &portableSockets{closing: make(chan struct{})}
	b.sockets = sockets
	f := os.NewFile(uintptr(fd), "")
	defer f.Close() // of which net takes a copy
	if b.at.Network == "udp" {
		return e.inheritPackets(b, sockets, f)
	}
	l, err := net.FileListener(f)
	if err != nil {
		return err
	}
	sockets.accept = l
	if l, ok := l.(*net.TCPListener); ok {
		sockets.accept = inheritedListener{l}
	}
	return nil
}

func (e *portableEngine) inheritPackets(b *binding, sockets *portableSockets, f *os.File) error {
	if b.at.BothFamilies() {
		return errors.New("engine portable takes no socket of both families (BindIPv6Only=ipv6-only)")
	}
	pc, err := net.FilePacketConn(f)
	if err != nil {
		return err
	}
	if err := sockets.addPacket(b, pc.(*net.UDPConn), b.at.Addr); err != nil {
		e.discard(b)
		return err
	}
	sockets.packets[0].isInherited = true
	return nil
}

// inheritedListener gives its clients the keepalive that those of other listeners have.
type inheritedListener struct{ *net.TCPListener }

func (l inheritedListener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	_ = c.SetKeepAliveConfig(portableKeepalive) // it is gone
	return c, nil
}
