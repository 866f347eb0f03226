package flow

import (
	"iter"
	"sync/atomic"
	"time"

	"usher/balancer"
)

// ServiceConfig describes a service. The pool stays the caller's, who may change it while
// the service runs. With another pool, clients that wait for a backend stay with the one
// that they began with.
type ServiceConfig struct {
	Name      string
	Listeners []Listener
	Pool      *balancer.Pool `cbor:"-"` // of the process
	// ConnectTimeout bounds all attempts of one flow together; it must be positive.
	ConnectTimeout time.Duration
	// IdleTimeout ends a flow that carries nothing for so long; zero is never.
	IdleTimeout time.Duration
	// ReclaimIdle lets a flow that has carried nothing for so long end when a new one
	// finds no room, the longest idle first; zero is never.
	ReclaimIdle time.Duration
	// HalfCloseTimeout is the idle timeout of a flow once the FIN of one side was
	// passed on to the other; zero is never.
	HalfCloseTimeout time.Duration
	// Wait holds a client for which no backend is left, and tries again until it
	// has passed; zero refuses at once.
	Wait time.Duration
	// WaitUp holds it until one is up: until Wait has passed it is sent to none that is
	// down or has not been checked, nor to one that has refused a client since its check
	// last passed ([balancer.Backend.CheckPassed]). It is for checks that say more than a
	// connect.
	WaitUp bool
	// QueueLength is how many clients may wait, each for QueueTimeout at the most,
	// while every backend has all the flows that it may have; zero refuses them. Not
	// for udp.
	QueueLength  int
	QueueTimeout time.Duration
	// AbortOnClose ends a client that has closed, or sent FIN, while it is held, queued or
	// waits for a backend that is slow to accept; else it is served when there is one.
	AbortOnClose bool
	// MaxAge ends a flow that has been with its backend for so long, give or take a random part of up to
	// MaxAgeJitter (0 … 1) of it; zero is never. Of udp a reply under way is lost.
	MaxAge       time.Duration
	MaxAgeJitter float64
	// Reserve is how many flows the service may have whatever the others have; zero is a
	// fair share.
	Reserve int
	// Empty says what clients get while the service has no backend. Leave it zero while it has one: with another value
	// the pool is not asked.
	Empty EmptyPolicy
	// Persist sends a client's flows to one backend.
	Persist Persist
	// Observer learns how flows went; nil is nobody.
	Observer ResultObserver `cbor:"-"`
	// Access says who may come in.
	Access AccessConfig
	// SendProxy has backends told of the client.
	SendProxy SendProxy
	// LogAccess records flows also where only those of such services are; see [Admission].
	LogAccess bool
	// CountsPackets has an engine ask the kernel for the segments of each connection, when it ends and when its bytes are
	// counted. Datagrams are always counted.
	CountsPackets bool
	// UDP is what udp listeners add. All listeners of a service are udp, or none is.
	UDP UDPConfig
}

// EmptyPolicy says what clients of a service without a backend get.
type EmptyPolicy uint8

const (
	// EmptyRefuse asks the pool: connections are reset once Wait has passed, datagrams are dropped.
	EmptyRefuse EmptyPolicy = iota
	// EmptyDrop gives no answer: clients are held as those that a rule drops, and end as [NoEndpoint].
	EmptyDrop
	// EmptyClose closes the listeners, so that the kernel refuses: connections with RST, datagrams with ICMP. The
	// service keeps its Listeners, and the addresses are free for others.
	EmptyClose

	emptyPolicies // the number of policies
)

// ResultObserver learns how backends treat flows. It is called on the data path, from any
// goroutine, and must not block.
type ResultObserver interface {
	// OnSuccess: the backend has begun to answer, or has closed a connection in good
	// order without.
	OnSuccess(*balancer.Backend)
	// OnFailure: the backend did not take the flow up, or reset it or vanished before it
	// had said anything. Flows that end in another way without an answer, because
	// the client has gone, say nothing.
	OnFailure(*balancer.Backend)
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
	// MaxFlows bounds the flows of the service; zero is no such bound.
	MaxFlows int
	// MaxClientFlows bounds those of one client address; zero is a share of what the
	// service may have, a negative number no bound.
	MaxClientFlows int
}

