//go:build !unix

package proxy

import (
	"errors"
	"net"
	"sync"
	"syscall"
)

// datagramReader returns a function that reads a datagram into a buffer of the
// pool, which the caller gives back if there is no error.
func datagramReader(c *net.UDPConn, pool *sync.Pool) func() (buffer *[]byte, n int, err error) {
	return func() (*[]byte, int, error) {
		buffer := pool.Get().(*[]byte)
		n, err := c.Read(*buffer)
		if err != nil {
			pool.Put(buffer)
		}
		return buffer, n, err
	}
}

// wsaConnReset is how Windows tells of an ICMP port unreachable (WSAECONNRESET).
const wsaConnReset = syscall.Errno(10054)

// isUnreachable reports whether an error of a connected socket says that nobody
// listens there.
func isUnreachable(err error) bool {
	return errors.Is(err, wsaConnReset) || errors.Is(err, syscall.ECONNREFUSED)
}
