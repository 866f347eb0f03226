//go:build unix

package proxy

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// hasWaiting reports whether a client waits at a listener. A deadline does not tell: when
// it is over before Accept is called, Accept does not look.
func hasWaiting(l net.Listener) (yes bool) {
	c, ok := l.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		waits := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(waits, 0)
		yes = err == nil && n > 0
	})
	return yes
}
