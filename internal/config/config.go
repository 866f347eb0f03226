// Package config turns the words of a command line into a checked Config. It is pure but for go-sockaddr templates,
// which look at this machine's interfaces; host names stay names here, whoever runs the services resolves them. Every
// error is one line that names the word at fault.
package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-sockaddr/template"

	"usher/balancer"
)

// Config is all that a run of usher is told.
type Config struct {
	Services []Service // in the order in which they were first named
	Process  Process
}

// Service is a named thing that clients connect to.
type Service struct {
	Name             string
	Listeners        []Addr // each has a port (0: the kernel chooses) or a path
	Backends         []Backend
	Scheduler        Scheduler        // not named: rr, or wrr where weights differ or change
	HashKey          balancer.HashKey // of a scheduler that hashes
	HashBalance      int              // of a scheduler that hashes: a bound on a backend's load, in percent; 0: none
	Persist          Persist
	Health           Health
	Panic            int // with less than this percentage of backends up, those that are down are used too
	Eject            Eject
	SlowStart        time.Duration // how long a backend that has come up takes to get its whole weight
	MaxAge           Age
	OnDown, OnRemove Cut
	OnDrain          Cut // what becomes of flows when an agent orders drain or maint
	Agent            Agent
	Queue            Queue
	FailClosed       bool          // with all backends down: refuse clients (true) or try the backends anyway
	ConnectTimeout   time.Duration // budget for all attempts to reach a backend
	IdleTimeout      time.Duration // 0: never
	HalfCloseTimeout time.Duration // how long one direction may outlive the other
	Wait             time.Duration // how long a client may wait for a backend when there is none; 0: not at all
	UDP              UDPOptions    // of a udp service; the timeouts above are of one that is not
}

// UDPOptions are the options that only a udp service has: one whose listeners are udp, and its backends with them.
type UDPOptions struct {
	IdleTimeout      time.Duration
	UnrepliedTimeout time.Duration // of a flow that no reply was seen on; never longer than IdleTimeout
	Replies          int           // that end a flow; 0: replies are not counted
	OnePacket        bool          // every datagram is scheduled anew
	MaxFlows         int           // at once; 0: as many as the process may have
	MaxClientFlows   int           // of one client address; 0: no such limit
}

// Process holds what is set once for all services.
type Process struct {
	DrainTimeout time.Duration // 0: cut what is left at once
	MaxConns     int           // 0: derived from the descriptor limit
	Workers      int           // 0: derived from the CPUs
	Engine       string        // auto, epoll or portable
	LogFormat    string        // console, json, or "": console on a terminal, JSON otherwise
	LogLevel     string        // debug, info, warn or error
	AccessLog    bool
}

// DefaultServiceOptions is a TCP service without addresses and with every option at its default.
func DefaultServiceOptions() Service {
	return Service{
		OnDown:           Cut{How: "keep"},
		OnRemove:         Cut{How: "keep"},
		OnDrain:          Cut{How: "keep"},
		Agent:            DefaultAgent(),
		Health:           DefaultHealth(),
		ConnectTimeout:   5 * time.Second,
		HalfCloseTimeout: 5 * time.Minute,
	}
}

// DefaultUDPOptions are every option that only a udp service has, at its default.
func DefaultUDPOptions() UDPOptions {
	return UDPOptions{IdleTimeout: time.Minute, UnrepliedTimeout: 30 * time.Second}
}

// IsUDP tells services whose listeners are udp from those whose listeners are tcp and unix.
func (s *Service) IsUDP() bool { return s.Network() == UDP }

// Network is what a service's listeners have in common: UDP, or TCP, which stands for unix sockets too.
func (s *Service) Network() string {
	if len(s.Listeners) > 0 && s.Listeners[0].Network == UDP {
		return UDP
	}
	return TCP
}

// DefaultProcess is a process with every option at its default.
func DefaultProcess() Process {
	return Process{DrainTimeout: 30 * time.Second, Engine: "auto", LogLevel: "info"}
}

// Words is a command line taken apart, before anything is understood.
type Words struct {
	Mappings []string // LISTEN=BACKEND[,BACKEND...]
	Listen   []string // [NAME=]ADDR
	Backend  []string // [NAME=]ADDR[@WEIGHT]
	Options  []Option // of services ([NAME=]VALUE) and of the process; of two for the same thing the later one holds
}

// Option is one flag and its value.
type Option struct{ Name, Value string }

// Parse reads and checks words. Templates are evaluated on this machine.
func Parse(words Words) (*Config, error) { return parse(words, template.Parse) }

