package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"usher/proxy/flow"
)

// backlog is asked for at every listening socket; net.core.somaxconn cuts it.
const backlog = 65535

// bindTCP listens on an address that nobody else may listen on, and then lets
// bindShard add to it. SO_REUSEPORT is set only after bind: set before, a second
// process of the same user could bind as well and would silently take a share of
// the clients. Only beside a binding of this server, which goes, it is set before.
func bindTCP(b *binding) (fd int32, local netip.AddrPort, err error) {
	at, bothFamilies := b.at.Addr, b.at.BothFamilies()
	fd, err = openTCP(at, bothFamilies, false)
	if b.joins && errors.Is(err, unix.EADDRINUSE) {
		fd, err = openTCP(at, bothFamilies, true)
	}
	if err != nil {
		return -1, netip.AddrPort{}, err
	}
	sa, err := unix.Getsockname(int(fd))
	if err != nil {
		closeFD(fd)
		return -1, netip.AddrPort{}, fmt.Errorf("listen tcp %v: getsockname: %w", at, err)
	}
	return fd, netip.AddrPortFrom(at.Addr(), portOf(sa)), nil
}

// bindShard listens on an address that bindTCP has bound.
func bindShard(at netip.AddrPort, bothFamilies bool) (int32, error) {
	return openTCP(at, bothFamilies, true)
}

func openTCP(at netip.AddrPort, bothFamilies, shard bool) (int32, error) {
	var sa sockaddr
	family := sa.setAddrPort(at)
	fd, e := newSocket(family)
	if e == unix.EAFNOSUPPORT && bothFamilies {
		// A kernel without IPv6: all addresses are those of IPv4.
		family = sa.setAddrPort(netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port()))
		fd, e = newSocket(family)
	}
	if e != noError {
		return -1, fmt.Errorf("listen tcp %v: socket: %w", at, e)
	}
	fail := func(what string, err error) (int32, error) {
		closeFD(fd)
		return -1, fmt.Errorf("listen tcp %v: %s: %w", at, what, err)
	}
	if family == unix.AF_INET6 {
		v6only := int32(1)
		if bothFamilies {
			v6only = 0
		}
		setsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, v6only)
	}
	setsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if shard {
		if e := setsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); e != noError {
			return fail("SO_REUSEPORT", e)
		}
	}
	// Accepted sockets inherit these.
	setsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	setKeepalive(fd, true)
	if e := bind(fd, &sa); e != noError {
		return fail("bind", e)
	}
	if !shard {
		if e := setsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); e != noError {
			return fail("SO_REUSEPORT", e)
		}
	}
	if err := unix.Listen(int(fd), backlog); err != nil {
		return fail("listen", err)
	}
	return fd, nil
}

// setKeepalive has the kernel notice an idle peer that vanished. TCP_USER_TIMEOUT
// is left alone; see hasTimedOut.
func setKeepalive(fd int32, on bool) {
	if !on {
		setsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
		return
	}
	setsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	setsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int32(flow.KeepaliveIdle/time.Second))
	setsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int32(flow.KeepaliveInterval/time.Second))
	setsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, flow.KeepaliveProbes)
}

// bindUnix listens on a path at which there is no file, or on an abstract name.
func bindUnix(l Listener) (int32, error) {
	var sa sockaddr
	path := l.Path
	if !sa.setPath(path) {
		return -1, fmt.Errorf("listen unix %s: the path is too long for a socket address", path)
	}
	fd, e := newSocket(unix.AF_UNIX)
	if e != noError {
		return -1, fmt.Errorf("listen unix %s: socket: %w", path, e)
	}
	closeToOthers(uintptr(fd), l.Mode)
	if e := bind(fd, &sa); e != noError {
		closeFD(fd)
		return -1, fmt.Errorf("listen unix %s: bind: %w", path, e)
	}
	if err := unix.Listen(int(fd), backlog); err != nil {
		closeFD(fd)
		return -1, fmt.Errorf("listen unix %s: listen: %w", path, err)
	}
	return fd, nil
}

func portOf(sa unix.Sockaddr) uint16 {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(a.Port)
	case *unix.SockaddrInet6:
		return uint16(a.Port)
	default:
		return 0
	}
}