// Service is a running service: its identity, its counters, and one pointer to its
// config. Any goroutine may call its methods.
type Service struct {
	Name  string
	Trace *Trace // of the choices of backends; nil: nobody ever asks for them

	running   atomic.Pointer[Settings] // of new flows
	isRemoved atomic.Bool
	persisted bool // clients may be kept together; use and hasPersisted need a lock of the caller

	places, ports share        // of the server's quotas
	most          atomic.Int64 // flows that there may be
	clientMost    atomic.Int64 // of one client address; zero is any number

	accepted atomic.Uint64
	starved  atomic.Uint64
	ended    [outcomes]atomic.Uint64
	up, down atomic.Uint64      // see counted
	in, out  atomic.Uint64      // packets
	connects balancer.Histogram // from accept to a backend's; bounded by balancer.ConnectBounds
	lifetime balancer.Histogram // of flows that have ended; bounded by LifetimeBounds
	dropped  [drops]atomic.Uint64
	fellBack atomic.Uint64

	seed   uint64                       // of limits
	limits atomic.Pointer[clientLimits] // nil: no settings had any yet
	lines  atomic.Pointer[lineLimits]   // nil: nobody was refused yet
}

// Settings are a service's config and what follows from it. They never change: a new
// config makes new ones. A flow keeps those that it began with, and so its pool.
type Settings struct {
	ServiceConfig
	Service  *Service
	affinity *Affinity // nil: clients are not kept together
	queue    *queue    // of the clients that wait for the pool
	access   access
}

// NewSettings returns settings of a service. They take the queue over from those before
// if the pool stays; nil: there are none.
func NewSettings(svc *Service, c ServiceConfig, a *Affinity, before *Settings) *Settings {
	s := &Settings{ServiceConfig: c, Service: svc, access: newAccess(&c.Access)}
	s.access.isOn = s.access.isOn || c.Empty == EmptyDrop
	if c.Persist.On {
		s.affinity = a
	}
	if before != nil && before.Pool == c.Pool {
		s.queue = before.queue
	} else {
		s.queue = new(queue)
	}
	if c.Access.hasLimits() {
		svc.needLimits() // of settings that are restored, too, which may not be the service's any more
	}
	return s
}

// NewService returns a service that nobody has yet. The seed keeps clients from choosing which
// of them share a place in its tables.
func NewService(name string, seed uint64) *Service { return &Service{Name: name, seed: seed} }

// SetSettings has new flows get these settings. One goroutine at a time may call it.
func (s *Service) SetSettings(c *Settings) {
	s.running.Store(c)
	s.persisted = s.persisted || c.Persist.On
}

// needLimits makes the state of limits if there is none.
func (s *Service) needLimits() {
	if s.limits.Load() == nil {
		s.limits.CompareAndSwap(nil, newClientLimits(s.seed))
	}
}

// HasPersisted reports whether clients of the service may be kept together.
func (s *Service) HasPersisted() bool { return s.persisted }

// MarkRemoved has no client wait for a backend any more.
func (s *Service) MarkRemoved() { s.isRemoved.Store(true) }

// IsRemoved reports whether the server has the service no more.
func (s *Service) IsRemoved() bool { return s.isRemoved.Load() }

// WakeQueue has all clients in the queue look for a backend, or be turned away.
func (s *Service) WakeQueue() { s.Settings().queue.callAll() }

// Queued returns how many clients wait in the queue.
func (s *Service) Queued() int64 { return s.Settings().queue.n.Load() }

// Settings returns what new flows of the service get.
func (s *Service) Settings() *Settings { return s.running.Load() }

// Config returns the present config, with the ports that the kernel chose.
func (s *Service) Config() *ServiceConfig { return &s.running.Load().ServiceConfig }

