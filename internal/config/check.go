package config

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
)

// Field names a field of a plan: listen, backend, or an option. The text of an Error spells it for its reader: a flag
// with dashes, a key of a file without.
type Field string

// Error says which field of a plan is wrong, and why.
type Error struct {
	Service string // empty: a field of the process
	Field   Field
	Value   string // the wrong word; empty: the field as a whole
	// Other is the other service where two cannot be together, and OtherValue the address there.
	Other, OtherValue string

	cause  error  // of a value that cannot be read
	format string // of other errors: a whole sentence
	args   []any
}

// Error names the service, the field and the value.
func (e *Error) Error() string { return e.Text(func(f Field) string { return string(f) }) }

// Text is Error with fields as spell writes them.
func (e *Error) Text(spell func(Field) string) string {
	text := e.Reason(spell)
	if e.cause == nil {
		return text
	}
	text = fmt.Sprintf("%s %s: %s", spell(e.Field), e.Value, text)
	if e.Service != "" {
		text = fmt.Sprintf("service %q: %s", e.Service, text)
	}
	return text
}

// Reason is Text for a reader who sees the word with the value.
func (e *Error) Reason(spell func(Field) string) string {
	if e.cause != nil {
		return e.cause.Error()
	}
	args := slices.Clone(e.args)
	for i, a := range args {
		if f, ok := a.(Field); ok {
			args[i] = spell(f)
		}
	}
	return fmt.Sprintf(e.format, args...)
}

// Unwrap returns why the value cannot be read, or nil.
func (e *Error) Unwrap() error { return e.cause }

// addressError returns an error about a listener or a backend; nil is all of them. The text begins with "service NAME".
func (s *Service) addressError(field Field, at fmt.Stringer, format string, args ...any) error {
	value := ""
	if at != nil {
		value = at.String()
	}
	return s.errorf(field, value, format, args...)
}

// optionError returns an error about an option, whose text begins with "service NAME: OPTION".
func (s *Service) optionError(field Field, format string, args ...any) error {
	return s.errorf(field, find(serviceOptions, field).text(s), ": %s"+format, append([]any{field}, args...)...)
}

func (s *Service) errorf(field Field, value, format string, args ...any) error {
	return &Error{Service: s.Name, Field: field, Value: value, format: "service %q" + format, args: append([]any{s.Name}, args...)}
}

// TwoServices is the error of a plan with two services of one name.
func TwoServices(name string) *Error {
	return &Error{Service: name, Field: "name", Value: name, format: "there are two services %q", args: []any{name}}
}

// Complete derives values from others, and checks the whole plan. The error is an *Error.
func (c *Config) Complete() error {
	for _, s := range c.Services {
		s.settle()
	}
	if err := c.checkOptions(); err != nil {
		return err
	}
	names := make(map[string]bool, len(c.Services))
	for _, s := range c.Services {
		if names[s.Name] {
			return TwoServices(s.Name)
		}
		names[s.Name] = true
		if err := s.check(); err != nil {
			return err
		}
	}
	if err := NewChecker(nil).Check(c.Services); err != nil {
		return err
	}
	return c.Process.Check()
}

// Complete derives values from others, and checks a service by itself: its words, once set, agree. The error is an *Error.
func (s *Service) Complete() error {
	s.settle()
	return s.check()
}

// settle derives values from others, and reports whether there were any. A service that is complete is only read.
func (s *Service) settle() (changed bool) {
	if s.Scheduler.Name == "" {
		s.Scheduler, changed = s.settled(), true
	}
	if s.UDP.UnrepliedTimeout > s.UDP.IdleTimeout {
		s.UDP.UnrepliedTimeout, changed = s.UDP.IdleTimeout, true
	}
	return changed
}

// Completed returns a service with the values that derive from others, which is s if there are none, and checks each
// option and the whole by itself. It only reads s. The error is an *Error.
func (s *Service) Completed() (*Service, error) {
	if derived := *s; derived.settle() {
		s = &derived
	}
	defaults := defaultWords()[s.Network()]
	for i := range serviceOptions {
		word := serviceOptions[i].text(s)
		if word == defaults[i] {
			continue
		}
		if _, err := serviceOptions[i].parse(word); err != nil {
			err.(*Error).Service = s.Name
			return nil, err
		}
	}
	return s, s.check()
}