func parse(words Words, expand expander) (*Config, error) {
	b := builder{expand: expand}
	if err := b.addresses(words); err != nil {
		return nil, err
	}
	c := &Config{Services: b.services, Process: DefaultProcess()}
	if len(c.Services) == 0 {
		return nil, fmt.Errorf("nothing to listen on: give LISTEN=BACKEND, as in 8080=9001,9002, or --listen and --backend")
	}
	if err := c.setOptions(words.Options); err != nil {
		return nil, err
	}
	for i := range c.Services {
		c.Services[i].settle()
		u := &c.Services[i].UDP
		u.UnrepliedTimeout = min(u.UnrepliedTimeout, u.IdleTimeout)
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	return c, nil
}

// builder gathers the addresses of each service.
type builder struct {
	expand   expander
	services []Service
}

func (b *builder) addresses(words Words) error {
	for _, word := range words.Mappings {
		if err := b.mapping(word); err != nil {
			return err
		}
	}
	for _, word := range words.Listen {
		name, addr := nameOrDefault(word)
		err := one(addr, "--listen")
		if err == nil {
			err = b.listen(b.service(name), addr)
		}
		if err != nil {
			return fmt.Errorf("--listen %s: %w", word, err)
		}
	}
	for _, word := range words.Backend {
		name, addr := nameOrDefault(word)
		s := find(b.services, name)
		if s == nil {
			return fmt.Errorf("--backend %s: %w", word, b.noListener(name))
		}
		if err := b.backend(s, addr); err != nil {
			return fmt.Errorf("--backend %s: %w", word, err)
		}
	}
	return nil
}

// one refuses a list of addresses as the value of a flag. The path of a unix socket may have commas.
func one(addr, flag string) error {
	if indexOutside(addr, ',') >= 0 && !strings.HasPrefix(addr, "unix:") {
		return fmt.Errorf("one address at a time: repeat %s for each", flag)
	}
	return nil
}

func (b *builder) noListener(name string) error {
	have := names(b.services)
	if len(have) == 0 {
		return fmt.Errorf("service %q has no listener (add --listen)", name)
	}
	return fmt.Errorf("service %q has no listener%s", name, orHave(name, have))
}

func (b *builder) mapping(word string) error {
	m, err := ParseMapping(word)
	if err != nil {
		return err
	}
	if find(b.services, m.Name()) != nil {
		return fmt.Errorf("%s: there is a service %q already: give this one its own name with --listen NAME=%s", word, m.Name(), m.Listen)
	}
	s := b.service(m.Name())
	if err := b.listen(s, m.Listen); err != nil {
		return fmt.Errorf("%s: %w", word, err)
	}
	for _, backend := range m.Backends {
		if err := b.backend(s, backend); err != nil {
			return fmt.Errorf("%s: %w", word, err)
		}
	}
	return nil
}

func (b *builder) listen(s *Service, word string) error {
	words, err := b.expand.expand(word)
	if err != nil {
		return err
	}
	for _, w := range words {
		addr, err := ParseAddr(w)
		if err != nil {
			return err
		}
		if addr.Network != Unix && !addr.HasPort() {
			return fmt.Errorf("%q needs a port to listen on", w)
		}
		switch isUDP := addr.Network == UDP; {
		case len(s.Listeners) == 0 && isUDP:
			s.UDP, s.Health = DefaultUDPOptions(), Health{Kind: "off"}
			s.OnDown, s.OnRemove = Cut{How: "reset"}, Cut{How: "reset"} // see defaultCut
		case len(s.Listeners) > 0 && isUDP != s.IsUDP():
			return fmt.Errorf("service %q listens on %s already: udp needs a service of its own (give one a NAME=)", s.Name, s.Listeners[0])
		}
		s.Listeners = append(s.Listeners, addr)
	}
	return nil
}

func (b *builder) backend(s *Service, word string) error {
	words, err := b.expand.expand(word)
	if err != nil {
		return err
	}
	for _, w := range words {
		backend, err := parseBackend(w, s.Network())
		if err != nil {
			return err
		}
		if isUDP := backend.Addr.Network == UDP; isUDP != s.IsUDP() {
			return fmt.Errorf("a %s service such as %q cannot have the backend %s", s.Network(), s.Name, backend.Addr)
		}
		if slices.ContainsFunc(s.Backends, func(other Backend) bool { return other.Addr == backend.Addr }) {
			return fmt.Errorf("service %q has the backend %s twice", s.Name, backend.Addr)
		}
		s.Backends = append(s.Backends, backend)
	}
	return nil
}

// service returns the service called name, a new one if there is none.
func (b *builder) service(name string) *Service {
	if s := find(b.services, name); s != nil {
		return s
	}
	s := DefaultServiceOptions()
	s.Name = name
	b.services = append(b.services, s)
	return &b.services[len(b.services)-1]
}

func find(services []Service, name string) *Service {
	i := slices.IndexFunc(services, func(s Service) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return &services[i]
}

func names(services []Service) []string {
	out := make([]string, len(services))
	for i, s := range services {
		out[i] = s.Name
	}
	return out
}

// nameOrDefault splits [NAME=]ADDR.
func nameOrDefault(word string) (name, addr string) {
	name, addr = SplitName(word)
	if name == "" {
		name = DefaultService
	}
	return name, addr
}
