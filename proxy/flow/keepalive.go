package flow

import "time"

// Keepalive towards both sides: an idle peer that vanished is noticed after
// keepaliveIdle + keepaliveProbes × keepaliveInterval.
const (
	KeepaliveIdle     = 30 * time.Second
	KeepaliveInterval = 10 * time.Second
	KeepaliveProbes   = 3

	// goneAfter is how long a peer with bytes on their way to it must have been
	// silent to count as gone: as long as keepalive gives an idle one.
	GoneAfter = KeepaliveIdle + KeepaliveProbes*KeepaliveInterval
	// goneProbes is how many probes of a closed window must have gone unanswered.
	// A paused reader answers each of them.
	GoneProbes = KeepaliveProbes
)
