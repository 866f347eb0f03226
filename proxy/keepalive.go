package proxy

import "time"

// Keepalive towards both sides: an idle peer that vanished is noticed after
// keepaliveIdle + keepaliveProbes × keepaliveInterval.
const (
	keepaliveIdle     = 30 * time.Second
	keepaliveInterval = 10 * time.Second
	keepaliveProbes   = 3

	// goneAfter is how long a peer with bytes on their way to it must have been
	// silent to count as gone: as long as keepalive gives an idle one.
	goneAfter = keepaliveIdle + keepaliveProbes*keepaliveInterval
	// goneProbes is how many probes of a closed window must have gone unanswered.
	// A paused reader answers each of them.
	goneProbes = keepaliveProbes
)
