// Package load drives a proxy from both sides. It is the clients and the backends, in
// one thread over one epoll. Sharing the thread keeps the generator light enough to
// load a proxy that has another core for itself. Clients and backends never wait for
// each other's turn of the scheduler. Datagrams are read and written in batches for
// the same reason.
//
// What a client does and what its backend answers is a [Kind]. The generator allocates
// nothing per event, and it never blocks except in one epoll wait.
//
// It runs on Linux only; elsewhere [New] returns an error.
package load

import (
	"fmt"
	"net/netip"
	"time"
)

// Kind says what the clients do.
type Kind string

const (
	// CRR connects, sends one request, reads the whole reply and closes,
	// over and over. One unit is one reply.
	CRR Kind = "crr"
	// PingPong sends the next request on the same connection as soon as it
	// has the reply to the one before. One unit is one reply.
	PingPong Kind = "pingpong"
	// BulkUp sends as fast as the connection takes it. One unit is one byte
	// that the backend has read.
	BulkUp Kind = "bulk-up"
	// BulkDown reads as fast as it can what the backend sends. One unit is
	// one byte that the client has read.
	BulkDown Kind = "bulk-down"
	// Idle opens all connections, each of which passes one request and its
	// reply, and holds them. One unit is one connection.
	Idle Kind = "idle"
	// UDP keeps Window requests, a datagram each, in flight on every socket.
	// One unit is one reply.
	UDP Kind = "udp"
	// UDPIdle opens all sockets, each of which passes one datagram there and
	// back, and holds them. One unit is one socket, to the proxy a flow.
	UDPIdle Kind = "udp-idle"
)

// Network is the clients' network: "tcp" or "udp".
func (k Kind) Network() string {
	if k.isUDP() {
		return "udp"
	}
	return "tcp"
}

// IsIdle reports whether the clients are idle in the measured time, so that memory is
// the cost.
func (k Kind) IsIdle() bool { return k == Idle || k == UDPIdle }

func (k Kind) isUDP() bool { return k == UDP || k == UDPIdle }

// Patience is how long a UDP client waits for a reply before it sends the request
// again. It is far above the time that a proxy needs for all that is in flight. A
// later reply is neither a loss nor a unit of work: the machine was busy.
const Patience = 250 * time.Millisecond

// Config describes a run. Every field must be set, except for Warmup, Window, Pace and Denied.
type Config struct {
	Kind   Kind
	Conns  int // clients at a time
	Window int // requests in flight on each socket; UDP only
	Size   int // bytes of a request, of its reply and of one bulk write

	Warmup   time.Duration // before the measured time; what holds has a warm-up of its own
	Duration time.Duration // the measured time, or how long to hold

	// Sources are the IPv4 addresses that clients bind in turn. One address
	// has some 28,000 ports towards one listener, and a port rests in
	// TIME_WAIT after the client has closed.
	Sources []netip.Addr
	// Backends are the IPv4 addresses that backends listen on, all at one port. These
	// ports are the proxy's own, for the same reason.
	Backends []netip.Addr

	// Pace has a client of CRR begin at each such time, whether or not those before it are
	// done, while fewer than Conns wait. Zero: one begins when another one ends.
	Pace time.Duration
	// Denied are source addresses of clients that the proxy lets not in: see Flood. They
	// need a pace.
	Denied []netip.Addr
}

// Result is what the clients measured.
type Result struct {
	Elapsed time.Duration
	Units   int64 // see Kind

	// Time from the request (CRR: from the connect) to the end of the reply.
	// Zero for bulk. A request that was lost is in none of them.
	P50, P99 time.Duration

	// Lost counts UDP requests without a reply. Each was sent again after Patience, so
	// the window was full again.
	Lost int64

	// Flooded counts the connects of denied clients.
	Flooded int64

	// Errors counts CRR connections that did not get their reply; each was
	// followed by another. The other kinds end at their first error.
	Errors int64
	Error  string // the first of them
}

// check returns the first error in c, if any.
func (c *Config) check() error {
	switch c.Kind {
	case CRR, PingPong, BulkUp, BulkDown, Idle, UDP, UDPIdle:
	default:
		return fmt.Errorf("unknown kind of load %q", c.Kind)
	}
	if c.Conns < 1 || c.Duration <= 0 || c.Warmup < 0 {
		return fmt.Errorf("%s: connections and duration must be positive", c.Kind)
	}
	if c.Size < 1 || c.Size > maxSize {
		return fmt.Errorf("%s: size %d is not within 1 and %d bytes", c.Kind, c.Size, maxSize)
	}
	switch {
	case c.Kind.isUDP() && (c.Size < stampSize || c.Size > maxDatagram):
		return fmt.Errorf("%s: a datagram of %d bytes is not within %d and %d", c.Kind, c.Size, stampSize, maxDatagram)
	case !c.Kind.isUDP() && !c.Kind.IsBulk() && c.Size > maxMessage:
		return fmt.Errorf("%s: a request of %d bytes is above %d", c.Kind, c.Size, maxMessage)
	case c.Kind == UDP && (c.Window < 1 || c.Window > maxWindow):
		return fmt.Errorf("%s: a window of %d is not within 1 and %d", c.Kind, c.Window, maxWindow)
	case c.Kind != UDP && c.Window != 0:
		return fmt.Errorf("%s: has no window", c.Kind)
	case c.Pace < 0 || c.Pace > 0 && c.Kind != CRR:
		return fmt.Errorf("%s: has no pace of %s", c.Kind, c.Pace)
	case c.Pace == 0 && len(c.Denied) > 0:
		return fmt.Errorf("%s: denied clients need a pace", c.Kind)
	case len(c.Sources) == 0 || len(c.Backends) == 0:
		return fmt.Errorf("%s: needs sources and backends", c.Kind)
	}
	for _, list := range [][]netip.Addr{c.Sources, c.Backends, c.Denied} {
		for _, a := range list {
			if !a.Is4() {
				return fmt.Errorf("%s: address %s is not IPv4", c.Kind, a)
			}
		}
	}
	return nil
}

const (
	maxSize = 1 << 20
	// maxMessage is small enough that an empty socket buffer always takes a whole
	// message. So a short write is an error, not a state.
	maxMessage = 16 << 10
	// maxDatagram is the largest payload of UDP over IPv4.
	maxDatagram = 65507
	maxWindow   = 1024
	// stampSize is the length of the stamp that identifies a request.
	stampSize = 12
)

// IsBulk reports whether the unit is a byte, without a latency.
func (k Kind) IsBulk() bool { return k == BulkUp || k == BulkDown }
