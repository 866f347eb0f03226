package proxy

import (
	"fmt"
	"os"
	"slices"
)

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

// portsNote says how many udp flows there are local ports for, if that is less than
// most; it is empty if not, or if none of the services is udp.
func portsNote(services []ServiceConfig, most int) string {
	if !slices.ContainsFunc(services, func(c ServiceConfig) bool { return c.IsUDP() }) {
		return ""
	}
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return "" // not Linux, or hidden: the flows that find no port are refused and counted
	}
	return fitPorts(string(text), most)
}

// fitPorts is portsNote for the text of ip_local_port_range. A socket that connects
// is bound before the kernel looks at where to: of udp, each has a port of its own,
// whatever its peer is, and both families share them.
func fitPorts(text string, most int) string {
	var first, last int
	if _, err := fmt.Sscan(text, &first, &last); err != nil || last < first || last-first+1 >= most {
		return ""
	}
	return fmt.Sprintf("udp flows at most %d (local ports %d-%d; net.ipv4.ip_local_port_range)", last-first+1, first, last)
}
