package health

import (
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// isBoundHere reports whether a socket of this machine receives datagrams to a loopback
// address from any source, according to the kernel (sock_diag(7)). It sends none, which
// would disturb servers that serve the first sender only. False proves nothing.
func isBoundHere(to netip.AddrPort) bool {
	addr := to.Addr().Unmap()
	if !addr.IsLoopback() {
		return false
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	// The kernel answers within sendto; the timeout is a safeguard.
	timeout := unix.NsecToTimeval(int64(time.Second))
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
	request := diagRequest(netip.AddrPortFrom(addr, to.Port()))
	if unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) != nil {
		return false
	}
	var answer [1024]byte
	n, _, err := unix.Recvfrom(fd, answer[:], 0)
	return err == nil && n >= unix.NLMSG_HDRLEN && binary.NativeEndian.Uint16(answer[4:]) == unix.SOCK_DIAG_BY_FAMILY
}

// diagRequest asks for the socket that would receive a datagram from port 1 of this
// machine: a struct inet_diag_req_v2 (linux/inet_diag.h). In a request for one UDP
// socket the kernel reads the source as the remote end (net/ipv4/udp_diag.c).
func diagRequest(to netip.AddrPort) []byte {
	const (
		size     = unix.NLMSG_HDRLEN + 56
		loopback = 1 // index of the interface lo
	)
	family, from := byte(unix.AF_INET6), netip.IPv6Loopback()
	if to.Addr().Is4() {
		family, from = unix.AF_INET, netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	h := binary.NativeEndian
	b := h.AppendUint32(make([]byte, 0, size), size)
	b = h.AppendUint16(b, unix.SOCK_DIAG_BY_FAMILY)
	b = h.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, make([]byte, 8)...) // sequence number and sender
	b = append(b, family, unix.IPPROTO_UDP, 0, 0)
	b = h.AppendUint32(b, ^uint32(0)) // any state
	b = binary.BigEndian.AppendUint16(b, 1)
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = append(b, from.AsSlice()...)
	b = append(b[:unix.NLMSG_HDRLEN+28], to.Addr().AsSlice()...)
	b = h.AppendUint32(b[:unix.NLMSG_HDRLEN+44], loopback)
	return h.AppendUint64(b, ^uint64(0)) // any cookie
}
