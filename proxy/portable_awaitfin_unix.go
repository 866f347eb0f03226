//go:build unix && !linux

package proxy

import "golang.org/x/sys/unix"

// finReceived reports whether the peer of a socket has sent FIN and nothing before it that
// is not read yet: there is no other way to ask.
func finReceived(fd uintptr) bool {
	n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK)
	return err == nil && n == 0
}
