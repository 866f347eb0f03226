// Package config holds the typed plan of a run: services with their listeners, backends and options, and the settings
// of the process. Sources fill it in; package flags is the command line.
//
//	NewService ─ AddListener ─ AddBackend ─ Set ─▶ Config.Complete ─▶ a checked plan
//
// Values are typed and parsed from words by ParseListener, ParseBackend, ParseHealth, and the table of options. That
// table, in options.go, has one row an option. Every error about a value is an *Error, which names the service and the
// field. Fields have the flags' names, without dashes. Nothing here is resolved, bound or running.
package config

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"usher/balancer"
	"usher/health"
)

// Config is the whole plan of a run.
type Config struct {
	Services []*Service // in the order in which they were first named; immutable once others have the plan
	Process  Process
	Rules    *Rules // nil: none
}

// Service is a named thing that clients connect to.
type Service struct {
	Name             string
	Listeners        []Addr // each has a port (0: the kernel chooses) or a path
	Backends         []Backend
	Scheduler        Scheduler        // empty: Complete chooses rr, or wrr where weights differ or change
	HashKey          balancer.HashKey // of a scheduler that hashes
	HashBalance      int              // of a scheduler that hashes: a bound on a backend's load, in percent; 0: unbounded
	Persist          Persist
	Health           Health
	Panic            int // with less than this percentage of backends up, those that are down are used too
	Eject            Eject
	SlowStart        time.Duration // how long a backend that has come up takes to get its whole weight
	MaxAge           Age
	OnDown, OnRemove TerminationPolicy
	OnDrain          TerminationPolicy // applies to flows when an agent or an operator sets drain or maint
	Agent            Agent
	Source           Source // of connections to backends and of their checks; unset: the kernel chooses
	Reserve          int    // flows that other services cannot take; 0: a fair share
	Queue            Queue
	OnEmpty          EmptyPolicy   // what clients get while it has no backend
	FailClosed       bool          // with all backends down: refuse clients (true) or try the backends anyway
	ConnectTimeout   time.Duration // budget for all attempts to reach a backend
	IdleTimeout      time.Duration // 0: never
	ReclaimIdle      time.Duration // idle for so long, a connection may end for a newcomer; 0: never
	HalfCloseTimeout time.Duration // how long one direction may outlive the other
	Wait             time.Duration // how long a client may wait while no backend is up; 0: not at all
	AbortOnClose     bool          // ends a client that closes while it waits
	Access           Access
	SendProxy        SendProxy
	SendProxyID      bool       // with a unique-id TLV
	LogAccess        bool       // each flow has a line in the log, also without the access log of the process
	UDP              UDPOptions // of a udp service; the timeouts above are of one that is not
	Virtual          []Virtual  // is only shown
}

// Virtual is an address that clients know of a service, and the listener that stands for it.
type Virtual struct {
	Type    string // ClusterIP, NodePort, LoadBalancer or ExternalIP
	Address string
	Listen  string // as Addr.HostPort writes it
}

// String returns TYPE:ADDRESS.
func (v Virtual) String() string { return v.Type + ":" + v.Address }

// UDPOptions are the options that only a udp service has: one whose listeners and backends are udp.
type UDPOptions struct {
	IdleTimeout      time.Duration
	UnrepliedTimeout time.Duration // of a flow without a reply so far; never longer than IdleTimeout
	Replies          int           // that end a flow; 0: replies are not counted
	OnePacket        bool          // every datagram is scheduled anew
	MaxFlows         int           // at once; 0: as many as the process may have
	MaxClientFlows   int           // of one client address; 0: half of the service's, or NoClientLimit
}

// EmptyPolicy says what clients get while a service has no backend in its configuration.
type EmptyPolicy string

const (
	EmptyInvalid EmptyPolicy = ""       // a service has a backend
	EmptyClose   EmptyPolicy = "close"  // its listeners are closed
	EmptyDrop    EmptyPolicy = "drop"   // no answer
	EmptyRefuse  EmptyPolicy = "refuse" // what a service gives whose backends are all unusable
)

// IsEmpty reports whether the service has no backend in its configuration, whatever names resolve to.
func (s *Service) IsEmpty() bool { return len(s.Backends) == 0 }

// String returns the canonical word, which parseEmpty reads.
func (p EmptyPolicy) String() string { return cmp.Or(string(p), "off") }

// parseEmpty reads off, close, drop or refuse.
func parseEmpty(word string) (EmptyPolicy, error) {
	word, err := oneOf("off", string(EmptyClose), string(EmptyDrop), string(EmptyRefuse))(word)
	if word == "off" {
		word = ""
	}
	return EmptyPolicy(word), err
}

