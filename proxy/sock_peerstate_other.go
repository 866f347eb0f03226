//go:build !linux

package proxy

import (
	"net"
	"time"

	"usher/proxy/flow"
)

// connPeerState: what the kernel knows of a peer cannot be asked here. Retransmission
// gives up in the system's own time, and progress is what a write was accepted of.
func connPeerState(net.Conn) flow.PeerState { return flow.PeerState{Silent: flow.NeverHeard} }

// connRTT: the round trip time to a peer cannot be asked here.
func connRTT(net.Conn) time.Duration { return 0 }