// defaultWords are the words of a new service's options, by its network.
var defaultWords = sync.OnceValue(func() map[string][]string {
	words := make(map[string][]string)
	for _, network := range []string{TCP, UDP} {
		s := NewService("", network)
		for i := range serviceOptions {
			words[network] = append(words[network], serviceOptions[i].text(s))
		}
	}
	return words
})

// check finds errors that no single word of a service shows.
func (s *Service) check() error {
	if err := CheckServiceName(s.Name); err != nil {
		return &Error{Service: s.Name, Field: "name", Value: s.Name, cause: err}
	}
	for _, l := range s.Listeners {
		if err := s.checkListener(l); err != nil {
			return err
		}
	}
	switch {
	case len(s.Listeners) == 0:
		return s.addressError("listen", nil, " has no listener")
	case s.IsEmpty() && s.OnEmpty == EmptyInvalid:
		return s.addressError("backend", nil, " listens on %s but has no backend", s.Listeners[0])
	}
	seen := make(map[Addr]bool, len(s.Backends))
	for i := range s.Backends {
		b := &s.Backends[i]
		if seen[b.Addr] {
			return s.addressError("backend", b.Addr, " has the backend %s twice", b.Addr)
		}
		seen[b.Addr] = true
		if err := s.checkBackend(b); err != nil {
			return err
		}
	}
	pool := s.PoolOptions(func() uint64 { return 0 })
	if err := pool.Check(); err != nil {
		return s.errorf("scheduler", s.Scheduler.String(), ": %v", err)
	}
	if err := s.checkAccess(); err != nil {
		return err
	}
	if s.OnEmpty == EmptyInvalid { // else backends come and go, and an option has its effect with those that come
		if err := s.checkBackends(); err != nil {
			return err
		}
	}
	return s.checkEffect()
}

// checkListener checks an address to listen on by itself and against the first one.
func (s *Service) checkListener(a Addr) error {
	if err := a.checkListener(); err != nil {
		return s.addressError("listen", a, ": %v", err)
	}
	if len(s.Listeners) > 0 && (a.Network == UDP) != s.IsUDP() {
		return s.addressError("listen", a, " listens on %s already: udp needs a service of its own", s.Listeners[0])
	}
	return nil
}

// checkNetwork refuses a backend that is not of the service's network.
func (s *Service) checkNetwork(b *Backend) error {
	if (b.Addr.Network == UDP) != s.IsUDP() {
		return s.addressError("backend", b.Addr, " is %s and cannot have the backend %s", s.Network(), b.Addr)
	}
	return nil
}

// checkBackend checks one backend against the service.
func (s *Service) checkBackend(b *Backend) error {
	if err := s.checkNetwork(b); err != nil {
		return err
	}
	if err := b.check(); err != nil {
		return s.addressError("backend", b.Addr, ": %v", err)
	}
	if err := s.checkPorts(b.Addr); err != nil {
		return err
	}
	if err := s.checkSource(b); err != nil {
		return err
	}
	hasNoPort := b.Addr.Network == Unix
	switch {
	case b.Check != netip.AddrPort{} && s.Health.IsOff():
		return s.addressError("backend", b.Addr, ": option check of backend %s has no effect with %s off", b.Addr, Field("health"))
	case b.Check != netip.AddrPort{} && hasNoPort && !b.Check.Addr().IsValid():
		return s.addressError("backend", b.Addr, ": option check of backend %s: a port alone is one of its address, and it has none (give IP:PORT)", b.Addr)
	case s.Health.Port > 0 && hasNoPort && !b.Check.Addr().IsValid():
		return s.optionError("health", " option port: backend %s has none (its option check=IP:PORT says where it is checked)", b.Addr)
	case hasNoPort && !b.Agent.Addr().IsValid() && (s.Agent.Port > 0 || b.Agent.Port() > 0):
		return s.optionError("agent", ": backend %s has no ports (its option agent=IP:PORT says where its agent is)", b.Addr)
	}
	return nil
}

