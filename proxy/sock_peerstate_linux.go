package proxy

import (
	"net"
	"time"

	"golang.org/x/sys/unix"

	"usher/proxy/flow"
)

// readPeerState asks the kernel for the state of a socket's peer.
func readPeerState(fd int32, info *unix.TCPInfo) flow.PeerState {
	if tcpInfo(fd, info) != noError {
		return readUnixPeerState(fd)
	}
	p := flow.PeerState{
		HasFinished: hasReceivedFIN(info.State),
		HasTimedOut: hasTimedOut(info),
		Silent:      time.Duration(info.Last_ack_recv) * time.Millisecond,
	}
	if info.Unacked > 0 || info.Notsent_bytes > 0 {
		p.Unacked = outQueue(fd)
	}
	return p
}

// readUnixPeerState is readPeerState for a unix socket: what its peer has not read counts
// as not acknowledged, and when it last read is not known.
func readUnixPeerState(fd int32) flow.PeerState {
	p := flow.PeerState{Unacked: outQueue(fd)}
	if p.Unacked == 0 {
		p.Silent = flow.NeverHeard
	}
	return p
}

// outQueue returns how much a socket has sent that its peer has not acknowledged.
func outQueue(fd int32) int {
	n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}

// The states of a TCP socket that have received a FIN, from the kernel's tcp_states.h.
const (
	tcpTimeWait  = 6
	tcpCloseWait = 8
	tcpLastAck   = 9
	tcpClosing   = 11
)

func hasReceivedFIN(state uint8) bool {
	return state == tcpCloseWait || state == tcpLastAck || state == tcpClosing || state == tcpTimeWait
}

// hasTimedOut reports whether a peer is gone while bytes are on their way to it.
// Keepalive does not run then, and retransmission would go on for a quarter of an hour.
// TCP_USER_TIMEOUT would end it sooner, but a paused reader, whose window is closed, as
// well.
func hasTimedOut(info *unix.TCPInfo) bool {
	silent := time.Duration(info.Last_ack_recv)*time.Millisecond >= flow.GoneAfter
	return silent && (info.Retransmits > 0 || info.Probes >= flow.GoneProbes)
}

// connPeerState is readPeerState for a connection of package net.
func connPeerState(c net.Conn) (p flow.PeerState) {
	p.Silent = flow.NeverHeard
	raw, ok := rawConn(c)
	if !ok {
		return p
	}
	_ = raw.Control(func(fd uintptr) {
		var info unix.TCPInfo
		p = readPeerState(int32(fd), &info)
	})
	return p
}

// measureConn sets what the kernel knows of a client's connection.
func measureConn(c net.Conn, s *Sockets) {
	if raw, ok := rawConn(c); ok {
		_ = raw.Control(func(fd uintptr) {
			var info unix.TCPInfo
			if tcpInfo(int32(fd), &info) == noError {
				setInfo(s, &info)
			}
		})
	}
}

// setInfo sets what the kernel has told.
func setInfo(s *Sockets, i *unix.TCPInfo) {
	s.RTT = time.Duration(i.Rtt) * time.Microsecond
	s.SegmentsIn, s.SegmentsOut = uint64(i.Segs_in), uint64(i.Segs_out)
}
