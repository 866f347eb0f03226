//go:build !unix

package proxy

import (
	"net"
	"sync"
	"sync/atomic"
)

// datagramReader returns a function that reads a datagram into a buffer of the
// pool, which the caller gives back if there is no error.
func datagramReader(c *net.UDPConn, pool *sync.Pool, _ *atomic.Uint64) func() (buffer *[]byte, n int, err error) {
	return func() (*[]byte, int, error) {
		buffer := pool.Get().(*[]byte)
		n, err := c.Read(*buffer)
		if err != nil {
			pool.Put(buffer)
		}
		return buffer, n, err
	}
}
