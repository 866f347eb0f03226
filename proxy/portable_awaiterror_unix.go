//go:build unix

package proxy

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// awaitError waits until a connection whose FIN has been read fails, and returns
// how; nil if it is closed here first. Reading would go on to find the FIN and
// tell nothing: a reset that follows it shows in SO_ERROR alone.
func awaitError(c net.Conn) error { return awaitEnd(c, false) }

// awaitEnd waits until a connection that nobody reads fails, and returns how; io.EOF if
// its peer sends FIN and that counts; nil if it is closed here first, or woken by a
// deadline.
func awaitEnd(c net.Conn, fin bool) error {
	raw, ok := rawConn(c)
	if !ok {
		return nil
	}
	var failure error
	_ = raw.Read(func(fd uintptr) bool {
		n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err == nil && n != 0:
			failure = syscall.Errno(n)
		case fin && finReceived(fd):
			failure = io.EOF
		default:
			return false // the poller calls again when something happens
		}
		return true
	})
	return failure
}
