package proxy

import (
	"net"

	"golang.org/x/sys/unix"
)

// unread reports whether a socket has bytes that were not read. Closing it would send
// RST to the peer, and the other side of the flow must not see a FIN then.
func unread(fd int32) bool {
	n, err := unix.IoctlGetInt(int(fd), unix.SIOCINQ)
	return err == nil && n > 0
}

// connUnread is unread for a connection of package net.
func connUnread(c net.Conn) (some bool) {
	raw, ok := rawConn(c)
	if !ok {
		return false
	}
	_ = raw.Control(func(fd uintptr) { some = unread(int32(fd)) })
	return some
}