// Drop says why a datagram was not passed on.
type Drop uint8

const (
	// DropRefused: no flow could be had for it, or its backend was not there.
	DropRefused Drop = iota
	// DropFull: the socket to send it by was full.
	DropFull
	// DropOversized: it is larger than the way to the other side allows (EMSGSIZE).
	DropOversized
	// DropKernel: the listening socket's receive buffer was full.
	DropKernel
	// DropReplies: the receive buffer of a flow's socket was full, of what its backend sent.
	DropReplies

	drops // the number of reasons
)

var dropNames = [drops]string{"refused", "full", "oversized", "kernel", "kernel-replies"}

// Drops yields all reasons.
func Drops() iter.Seq[Drop] {
	return func(yield func(Drop) bool) {
		for d := Drop(0); d < drops && yield(d); d++ {
		}
	}
}

// String returns the reason in one word.
func (d Drop) String() string { return dropNames[d] }

// IsUDP reports whether new flows of the service are of datagrams.
func (s *Service) IsUDP() bool { return s.Config().IsUDP() }

// IsUDP reports whether the service carries datagrams.
func (c *ServiceConfig) IsUDP() bool { return len(c.Listeners) > 0 && c.Listeners[0].Network == "udp" }

// MergesDatagrams reports whether the kernel may put several datagrams of a client together:
// not where each is scheduled by itself, or may begin with a PROXY header.
func (c *ServiceConfig) MergesDatagrams() bool {
	return !c.UDP.OnePacket && len(c.Access.AcceptProxy) == 0
}

// FellBack returns how many sockets had to do without UDP_SEGMENT after it failed
// on their way. Their datagrams leave one by one.
func (s *Service) FellBack() uint64 { return s.fellBack.Load() }

// Dropped returns how many datagrams were not passed on for the reason.
func (s *Service) Dropped(d Drop) uint64 { return s.dropped[d].Load() }

// CountDrop counts datagrams that were not passed on.
func (s *Service) CountDrop(why Drop, datagrams int) { s.dropped[why].Add(uint64(datagrams)) }

// DropCounter is where the kernel's own count of drops is added up.
func (s *Service) DropCounter(why Drop) *atomic.Uint64 { return &s.dropped[why] }

// CountFallBack counts a socket that has to do without UDP_SEGMENT.
func (s *Service) CountFallBack() { s.fellBack.Add(1) }

// CountShortage counts a pause for want of resources.
func (s *Service) CountShortage() { s.starved.Add(1) }

// Active returns the number of flows at present.
func (s *Service) Active() int64 { return s.places.flows() }

// Accepted returns the number of clients accepted so far.
func (s *Service) Accepted() uint64 { return s.accepted.Load() }

// Starved returns how often a listener had to pause for want of descriptors, or a
// udp flow was refused a socket for want of descriptors, memory or local ports.
func (s *Service) Starved() uint64 { return s.starved.Load() }

// Ended returns how many flows ended in the given way.
func (s *Service) Ended(o Outcome) uint64 { return s.ended[o].Load() }

// Bytes returns the bytes carried up and down. Those of running flows are in it as far as
// they were counted; an engine does so when its server is asked to.
func (s *Service) Bytes() (up, down uint64) { return s.up.Load(), s.down.Load() }

// Packets returns the packets from and to clients, as Bytes does: datagrams, and segments of connections that began with
// CountsPackets.
func (s *Service) Packets() (in, out uint64) { return s.in.Load(), s.out.Load() }

// Failed returns how many flows ended without having been served.
func (s *Service) Failed() (n uint64) {
	for o := range s.ended {
		if Outcome(o).IsFailure() {
			n += s.ended[o].Load()
		}
	}
	return n
}

// Connects returns how long clients waited from accept until a backend had accepted.
func (s *Service) Connects() balancer.HistogramCounts { return s.connects.Counts() }

// Lifetimes returns how long flows lasted that have ended.
func (s *Service) Lifetimes() balancer.HistogramCounts { return s.lifetime.Counts() }
