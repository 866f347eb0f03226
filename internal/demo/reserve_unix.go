//go:build unix

package demo

import (
	"io"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// reserve keeps the kernel from giving a port to others. Nobody listens on it: clients
// are refused.
func reserve(addr netip.AddrPort) (io.Closer, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, err
	}
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "reserved port")
	// Connections of before may be in TIME_WAIT.
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()})
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
