package proxy

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bindOwned binds a socket to an address that nobody else may have. A process that
// drains is not in the way: its sockets have SO_REUSEADDR, and are connected to clients
// of their own. The kernel lets two sockets share an address if both have that option.
// So it is set only while binding, and another owner at that moment is looked for
// afterwards: two starting processes, or a stranger that always sets it.
func bindOwned(fd int32, sa *sockaddr, bothFamilies bool) syscall.Errno {
	e := bind(fd, sa)
	if e != unix.EADDRINUSE {
		return e
	}
	setsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	e = bind(fd, sa)
	setsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
	if e == noError && hasOtherOwner(fd, localAddr(fd, sa), bothFamilies) {
		return unix.EADDRINUSE
	}
	return e
}

// hasOtherOwner reports whether another socket gets what is sent to the address of a
// socket. Of two that look for each other, the one with the lower inode number stays: it
// waits until the other one has gone.
func hasOtherOwner(fd int32, at netip.AddrPort, bothFamilies bool) bool {
	const patience, pause = time.Second, 10 * time.Millisecond
	var self unix.Stat_t
	if unix.Fstat(int(fd), &self) != nil {
		return true
	}
	for range patience / pause {
		other, ok := otherOwner(self.Ino, at, bothFamilies)
		if ok && other == 0 {
			return false
		}
		if !ok || other < self.Ino {
			return true
		}
		time.Sleep(pause)
	}
	return true
}

// otherOwner returns the lowest inode number of other sockets that get what is sent to
// an address; zero is none. It is not ok if the kernel does not say.
func otherOwner(self uint64, at netip.AddrPort, bothFamilies bool) (inode uint64, ok bool) {
	families := []byte{unix.AF_INET6}
	if at.Addr().Is4() || bothFamilies {
		families = append(families, unix.AF_INET)
	}
	for _, family := range families {
		ok := unconnectedSockets(family, at.Port(), func(local netip.Addr, i uint64) {
			if i != self && addressesOverlap(local, at.Addr()) && (inode == 0 || i < inode) {
				inode = i
			}
		})
		if !ok {
			return 0, false
		}
	}
	return inode, true
}

// addressesOverlap reports whether a datagram may be for both addresses. All addresses
// of IPv6 may be those of both families.
func addressesOverlap(a, b netip.Addr) bool {
	return a == b || a == netip.IPv6Unspecified() || b == netip.IPv6Unspecified() ||
		a.Is4() == b.Is4() && (a.IsUnspecified() || b.IsUnspecified())
}

// unconnectedSockets yields the address and the inode number of each udp socket of a
// port that is not connected, as sock_diag(7) has them. It reports whether the kernel
// has given them all. Its tables in /proc, which are read by pieces, may miss some.
func unconnectedSockets(family byte, port uint16, yield func(netip.Addr, uint64)) bool {
	const (
		requestSize = unix.SizeofNlMsghdr + 56
		sourceAt    = 8 // in struct inet_diag_msg
		inodeAt     = 68
		answerSize  = 72
	)
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	h := binary.NativeEndian
	request := h.AppendUint32(nil, requestSize)
	request = h.AppendUint16(request, unix.SOCK_DIAG_BY_FAMILY)
	request = h.AppendUint16(request, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	request = append(request, make([]byte, 8)...) // sequence number and sender
	request = append(request, family, unix.IPPROTO_UDP, 0, 0)
	request = h.AppendUint32(request, 1<<unix.BPF_TCP_CLOSE)
	request = binary.BigEndian.AppendUint16(request, port)
	request = append(request, make([]byte, requestSize-len(request))...)
	if unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) != nil {
		return false
	}
	buffer := make([]byte, 32<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return false
		}
		for b := buffer[:n]; len(b) >= unix.SizeofNlMsghdr; {
			size := int(h.Uint32(b))
			if size < unix.SizeofNlMsghdr || size > len(b) || h.Uint16(b[4:]) == unix.NLMSG_ERROR {
				return false
			}
			if h.Uint16(b[4:]) == unix.NLMSG_DONE {
				return true
			}
			if m := b[unix.SizeofNlMsghdr:size]; len(m) >= answerSize {
				source := m[sourceAt : sourceAt+16]
				if family == unix.AF_INET {
					source = source[:4]
				}
				local, _ := netip.AddrFromSlice(source)
				yield(local.Unmap(), uint64(h.Uint32(m[inodeAt:])))
			}
			b = b[min(len(b), (size+3)&^3):]
		}
	}
}
