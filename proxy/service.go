package proxy

import (
	"fmt"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"usher/balancer"
)

// Listener is where a service accepts.
type Listener struct {
	// Network is "tcp" or "unix".
	Network string
	// Addr is the first address of a tcp listener. The unspecified IPv6 address
	// stands for all addresses of both families. Port 0 lets the kernel choose.
	Addr netip.AddrPort
	// Ports is the number of consecutive ports from Addr.Port(); zero means one.
	Ports int
	// Path is the file of a unix listener.
	Path string
}

// String returns the listener in the form that the command line takes.
func (l Listener) String() string {
	if l.Network == "unix" {
		return "unix://" + l.Path
	}
	host := l.Addr.Addr().String()
	switch {
	case l.Addr.Addr() == netip.IPv6Unspecified():
		host = ""
	case l.Addr.Addr().Is6():
		host = "[" + host + "]"
	}
	first := strconv.Itoa(int(l.Addr.Port()))
	if l.Ports > 1 {
		return fmt.Sprintf("%s:%s-%d", host, first, int(l.Addr.Port())+l.Ports-1)
	}
	return host + ":" + first
}

// count is the number of sockets that the listener stands for.
func (l Listener) count() int { return max(l.Ports, 1) }

// at returns the listener's address number i.
func (l Listener) at(i int) netip.AddrPort {
	if l.Network == "unix" {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(l.Addr.Addr(), l.Addr.Port()+uint16(i))
}

// ServiceConfig describes a service. The pool stays the caller's: health and
// discovery change it while the service runs.
type ServiceConfig struct {
	Name      string
	Listeners []Listener
	Pool      *balancer.Pool
	// ConnectTimeout bounds all attempts of one flow together; it must be positive.
	ConnectTimeout time.Duration
	// IdleTimeout ends a flow that carries nothing for so long; zero is never.
	IdleTimeout time.Duration
	// HalfCloseTimeout is the idle timeout of a flow once the FIN of one side was
	// passed on to the other; zero is never.
	HalfCloseTimeout time.Duration
	// Wait holds a client for which no backend is left, and tries again until it
	// has passed; zero refuses at once.
	Wait time.Duration
}

// Service is a running service: its settings, which are not to be changed any
// more, its pool and its counters. All methods may be called by any goroutine.
type Service struct {
	ServiceConfig

	active   atomic.Int64
	accepted atomic.Uint64
	starved  atomic.Uint64
	ended    [outcomes]atomic.Uint64
	up, down atomic.Uint64 // of flows that have ended
}

// Active returns the number of flows at present.
func (s *Service) Active() int64 { return s.active.Load() }

// Accepted returns the number of clients accepted so far.
func (s *Service) Accepted() uint64 { return s.accepted.Load() }

// Starved returns how often a listener had to pause for want of descriptors.
func (s *Service) Starved() uint64 { return s.starved.Load() }

// Ended returns how many flows ended in the given way.
func (s *Service) Ended(o Outcome) uint64 { return s.ended[o].Load() }

// Bytes returns the bytes carried up and down by flows that have ended.
// What running flows have carried is in their rows of the connection table.
func (s *Service) Bytes() (up, down uint64) { return s.up.Load(), s.down.Load() }
