//go:build unix

package proxy

import (
	"net"
	"syscall"
)

// rawConn gives access to the descriptor of a connection of package net, which stays
// its own. It is false for one without, and for one that is closed.
func rawConn(c net.Conn) (raw syscall.RawConn, ok bool) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil, false
	}
	raw, err := sc.SyscallConn()
	return raw, err == nil
}
