package flow

import "time"

// PeerState is what the kernel knows of the peer of one socket.
type PeerState struct {
	HasFinished bool          // its FIN has been received, if maybe not read yet
	HasTimedOut bool          // it is silent though bytes are on their way to it
	Unacked     int           // bytes sent that it has not acknowledged, a FIN counts as one
	Silent      time.Duration // since it last acknowledged anything; see neverHeard
}

// NeverHeard is the silence of a peer of which nothing is known.
const NeverHeard = time.Duration(1) << 62
