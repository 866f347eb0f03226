//go:build darwin || freebsd

package admin

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// closeToOthers: bind does not ask the socket for a mode here.
func closeToOthers(string, string, syscall.RawConn) error { return nil }

// peerUser returns the user of the process at the other end, as it was when it connected.
func peerUser(c *net.UnixConn) (uid int, err error) {
	const local = 0 // SOL_LOCAL
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Xucred
	if failed := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptXucred(int(fd), local, unix.LOCAL_PEERCRED) }); failed != nil {
		return 0, failed
	}
	if err != nil {
		return 0, err
	}
	return int(cred.Uid), nil
}
