package health

import (
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// handshake is a check in progress. The loop's mu guards it.
//
//	connecting ──SYN-ACK, own ACK not sent──▶ done: RST
//	connecting ──own ACK sent──▶ closing: FIN ──target's FIN, timeout──▶ done
type handshake struct {
	fd        int32
	target    Target
	address   netip.AddrPort
	deadline  time.Time
	conclude  func(error)
	isClosing bool        // the target has accepted; its FIN is awaited
	discarded int         // bytes of a greeting
	detach    func() bool // from the context
}

// connect starts to connect, then polls.
func (h *handshake) connect() (isDone bool, err error) {
	_ = unix.SetsockoptInt(int(h.fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
	if source := h.target.Source; source.IsValid() {
		_ = unix.SetsockoptInt(int(h.fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err := unix.Bind(int(h.fd), sockaddr(netip.AddrPortFrom(source, 0))); err != nil {
			return false, os.NewSyscallError("bind", err)
		}
	}
	if err := unix.Connect(int(h.fd), sockaddr(h.address)); err != nil && err != unix.EINPROGRESS {
		return false, os.NewSyscallError("connect", err)
	}
	return h.poll()
}

// sockaddr returns an address without a zone in the kernel's form.
func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// disconnect ends a connection with RST. The socket stays usable.
func (h *handshake) disconnect() error {
	unspec := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, e := unix.Syscall(unix.SYS_CONNECT, uintptr(h.fd), uintptr(unsafe.Pointer(&unspec)), unsafe.Sizeof(unspec))
	if e != 0 {
		return e
	}
	return nil
}

// isPlain reports whether the check needs nothing of its socket but the family IPv4: a bound one stays bound.
func (h *handshake) isPlain() bool { return h.address.Addr().Is4() && !h.target.Source.IsValid() }

// events returns what the loop waits for. A closing socket is always writable, so only
// input counts.
func (h *handshake) events() uint32 {
	if h.isClosing {
		return unix.EPOLLIN | unix.EPOLLRDHUP
	}
	return unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP
}

// poll asks the kernel for the state of the handshake. Done means that the target has
// accepted and the socket can be closed, which sends RST.
func (h *handshake) poll() (isDone bool, err error) {
	var info unix.TCPInfo
	size := uint32(unsafe.Sizeof(info))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(h.fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if e != 0 {
		return false, os.NewSyscallError("getsockopt", e)
	}
	switch info.State {
	case unix.BPF_TCP_SYN_SENT, unix.BPF_TCP_SYN_RECV:
		return false, nil
	case unix.BPF_TCP_ESTABLISHED, unix.BPF_TCP_CLOSE_WAIT:
	default:
		code, err := unix.GetsockoptInt(int(h.fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = syscall.Errno(code)
		}
		if err == nil {
			err = unix.ECONNRESET
		}
		return false, os.NewSyscallError("connect", err)
	}
	if info.Segs_out == 1 { // only the SYN: the target's process knows nothing
		return true, nil
	}
	if h.isSelfConnect() {
		return false, os.NewSyscallError("connect", unix.ECONNREFUSED)
	}
	h.isClosing = true
	if until := time.Now().Add(closeTime); until.Before(h.deadline) {
		h.deadline = until
	}
	return unix.Shutdown(int(h.fd), unix.SHUT_WR) != nil, nil
}

// isSelfConnect reports whether simultaneous open has connected the socket to itself,
// because no process listens and the kernel chose the target's port as the local one.
func (h *handshake) isSelfConnect() bool {
	own, err := unix.Getsockname(int(h.fd))
	if err != nil {
		return false
	}
	switch a := own.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)) == h.address
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)) == h.address
	}
	return false
}

// close closes the socket, if there is one: with RST, unless a FIN was sent.
func (h *handshake) close() {
	if h.fd < 0 {
		return
	}
	if !h.isClosing {
		_ = h.disconnect()
	}
	unix.Close(int(h.fd))
	h.fd = -1
}

// discardInput reads a greeting, so that close sends no RST. It returns whether the
// target's FIN, or too much input, has come.
func (h *handshake) discardInput() (isDone bool) {
	var buffer [4 << 10]byte
	for h.discarded < closeBytes {
		n, err := unix.Read(int(h.fd), buffer[:])
		if err == unix.EAGAIN || err == unix.EINTR {
			return false
		}
		if err != nil || n == 0 {
			return true
		}
		h.discarded += n
	}
	return true
}
