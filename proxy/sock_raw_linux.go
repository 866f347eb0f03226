package proxy

import (
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of the event loops. All sockets are non-blocking, so none of these
// can stay in the kernel: they use RawSyscall, which does not tell the Go
// scheduler, and cost what the kernel costs. The calls that wait are epollKeep, for a
// moment, and epollBlock.

const noError = syscall.Errno(0)

// The interest in a flow's socket, edge-triggered: an event is told once.
const (
	epollRead  = unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLRDHUP | unix.EPOLLET
	epollWrite = unix.EPOLLOUT
	epollEnd   = unix.EPOLLRDHUP | unix.EPOLLET // errors are always told
)

// epollKeep waits for events for at most ms milliseconds, which have to be few: the Go
// scheduler does not know, and can only interrupt it by a signal.
func epollKeep(ep int32, events []unix.EpollEvent, ms int) int {
	n, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(ep),
		uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), uintptr(ms), 0, 0)
	if e != noError {
		return 0 // EINTR: the scheduler wants the P
	}
	return int(n)
}

// epollBlock waits for events, for at most ms milliseconds if ms is not negative.
func epollBlock(ep int32, events []unix.EpollEvent, ms int) int {
	n, _, e := syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(ep),
		uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), uintptr(ms), 0, 0)
	if e != noError {
		return 0 // EINTR: a signal for the runtime
	}
	return int(n)
}

func epollAdd(ep, fd int32, interest uint32, tag, gen int32) syscall.Errno {
	return epollCtl(ep, unix.EPOLL_CTL_ADD, fd, interest, tag, gen)
}

func epollModify(ep, fd int32, interest uint32, tag, gen int32) syscall.Errno {
	return epollCtl(ep, unix.EPOLL_CTL_MOD, fd, interest, tag, gen)
}

func epollDelete(ep, fd int32) syscall.Errno {
	return epollCtl(ep, unix.EPOLL_CTL_DEL, fd, 0, 0, 0)
}

func epollCtl(ep int32, op uintptr, fd int32, interest uint32, tag, gen int32) syscall.Errno {
	ev := unix.EpollEvent{Events: interest, Fd: tag, Pad: gen}
	_, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(ep), op, uintptr(fd),
		uintptr(unsafe.Pointer(&ev)), 0, 0)
	return e
}

// recv reads from a socket. Unlike read it skips the file layer. None of recv,
// send and splice is interrupted by signals here, for none of them sleeps.
func recv(fd int32, p []byte, flags int) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), uintptr(flags), 0, 0)
	return int(n), e
}

// send writes to a socket and never raises SIGPIPE.
func send(fd int32, p []byte) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_NOSIGNAL, 0, 0)
	return int(n), e
}

// splice moves up to n bytes between a socket and a pipe. SPLICE_F_MORE is never
// set: it acts like TCP_CORK, and the tail of a burst would wait 200 ms.
func splice(from, to int32, n int) (int, syscall.Errno) {
	const flags = unix.SPLICE_F_MOVE | unix.SPLICE_F_NONBLOCK
	m, _, e := syscall.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), flags)
	return int(m), e
}

func closeFD(fd int32) { syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// shutdownWrite sends FIN after what is queued.
func shutdownWrite(fd int32) syscall.Errno {
	_, _, e := syscall.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
	return e
}

// closeReset closes with RST in place of FIN; what is queued is dropped.
// On a unix socket the peer sees a plain end, or a reset if it left data unread.
func closeReset(fd int32) {
	linger := unix.Linger{Onoff: 1}
	setsockopt(fd, unix.SOL_SOCKET, unix.SO_LINGER, unsafe.Pointer(&linger), unsafe.Sizeof(linger))
	closeFD(fd)
}

func setsockoptInt(fd int32, level, option int, value int32) syscall.Errno {
	return setsockopt(fd, level, option, unsafe.Pointer(&value), unsafe.Sizeof(value))
}

func setsockopt(fd int32, level, option int, value unsafe.Pointer, size uintptr) syscall.Errno {
	_, _, e := syscall.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(value), size, 0)
	return e
}

// socketError takes the pending error of a socket.
func socketError(fd int32) syscall.Errno {
	var value int32
	size := uint32(unsafe.Sizeof(value))
	_, _, e := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_ERROR,
		uintptr(unsafe.Pointer(&value)), uintptr(unsafe.Pointer(&size)), 0)
	if e != noError {
		return e
	}
	return syscall.Errno(value)
}