// NoClientLimit lets one client address have all flows of a udp service.
const NoClientLimit = -1

// NewService returns a service without addresses, whose options are at the defaults of its network. That is UDP, or TCP,
// which includes unix sockets.
func NewService(name, network string) *Service {
	s := &Service{
		Name:             name,
		OnDown:           defaultTermination(network),
		OnRemove:         defaultTermination(network),
		OnDrain:          TerminationPolicy{How: "keep"},
		Agent:            defaultAgent(),
		Health:           defaultHealth(network),
		ConnectTimeout:   5 * time.Second,
		HalfCloseTimeout: 5 * time.Minute,
		Access:           defaultAccess(),
	}
	if network == UDP {
		s.UDP = UDPOptions{IdleTimeout: time.Minute, UnrepliedTimeout: 30 * time.Second}
	}
	return s
}

// defaultHealth is a TCP connect with the intervals of health.DefaultPolicy. For a udp service it tests whether a
// process listens, where that needs no datagram.
func defaultHealth(network string) Health {
	d := health.DefaultPolicy()
	h := Health{Kind: "tcp", Interval: d.Interval, Timeout: d.Timeout, Rise: d.Rise, Fall: d.Fall}
	if network == UDP {
		h.Kind = "auto"
	}
	return h
}

// defaultAgent has no port: backends have no agents.
func defaultAgent() Agent { return Agent{Interval: 2 * time.Second, Timeout: time.Second} }

// defaultTermination applies to flows whose backend is down or removed.
func defaultTermination(network string) TerminationPolicy {
	if network == UDP {
		return TerminationPolicy{How: "reset"}
	}
	return TerminationPolicy{How: "keep"}
}

// Clone returns a copy whose lists of addresses may be changed.
func (s *Service) Clone() *Service {
	c := *s
	c.Listeners, c.Backends, c.Virtual = slices.Clone(s.Listeners), slices.Clone(s.Backends), slices.Clone(s.Virtual)
	return &c
}

// Diff returns the fields in which two services differ: listen, virtual, backend and options, in the order of the help.
func (s *Service) Diff(other *Service) []Field {
	var fields []Field
	if !slices.Equal(s.Listeners, other.Listeners) {
		fields = append(fields, "listen")
	}
	if !slices.Equal(s.Virtual, other.Virtual) {
		fields = append(fields, "virtual")
	}
	if !slices.Equal(s.Backends, other.Backends) {
		fields = append(fields, "backend")
	}
	return append(fields, diff(serviceOptions, s, other)...)
}

// Text returns the value of an option as its parser reads it; empty: there is no such option.
func (s *Service) Text(name Field) string { return text(serviceOptions, name, s) }

// IsUDP reports whether the listeners are udp, rather than tcp and unix.
func (s *Service) IsUDP() bool { return s.Network() == UDP }

// Network is the common network of a service's listeners: UDP, or TCP, which includes unix sockets.
func (s *Service) Network() string {
	if len(s.Listeners) > 0 && s.Listeners[0].Network == UDP {
		return UDP
	}
	return TCP
}

// AddListener adds an address to listen on. The error is an *Error.
func (s *Service) AddListener(a Addr) error {
	if err := s.checkListener(a); err != nil {
		return err
	}
	s.Listeners = append(s.Listeners, a)
	return nil
}

// AddBackend adds a backend to a service that has its listeners already. The error is an *Error.
func (s *Service) AddBackend(b Backend) error {
	if err := s.checkNetwork(&b); err != nil {
		return err
	}
	s.Backends = append(s.Backends, b)
	return nil
}

// HasAgents reports whether any backend may have an agent.
func (s *Service) HasAgents() bool {
	return s.Agent.Port > 0 || s.hasBackend(func(b *Backend) bool { return b.Agent != netip.AddrPort{} })
}

// HeedsRefusals reports whether a backend that refuses a flow gets no new flows for a moment. A refused datagram means
// that no process listens there. With eject that option decides. The only backend always gets flows.
func (s *Service) HeedsRefusals() bool {
	return s.IsUDP() && s.Eject.Failures == 0 && (len(s.Backends) > 1 || s.hasNames())
}

func (s *Service) hasNames() bool {
	return s.hasBackend(func(b *Backend) bool { return b.Addr.Name != "" })
}

func (s *Service) hasBackend(is func(*Backend) bool) bool {
	for i := range s.Backends {
		if is(&s.Backends[i]) {
			return true
		}
	}
	return false
}
