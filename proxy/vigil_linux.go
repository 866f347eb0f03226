package proxy

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// vanished reports whether the peer of a socket is gone while bytes are on their
// way to it. Keepalive does not run then, and retransmission would go on for a
// quarter of an hour. TCP_USER_TIMEOUT would end it sooner, but a paused reader,
// whose window is closed, as well.
func vanished(fd int32, info *unix.TCPInfo) bool {
	if tcpInfo(fd, info) != noError {
		return false // a unix socket
	}
	silent := time.Duration(info.Last_ack_recv)*time.Millisecond >= goneAfter
	return silent && (info.Retransmits > 0 || info.Probes >= goneProbes)
}

// connVanished is vanished for a connection of package net.
func connVanished(c net.Conn) (gone bool) {
	raw, ok := rawConn(c)
	if !ok {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		var info unix.TCPInfo
		gone = vanished(int32(fd), &info)
	})
	return gone
}
