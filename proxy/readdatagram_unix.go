//go:build unix

package proxy

import (
	"errors"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// datagramReader returns a function that waits for a datagram and reads it into
// a buffer of the pool, which the caller gives back if there is no error. While it
// waits it holds no buffer.
func datagramReader(c *net.UDPConn, pool *sync.Pool) func() (buffer *[]byte, n int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return func() (*[]byte, int, error) { return nil, 0, net.ErrClosed }
	}
	var buffer *[]byte
	var n int
	var failure error
	read := func(fd uintptr) bool {
		buffer = pool.Get().(*[]byte)
		for {
			n, failure = unix.Read(int(fd), *buffer)
			if failure != syscall.EINTR {
				break
			}
		}
		if failure != nil {
			pool.Put(buffer)
		}
		return failure != syscall.EAGAIN
	}
	return func() (*[]byte, int, error) {
		if err := raw.Read(read); err != nil {
			return nil, 0, net.ErrClosed
		}
		return buffer, n, failure
	}
}

// isUnreachable reports whether an error of a connected socket says that the peer
// is not there: nobody listens, or a firewall or router refuses.
func isUnreachable(err error) bool {
	for _, e := range []error{syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENOPROTOOPT, syscall.EACCES} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