// checkPorts checks that every client port has a port at the backend. One port serves all, and SRV records have their
// own. A range must be as long as each listener's. Without a port the backend gets the client's.
func (s *Service) checkPorts(backend Addr) error {
	if backend.Network == Unix || backend.SRV || backend.Ports == 1 {
		return nil
	}
	for _, l := range s.Listeners {
		switch {
		case !backend.HasPort() && l.Network == Unix:
			return s.addressError("backend", backend, ": backend %s needs a port: the listener %s has none to pass on", backend, l)
		case !backend.HasPort() && l.Port == 0:
			return s.addressError("backend", backend, ": backend %s needs a port: the one of the listener %s is not known yet", backend, l)
		case backend.HasPort() && backend.Ports != max(l.Ports, 1):
			return s.addressError("backend", backend, ": backend %s has %d ports but listener %s has %d: give as many, one, or none",
				backend, backend.Ports, l, max(l.Ports, 1))
		}
	}
	return nil
}

// checkBackends refuses options that the backends make useless.
func (s *Service) checkBackends() error {
	limited := s.hasBackend(func(b *Backend) bool { return b.Limits.Max > 0 || b.Limits.Upper > 0 })
	unchecked := s.Health.IsOff() && !s.HasAgents()
	blind := unchecked && s.Eject.Failures == 0 && !s.HeedsRefusals() // no backend is ever detected as down
	const noEffect = " has no effect with %s off: "
	switch {
	case !s.hasBackend(func(b *Backend) bool { return !b.Backup }):
		return s.addressError("backend", nil, ": at least one backend must not be a backup")
	case s.Queue.Length > 0 && !limited && !s.HasAgents():
		return s.optionError("queue", " has nothing to wait for: no backend has a limit (%s ADDR,max=N)", Field("backend"))
	case s.Eject.Failures > 0 && len(s.Backends) == 1 && !s.hasNames():
		return s.optionError("eject", " has no effect on the only backend")
	case s.Panic > 0 && blind:
		return s.optionError("panic", noEffect+"no backend is ever down", Field("health"))
	case s.SlowStart > 0 && blind && !s.hasNames():
		return s.optionError("slow-start", noEffect+"no backend ever comes up", Field("health"))
	case s.OnDown != defaultTermination(s.Network()) && unchecked:
		return s.optionError("on-down", noEffect+"no backend fails its checks", Field("health"))
	case s.Persist.LeaveOverloaded && !s.hasBackend(func(b *Backend) bool { return b.Limits.Upper > 0 }):
		return s.optionError("persist", " overloaded=leave has no effect: no backend has an upper threshold (upper=N)")
	}
	return nil
}

// checkEffect refuses options that others make useless.
func (s *Service) checkEffect() error {
	switch {
	case s.IdleTimeout > 0 && s.ReclaimIdle >= s.IdleTimeout:
		return s.optionError("reclaim-idle", " %s has no effect: %s %s ends a connection before",
			Delay(s.ReclaimIdle), Field("idle-timeout"), Delay(s.IdleTimeout))
	case s.Health.Kind == "auto" && !s.IsUDP():
		return s.optionError("health", " auto is for udp services (tcp is what others have without %s)", Field("health"))
	case s.UDP.OnePacket && s.MaxAge.Max > 0:
		return s.optionError("max-age", " has nothing to end with %s, which chooses for each datagram", Field("ops"))
	case s.UDP.OnePacket && s.UDP.Replies > 0:
		return s.optionError("ops", " keeps no flow whose replies %s could count", Field("udp-replies"))
	case s.Persist.Timeout > 0:
		return s.checkPersist()
	}
	return nil
}

// checkPersist refuses persistence where it has no effect.
func (s *Service) checkPersist() error {
	const persist = Field("persist")
	switch {
	case s.UDP.OnePacket:
		return s.optionError(persist, " has nothing to keep together with %s, which chooses for each datagram", Field("ops"))
	case !slices.ContainsFunc(s.Listeners, func(l Addr) bool { return l.Network != Unix }):
		return s.optionError(persist, " knows clients by their addresses, and those of a unix socket have none")
	}
	return nil
}
