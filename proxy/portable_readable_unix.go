//go:build unix

package proxy

import (
	"net"

	"golang.org/x/sys/unix"
)

// appendReadable appends what can be read of a connection without waiting. An end or an error
// is left to the next read.
func appendReadable(b []byte, c net.Conn) []byte {
	raw, ok := rawConn(c)
	if !ok {
		return b
	}
	var buffer [smallBuffer]byte
	_ = raw.Control(func(fd uintptr) {
		if n, _, err := unix.Recvfrom(int(fd), buffer[:], unix.MSG_DONTWAIT); err == nil {
			b = append(b, buffer[:n]...)
		}
	})
	return b
}
