//go:build unix

package proxy

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// awaitError waits until a connection whose FIN has been read fails, and returns
// how; nil if it is closed here first. Reading would go on to find the FIN and
// tell nothing: a reset that follows it shows in SO_ERROR alone.
func awaitError(c net.Conn) error {
	raw, ok := rawConn(c)
	if !ok {
		return nil
	}
	var failure error
	_ = raw.Read(func(fd uintptr) bool {
		n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil || n == 0 {
			return false // the poller calls again when something happens
		}
		failure = syscall.Errno(n)
		return true
	})
	return failure
}
