package proxy

import "fmt"

const (
	// descriptorsPerFlow is one socket to the client and one to the backend.
	descriptorsPerFlow = 2
	// descriptorsReserved stays for what is neither a listener nor a flow: standard
	// streams, event loops, health checks, name look-ups, log files.
	descriptorsReserved = 320
	// pipesPerWorker bounds the pipes that one loop may own, two descriptors each.
	pipesPerWorker = 64
	// defaultMaxConns applies where the descriptor limit is unknown or larger.
	defaultMaxConns = 1 << 20
)

// deriveMaxConns says how many flows fit into the process's descriptor limit
// beside its listening sockets, after raising the soft limit to the hard one.
// wanted bounds the result from above; zero asks for as many as fit. The note
// says where the number comes from.
func deriveMaxConns(wanted, listening, workers int) (n int, note string) {
	return fitConns(raiseDescriptorLimit(), wanted, listening, workers)
}

// fitConns is deriveMaxConns for a given limit; zero is unknown.
func fitConns(limit, wanted, listening, workers int) (n int, note string) {
	if limit <= 0 {
		if wanted > 0 {
			return wanted, fmt.Sprintf("max-conns %d", wanted)
		}
		return defaultMaxConns, fmt.Sprintf("max-conns %d (no descriptor limit known)", defaultMaxConns)
	}
	// With a small limit, what is not a flow must not take most of it.
	pipes := min(2*pipesPerWorker*workers, limit/8)
	reserved := min(descriptorsReserved, limit/4)
	fit := min((limit-listening-reserved-pipes)/descriptorsPerFlow, defaultMaxConns)
	switch {
	case fit <= 0:
		return 0, fmt.Sprintf("%d descriptors are too few for %d listening sockets and %d for other needs (ulimit -n raises it)",
			limit, listening, reserved+pipes)
	case wanted > fit:
		return fit, fmt.Sprintf("max-conns %d (%d asked for, but the limit of %d descriptors allows no more)", fit, wanted, limit)
	case wanted > 0:
		return wanted, fmt.Sprintf("max-conns %d", wanted)
	default:
		return fit, fmt.Sprintf("max-conns %d (from the limit of %d descriptors)", fit, limit)
	}
}
