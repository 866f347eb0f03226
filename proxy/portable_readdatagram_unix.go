//go:build unix

package proxy

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// datagramReader returns a function that waits for a datagram and reads it into
// a buffer of the pool, which the caller gives back if there is no error. While it
// waits it holds no buffer. What the socket had no room for is added to drops.
func datagramReader(c *net.UDPConn, pool *sync.Pool, drops *atomic.Uint64) func() (buffer *[]byte, n int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return func() (*[]byte, int, error) { return nil, 0, net.ErrClosed }
	}
	var buffer *[]byte
	var n int
	var failure error
	var seen uint32          // the kernel's count of drops
	var datagrams, bytes int // since the socket was last empty
	read := func(fd uintptr) bool {
		buffer = pool.Get().(*[]byte)
		for {
			n, failure = unix.Read(int(fd), *buffer)
			if failure != syscall.EINTR {
				break
			}
		}
		if failure == nil {
			datagrams, bytes = datagrams+1, bytes+n
			return true
		}
		pool.Put(buffer)
		if mayHaveOverflowed(datagrams, bytes) {
			lookUpDrops(int32(fd), drops, &seen)
		}
		datagrams, bytes = 0, 0
		return failure != syscall.EAGAIN
	}
	return func() (*[]byte, int, error) {
		if err := raw.Read(read); err != nil {
			return nil, 0, net.ErrClosed
		}
		return buffer, n, failure
	}
}
