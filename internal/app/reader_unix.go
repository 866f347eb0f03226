//go:build unix

package app

import (
	"os"

	"golang.org/x/sys/unix"
)

// hasNoReader reports whether the pipe that f writes to has no reader. Linux reports that as an error, the BSDs as a hangup.
func hasNoReader(f *os.File) bool {
	c, err := f.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	_ = c.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(p, 0)
		gone = err == nil && n > 0 && p[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
	})
	return gone
}
