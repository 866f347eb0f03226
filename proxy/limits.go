package proxy

import (
	"fmt"
	"os"
	"time"
)

const (
	// descriptorsPerFlow is one socket to the client and one to the backend.
	descriptorsPerFlow = 2
	// descriptorsOther are set aside for standard streams, log files, the runtime's poller,
	// name look-ups (24 with two sockets each) and the client that is being turned away.
	descriptorsOther = 64
	// descriptorsPerLoop are an epoll instance and an eventfd.
	descriptorsPerLoop = 2
	// descriptorsPerPipe are its two ends.
	descriptorsPerPipe = 2
	// pipesPerWorker bounds the pipes of one event loop where descriptors abound.
	pipesPerWorker = 64
	// checksAtOnce bounds the health checks under way, one descriptor each.
	checksAtOnce = 256
	// smallLimitShare: with a small limit, checks, pipes and the rest get at most one part
	// in so many of it each, so that flows keep the greater part.
	smallLimitShare = 8
	// acceptPause is how long no client is accepted when descriptors have run out.
	acceptPause = 100 * time.Millisecond
	// defaultMaxConns applies where the descriptor limit is unknown or larger.
	defaultMaxConns = 1 << 20
)

// budget shares out the process's descriptor limit. Every owner keeps to its part, so
// that as many flows as are announced can be served.
type budget struct {
	flows int    // at most
	pipes int    // that each worker may own
	note  string // where flows comes from

	lacking int // descriptors, if there are no flows
}

// consumers are what takes descriptors beside flows.
type consumers struct {
	listening int // sockets
	workers   int
	pipes     int // that each worker makes use of
}

// ChecksAtOnce returns how many health checks may be under way: as many as descriptors
// are set aside for.
func ChecksAtOnce() int { return checksWithin(raiseDescriptorLimit()) }

func checksWithin(limit int) int {
	if limit <= 0 {
		return checksAtOnce
	}
	return max(min(checksAtOnce, limit/smallLimitShare), 1)
}

// shareDescriptors says how many flows and pipes fit into the process's descriptor limit,
// after raising the soft limit to the hard one. wanted bounds the flows from above; zero
// asks for as many as fit.
func shareDescriptors(wanted int, c consumers) budget {
	return shareLimit(raiseDescriptorLimit(), wanted, c)
}

// shareLimit is shareDescriptors for a given limit; zero is unknown.
func shareLimit(limit, wanted int, c consumers) budget {
	if limit <= 0 {
		if wanted > 0 {
			return budget{flows: wanted, pipes: c.pipes, note: fmt.Sprintf("max-conns %d", wanted)}
		}
		return budget{flows: defaultMaxConns, pipes: c.pipes, note: fmt.Sprintf("max-conns %d (no descriptor limit known)", defaultMaxConns)}
	}
	share := limit / smallLimitShare
	pipes := min(c.pipes, share/(descriptorsPerPipe*c.workers))
	reserved := checksWithin(limit) + min(descriptorsOther, share) + descriptorsPerLoop*c.workers
	inPipes := pipes * descriptorsPerPipe * c.workers
	fit := min((limit-c.listening-reserved-inPipes)/descriptorsPerFlow, defaultMaxConns)
	b := budget{flows: fit, pipes: pipes}
	switch {
	case fit <= 0:
		b.flows, b.lacking = 0, c.listening+reserved+inPipes+descriptorsPerFlow-limit
		b.note = fmt.Sprintf("%d descriptors are too few for %d listening sockets and %d for other needs (ulimit -n raises it)",
			limit, c.listening, reserved+inPipes)
	case wanted > fit:
		b.note = fmt.Sprintf("max-conns %d (%d asked for, but the limit of %d descriptors allows no more: %d listen, %d are for pipes, %d for checks and the rest)",
			fit, wanted, limit, c.listening, inPipes, reserved)
	case wanted > 0:
		b.flows, b.note = wanted, fmt.Sprintf("max-conns %d", wanted)
	default:
		b.note = fmt.Sprintf("max-conns %d (from the limit of %d descriptors: %d listen, %d are for pipes, %d for checks and the rest)",
			fit, limit, c.listening, inPipes, reserved)
	}
	return b
}

// localPorts says how many udp flows there are local ports for, if that is less than
// most. It is zero if not, or unknown, else the note says where the number comes from.
func localPorts(most int) (n int, note string) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0, "" // not Linux, or hidden: the flows that find no port are refused and counted
	}
	return fitPorts(string(text), most)
}

// fitPorts is localPorts for the text of ip_local_port_range. A socket that connects
// is bound before the kernel looks at where to: of udp, each has a port of its own,
// whatever its peer is, and both families share them. A sixteenth is left to name
// look-ups, to checks, and to the rest of the machine.
func fitPorts(text string, most int) (n int, note string) {
	var first, last int
	if _, err := fmt.Sscan(text, &first, &last); err != nil || last < first {
		return 0, ""
	}
	ports := last - first + 1
	if n = max(ports-ports/16, 1); n >= most {
		return 0, ""
	}
	return n, fmt.Sprintf("udp flows at most %d (of local ports %d-%d; net.ipv4.ip_local_port_range)", n, first, last)
}
