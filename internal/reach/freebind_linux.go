package reach

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// setFreebind lets a socket have an address that the host has not. It needs no privilege, and works for both families.
func setFreebind(_, _ string, conn syscall.RawConn) error {
	var err error
	if failed := conn.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1)
	}); failed != nil {
		return failed
	}
	return err
}
