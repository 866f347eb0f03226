package proxy

import "golang.org/x/sys/unix"

// finReceived reports whether the peer of a socket has sent FIN, whether or not what it
// had sent before has been read.
func finReceived(fd uintptr) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n > 0 && poll[0].Revents&unix.POLLRDHUP != 0
}
