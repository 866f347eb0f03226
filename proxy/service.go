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
	// Network is "tcp", "unix" or "udp".
	Network string
	// Addr is the first address of a tcp or udp listener. The unspecified IPv6 address
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
	if l.Network == "udp" {
		host = "udp://" + host
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
	// QueueLength is how many clients may wait, each for QueueTimeout at the most,
	// while every backend has all the flows that it may have; zero refuses them. Not
	// for udp.
	QueueLength  int
	QueueTimeout time.Duration
	// MaxAge ends a flow that has been with its backend for so long, give or take a random part of up to
	// MaxAgeJitter (0 … 1) of it; zero is never. Of udp a reply under way is lost.
	MaxAge       time.Duration
	MaxAgeJitter float64
	// Persist sends a client's flows to one backend.
	Persist Persist
	// Witness is told how flows went; nil is nobody.
	Witness Witness
	// UDP is what udp listeners add. All listeners of a service are udp, or none is.
	UDP UDPConfig
}

// Witness is told how backends treat flows. It is called on the data path, from any
// goroutine, and must not block.
type Witness interface {
	// Success: the backend has begun to answer, or has closed a connection in good
	// order without.
	Success(*balancer.Backend)
	// Failure: the backend did not take the flow up, or reset it or vanished before it
	// had said anything. Flows that end in another way without an answer, because
	// the client has gone, say nothing.
	Failure(*balancer.Backend)
}

// UDPConfig describes what is a flow of datagrams, and how long it is one.
type UDPConfig struct {
	// IdleTimeout ends a flow that carries nothing for so long; it must be positive.
	IdleTimeout time.Duration
	// UnrepliedTimeout is the same for a flow that no reply has been seen on; zero
	// or more than IdleTimeout means IdleTimeout.
	UnrepliedTimeout time.Duration
	// Replies ends a flow after so many replies to each of its client's datagrams;
	// zero does not count them.
	Replies int
	// OnePacket schedules every datagram anew.
	OnePacket bool
	// MaxFlows bounds the flows of the service, MaxClientFlows those of one client
	// address; zero is no such bound.
	MaxFlows, MaxClientFlows int
}

// Service is a running service: its settings, which are not to be changed any
// more, its pool and its counters. All methods may be called by any goroutine.
type Service struct {
	ServiceConfig

	learns   bool      // Pool.Observe has an effect
	follows  bool      // the scheduler or the witness wants to know of answers
	located  bool      // choices depend on the very address that the client asked for
	affinity *affinity // nil: clients are not kept together
	queue    queue

	active   atomic.Int64
	accepted atomic.Uint64
	starved  atomic.Uint64
	ended    [outcomes]atomic.Uint64
	up, down atomic.Uint64 // of flows that have ended
	dropped  [drops]atomic.Uint64
	fellBack atomic.Uint64
}

// Drop says why a datagram was not passed on.
type Drop uint8

const (
	// DropRefused: no flow could be had for it, or its backend was not there.
	DropRefused Drop = iota
	// DropFull: the socket to send it by was full.
	DropFull
	// DropOversized: it is larger than the way to the other side allows (EMSGSIZE).
	DropOversized
	// DropKernel: the listening socket's receive buffer was full (SO_RXQ_OVFL).
	DropKernel

	drops // the number of reasons
)

var dropNames = [drops]string{"refused", "full", "oversized", "kernel"}

// String returns the reason in one word.
func (d Drop) String() string { return dropNames[d] }

// IsUDP reports whether the service carries datagrams.
func (c *ServiceConfig) IsUDP() bool { return len(c.Listeners) > 0 && c.Listeners[0].Network == "udp" }

// FellBack returns how many sockets had to do without UDP_SEGMENT after it failed
// on their way. Their datagrams leave one by one.
func (s *Service) FellBack() uint64 { return s.fellBack.Load() }

// Dropped returns how many datagrams were not passed on for the reason.
func (s *Service) Dropped(d Drop) uint64 { return s.dropped[d].Load() }

// Active returns the number of flows at present.
func (s *Service) Active() int64 { return s.active.Load() }

// Accepted returns the number of clients accepted so far.
func (s *Service) Accepted() uint64 { return s.accepted.Load() }

// Starved returns how often a listener had to pause for want of descriptors, or a
// udp flow was refused a socket for want of descriptors, memory or local ports.
func (s *Service) Starved() uint64 { return s.starved.Load() }

// Ended returns how many flows ended in the given way.
func (s *Service) Ended(o Outcome) uint64 { return s.ended[o].Load() }

// Bytes returns the bytes carried up and down by flows that have ended.
// What running flows have carried is in their rows of the connection table.
func (s *Service) Bytes() (up, down uint64) { return s.up.Load(), s.down.Load() }