func tcpInfo(fd int32, info *unix.TCPInfo) syscall.Errno {
	size := uint32(unsafe.Sizeof(*info))
	_, _, e := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(info)), uintptr(unsafe.Pointer(&size)), 0)
	return e
}

// localAddr returns the address of a tcp socket's own end.
func localAddr(fd int32, sa *sockaddr) netip.AddrPort {
	sa.size = uint32(unsafe.Sizeof(sa.raw))
	_, _, e := syscall.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd),
		uintptr(unsafe.Pointer(&sa.raw)), uintptr(unsafe.Pointer(&sa.size)))
	if e != noError {
		return netip.AddrPort{}
	}
	return sa.addrPort()
}

// newSocket returns a non-blocking stream socket.
func newSocket(family int) (int32, syscall.Errno) {
	fd, _, e := syscall.RawSyscall(unix.SYS_SOCKET, uintptr(family),
		unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	return int32(fd), e
}

// accept returns a non-blocking socket, and the client's address in sa.
func accept(fd int32, sa *sockaddr) (int32, syscall.Errno) {
	sa.size = uint32(unsafe.Sizeof(sa.raw))
	n, _, e := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&sa.raw)),
		uintptr(unsafe.Pointer(&sa.size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return int32(n), e
}

func bind(fd int32, sa *sockaddr) syscall.Errno {
	_, _, e := syscall.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&sa.raw)), uintptr(sa.size))
	return e
}

// bindSource sets the address of a socket's own end. The port is chosen by connect, which knows which ones are free towards
// the peer (IP_BIND_ADDRESS_NO_PORT, ip(7)).
func bindSource(fd int32, source netip.Addr) syscall.Errno {
	setsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	var sa sockaddr
	sa.setAddrPort(netip.AddrPortFrom(source, 0))
	return bind(fd, &sa)
}

func connect(fd int32, sa *sockaddr) syscall.Errno {
	_, _, e := syscall.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa.raw)), uintptr(sa.size))
	return e
}

// sockaddr is a socket address in the kernel's form, kept by a loop for reuse.
type sockaddr struct {
	raw  unix.RawSockaddrAny
	size uint32
}

// addrPort returns the address of a tcp socket, or an invalid one for any other.
// The zone of a link-local address is left out.
func (sa *sockaddr) addrPort() netip.AddrPort {
	switch sa.raw.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(&sa.raw))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), swapPort(in.Port))
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(&sa.raw))
		return netip.AddrPortFrom(netip.AddrFrom16(in.Addr).Unmap(), swapPort(in.Port))
	default:
		return netip.AddrPort{}
	}
}

// setAddrPort puts in an IPv4 or IPv6 address and returns its family.
func (sa *sockaddr) setAddrPort(a netip.AddrPort) (family int) {
	if addr := a.Addr(); addr.Is4() {
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(&sa.raw))
		*in = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: swapPort(a.Port()), Addr: addr.As4()}
		sa.size = unix.SizeofSockaddrInet4
		return unix.AF_INET
	}
	in := (*unix.RawSockaddrInet6)(unsafe.Pointer(&sa.raw))
	*in = unix.RawSockaddrInet6{
		Family: unix.AF_INET6, Port: swapPort(a.Port()), Addr: a.Addr().As16(), Scope_id: zones.index(a.Addr().Zone()),
	}
	sa.size = unix.SizeofSockaddrInet6
	return unix.AF_INET6
}

// setPath puts in the path of a unix socket, or @NAME, whose @ stands for the zero byte of
// an abstract name: its end is that of the address. It reports whether the path fits.
func (sa *sockaddr) setPath(path string) bool {
	un := (*unix.RawSockaddrUnix)(unsafe.Pointer(&sa.raw))
	*un = unix.RawSockaddrUnix{Family: unix.AF_UNIX}
	if len(path) >= len(un.Path) {
		return false
	}
	for i := range len(path) {
		un.Path[i] = int8(path[i])
	}
	sa.size = uint32(unsafe.Offsetof(un.Path)) + uint32(len(path)) + 1
	if isAbstract(path) {
		un.Path[0] = 0
		sa.size--
	}
	return true
}

// swapPort turns a port from host to network order and back.
func swapPort(p uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&p))
	return uint16(b[0])<<8 | uint16(b[1])
}
