//go:build linux

package conformance

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// look selects sockets: those of one table ("tcp", "tcp6", "udp" or "udp6") in one of
// some states. A port of zero matches any. The kernel may return more than it selects.
type look struct {
	table         string
	states        uint32 // bits
	local, remote uint16 // ports
}

// States of a socket, as in the kernel's tcp_states.h. A connected UDP socket is
// established, any other is closed.
const (
	stateEstablished = 1
	stateClose       = 7
	stateCloseWait   = 8
	stateListen      = 10
)

// The messages of NETLINK_SOCK_DIAG, as in the kernel's linux/inet_diag.h. A request
// is 56 bytes behind the header. An answer begins with family, state and two more
// bytes, followed by the socket's ports and addresses.
const (
	diagRequest = unix.SizeofNlMsghdr + 56
	diagAnswer  = 4 + 2 + 2 + 16 + 16
)

// dump asks the kernel for sockets, which is far cheaper than reading its tables. It
// returns false if the kernel does not support that.
func dump(l look, f func(socket) bool) bool {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	protocol, family := byte(unix.IPPROTO_TCP), byte(unix.AF_INET)
	if l.table[:3] == "udp" {
		protocol = unix.IPPROTO_UDP
	}
	if l.table[3:] == "6" {
		family = unix.AF_INET6
	}
	h := binary.NativeEndian
	request := make([]byte, 0, diagRequest)
	request = h.AppendUint32(request, diagRequest)
	request = h.AppendUint16(request, unix.SOCK_DIAG_BY_FAMILY)
	request = h.AppendUint16(request, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	request = append(request, make([]byte, 8)...) // sequence number and sender
	request = append(request, family, protocol, 0, 0)
	request = h.AppendUint32(request, l.states)
	request = binary.BigEndian.AppendUint16(request, l.local)
	request = binary.BigEndian.AppendUint16(request, l.remote)
	request = request[:diagRequest]
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
			if size < unix.SizeofNlMsghdr || size > len(b) {
				return false
			}
			switch h.Uint16(b[4:]) {
			case unix.NLMSG_DONE:
				return true
			case unix.NLMSG_ERROR:
				return false
			}
			if m := b[unix.SizeofNlMsghdr:size]; len(m) >= diagAnswer && !f(answered(m)) {
				return true
			}
			b = b[min(len(b), (size+3)&^3):]
		}
	}
}

// answered reads one answer.
func answered(m []byte) socket {
	local, remote := m[8:24], m[24:40]
	if m[0] == unix.AF_INET {
		local, remote = local[:4], remote[:4]
	}
	at := func(ip, port []byte) netip.AddrPort {
		addr, _ := netip.AddrFromSlice(ip)
		return netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(port))
	}
	return socket{at(local, m[4:]), at(remote, m[6:]), int(m[1])}
}
