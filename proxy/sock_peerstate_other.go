//go:build !linux

package proxy

import (
	"net"

	"usher/proxy/flow"
)

// connPeerState: what the kernel knows of a peer cannot be asked here. Retransmission
// gives up in the system's own time, and progress is what a write was accepted of.
func connPeerState(net.Conn) flow.PeerState { return flow.PeerState{Silent: flow.NeverHeard} }

// measureConn: what the kernel knows of a connection cannot be asked here.
func measureConn(net.Conn, *Sockets) {}
