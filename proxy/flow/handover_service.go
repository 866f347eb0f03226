package flow

import (
	"fmt"
	"math"

	"usher/balancer"
)

// ServiceState is a Service: its name and its counters, by the words for what they count.
type ServiceState struct {
	Name      string `cbor:"1,keyasint"`
	Removed   bool   `cbor:"2,keyasint,omitempty"`
	Persisted bool   `cbor:"3,keyasint,omitempty"`
	Running   Ref    `cbor:"4,keyasint"` // the settings of new flows

	Accepted uint64            `cbor:"5,keyasint,omitempty"`
	Starved  uint64            `cbor:"6,keyasint,omitempty"`
	Ended    map[string]uint64 `cbor:"7,keyasint,omitempty"`
	Up       uint64            `cbor:"8,keyasint,omitempty"`
	Down     uint64            `cbor:"9,keyasint,omitempty"`
	Dropped  map[string]uint64 `cbor:"10,keyasint,omitempty"`
	FellBack uint64            `cbor:"11,keyasint,omitempty"`

	Connects balancer.HistogramCounts `cbor:"12,keyasint"`
	Lifetime balancer.HistogramCounts `cbor:"13,keyasint"`

	In  uint64 `cbor:"14,keyasint,omitempty"` // packets
	Out uint64 `cbor:"15,keyasint,omitempty"`
}

// Save returns the state of a service. The caller guards HasPersisted.
func (s *Service) Save(n *Numbers) ServiceState {
	st := ServiceState{
		Name: s.Name, Removed: s.isRemoved.Load(), Persisted: s.persisted, Running: n.Settings.Of(s.Settings()),
		Accepted: s.accepted.Load(), Starved: s.starved.Load(), Up: s.up.Load(), Down: s.down.Load(),
		In: s.in.Load(), Out: s.out.Load(),
		FellBack: s.fellBack.Load(), Ended: make(map[string]uint64), Dropped: make(map[string]uint64),
		Connects: s.connects.Counts(), Lifetime: s.lifetime.Counts(),
	}
	for o := range s.ended {
		if n := s.ended[o].Load(); n > 0 {
			st.Ended[Outcome(o).String()] = n
		}
	}
	for d := range s.dropped {
		if n := s.dropped[d].Load(); n > 0 {
			st.Dropped[Drop(d).String()] = n
		}
	}
	return st
}

// Check returns an error if no service can have such a state. Services are removed only with
// a successor that knows what they count.
func (st *ServiceState) Check(l Limits) error {
	if st.Running == 0 || int(st.Running) > l.Settings {
		return fmt.Errorf("service %s: settings %d of %d", st.Name, st.Running, l.Settings)
	}
	known := make(map[string]bool)
	for o := range outcomes {
		known[o.String()] = true
	}
	for what := range st.Ended {
		if !known[what] {
			return fmt.Errorf("service %s: it counts flows that ended as %q", st.Name, what)
		}
	}
	clear(known)
	for d := range drops {
		known[d.String()] = true
	}
	for what := range st.Dropped {
		if !known[what] {
			return fmt.Errorf("service %s: it counts datagrams dropped as %q", st.Name, what)
		}
	}
	return nil
}

// RestoreService returns a service of the state. It has no settings yet, and its rates begin
// anew.
func RestoreService(st *ServiceState, seed uint64) *Service {
	s := NewService(st.Name, seed)
	s.isRemoved.Store(st.Removed)
	s.persisted = st.Persisted
	s.accepted.Store(st.Accepted)
	s.starved.Store(st.Starved)
	s.up.Store(st.Up)
	s.down.Store(st.Down)
	s.in.Store(st.In)
	s.out.Store(st.Out)
	s.fellBack.Store(st.FellBack)
	s.connects.Restore(st.Connects)
	s.lifetime.Restore(st.Lifetime)
	for o := range s.ended {
		s.ended[o].Store(st.Ended[Outcome(o).String()])
	}
	for d := range s.dropped {
		s.dropped[d].Store(st.Dropped[Drop(d).String()])
	}
	return s
}

// SettingsState is what flows began with: a config of a service without its pool and observer.
type SettingsState struct {
	Config  ServiceConfig `cbor:"1,keyasint"`
	Service Ref           `cbor:"2,keyasint"` // of the services of the state
	Pool    Ref           `cbor:"3,keyasint"` // of the pools of the state
	Queue   Ref           `cbor:"4,keyasint"` // two with the same number share a queue
}

// Save returns the state of settings. The caller numbers services and pools.
func (s *Settings) Save(n *Numbers, service, pool Ref) SettingsState {
	return SettingsState{Config: s.ServiceConfig, Service: service, Pool: pool, Queue: n.QueueOf(s.queue)}
}

// Check returns an error if no service can have such settings.
func (st *SettingsState) Check(services, pools int) error {
	c := &st.Config
	jitter := c.MaxAgeJitter
	switch {
	case st.Service == 0 || int(st.Service) > services || st.Pool == 0 || int(st.Pool) > pools:
		return fmt.Errorf("settings: service %d of %d, pool %d of %d", st.Service, services, st.Pool, pools)
	case st.Queue == 0:
		return fmt.Errorf("settings of %s: no queue", c.Name)
	case math.IsNaN(jitter) || jitter < 0 || jitter > 1:
		return fmt.Errorf("settings of %s: a jitter of %v", c.Name, jitter)
	case c.IdleTimeout < 0 || c.HalfCloseTimeout < 0 || c.ReclaimIdle < 0 || c.UDP.IdleTimeout < 0:
		return fmt.Errorf("settings of %s: a timeout is negative", c.Name)
	case c.Empty >= emptyPolicies:
		return fmt.Errorf("settings of %s: %d as its policy without a backend", c.Name, c.Empty)
	case c.UDP.Replies < 0:
		return fmt.Errorf("settings of %s: %d replies", c.Name, c.UDP.Replies)
	}
	for _, l := range c.Listeners {
		if l.Ports < 0 || l.Ports > 1<<16 || l.Network == "unix" && l.Ports > 1 {
			return fmt.Errorf("settings of %s: a listener with %d ports", c.Name, l.Ports)
		}
	}
	return nil
}

// Restore makes settings of the state, for a service that was restored. queues has those that
// were made, by number.
func (st *SettingsState) Restore(svc *Service, p *balancer.Pool, o ResultObserver, a *Affinity, queues map[Ref]*Settings) *Settings {
	c := st.Config
	c.Pool, c.Observer = p, o
	s := NewSettings(svc, c, a, queues[st.Queue])
	if queues[st.Queue] == nil {
		queues[st.Queue] = s
	}
	return s
}
