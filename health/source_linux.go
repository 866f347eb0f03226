package health

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// leavePortToConnect is the Control of a dialer with a local address: the kernel chooses the port when it knows the peer
// (IP_BIND_ADDRESS_NO_PORT, ip(7)).
func leavePortToConnect(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
}
