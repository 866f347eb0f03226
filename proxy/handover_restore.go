package proxy

import (
	"fmt"
	"net/netip"
	"time"

	"usher/balancer"
	"usher/conntrack"
	"usher/proxy/flow"
	"usher/proxy/socketfile"
)

// Restore returns a server that goes on where a suspended one has stopped, once it is started.
// The descriptors of the state are open in this process under the same numbers, and are the
// server's from then on. services are those that ran, with pools that are new: they get the
// backends of the state, with their counters. The engine is that of the state, the number of
// workers too. Flows keep the settings that they began with.
//
// Nothing in a state is trusted. After an error all its descriptors are as they were; the pools
// may have been filled.
func Restore(o Options, st *State, services []*ServiceConfig) (*Server, error) {
	if err := st.Check(); err != nil {
		return nil, err
	}
	o.Workers, o.Engine = len(st.Workers), "epoll"
	s, err := New(o)
	if err != nil {
		return nil, err
	}
	e, ok := s.engine.(handoverEngine)
	if !ok {
		s.access.Load().close()
		return nil, notHandedOver("its engine is portable")
	}
	x := &restoring{server: s, engine: e, state: st, given: make(map[string]*ServiceConfig, len(services))}
	for _, c := range services {
		x.given[c.Name] = c
	}
	if err := x.restore(services); err != nil {
		e.release()
		s.access.Load().close()
		return nil, fmt.Errorf("restore: %w", err)
	}
	return s, nil
}

// Removed is what had been removed before a server was restored, and what flows may hold.
type Removed struct {
	Services []*Service
	Backends map[*balancer.Pool][]*balancer.Backend // of pools that run
}

// Removed returns what had been removed, so that the caller can have flows end that shall not
// stay. After Start it returns nothing.
func (s *Server) Removed() Removed {
	s.applying.Lock()
	defer s.applying.Unlock()
	return s.restored
}

// restoring is a server in the making.
type restoring struct {
	server   *Server
	engine   handoverEngine
	state    *State
	given    map[string]*ServiceConfig // by name
	refs     flow.Refs
	services []*Service
	pools    []*balancer.Pool
	bindings []*binding // that are not gone
}

func (x *restoring) restore(services []*ServiceConfig) error {
	s := x.server
	s.applying.Lock()
	defer s.applying.Unlock()
	age := x.state.sinceStart(x.engine.age(x.state))
	s.epoch = time.Now().Add(-age)
	x.refs.Now, x.refs.Admission = x.state.Clock, &s.admission
	for i := range x.state.Services {
		svc := flow.RestoreService(&x.state.Services[i], s.seed)
		svc.Trace = s.admission.Trace
		x.services = append(x.services, svc)
	}
	if err := x.restorePools(); err != nil {
		return err
	}
	x.restoreSettings()
	x.restoreBindings()
	x.restoreClients()
	if err := x.engine.restore(x.state, &x.refs, x.bindings); err != nil {
		return err
	}
	return x.apply(services)
}

// restorePools fills the pools of services that run, and makes those that are in use yet by
// flows alone. Those have no scheduler of their own: nothing new is chosen from them, but by
// clients that wait.
func (x *restoring) restorePools() error {
	st := x.state
	x.pools = make([]*balancer.Pool, len(st.Pools))
	x.server.restored.Backends = make(map[*balancer.Pool][]*balancer.Backend)
	for i := range st.Services {
		svc := &st.Services[i]
		if c := x.given[svc.Name]; c != nil && !svc.Removed {
			if c.Pool == nil {
				return fmt.Errorf("service %s has no pool", svc.Name)
			}
			x.pools[st.Settings[svc.Running-1].Pool-1] = c.Pool
		}
	}
	active := st.active()
	for i := range st.Pools {
		if x.pools[i] == nil {
			var err error
			if x.pools[i], err = balancer.NewPool(balancer.Options{}); err != nil {
				return err
			}
		}
		n := len(st.Pools[i].Backends)
		backends, err := x.pools[i].Restore(&st.Pools[i], active[:n], st.Clock)
		if err != nil {
			return err
		}
		active = active[n:]
		x.refs.Backends = append(x.refs.Backends, backends...)
		for j, b := range backends {
			if st.Pools[i].Backends[j].Removed {
				x.server.restored.Backends[x.pools[i]] = append(x.server.restored.Backends[x.pools[i]], b)
			}
		}
	}
	return nil
}

// active returns how many flows hold each backend.
func (st *State) active() []int64 {
	n := 0
	for i := range st.Pools {
		n += len(st.Pools[i].Backends)
	}
	active := make([]int64, n)
	for i := range st.Workers {
		w := &st.Workers[i]
		for j := range w.Conns {
			if f := &w.Conns[j].Flow; f.Holding {
				active[f.Backend-1]++
			}
		}
		for j := range w.Sessions {
			f := &w.Sessions[j].Flow
			active[f.Backend-1] += int64(f.Places)
		}
	}
	return active
}

// restoreSettings makes the settings; what services run with is among them.
func (x *restoring) restoreSettings() {
	queues := make(map[flow.Ref]*flow.Settings)
	for i := range x.state.Settings {
		st := &x.state.Settings[i]
		svc := x.services[st.Service-1]
		var observer ResultObserver
		if c := x.given[svc.Name]; c != nil && !x.state.Services[st.Service-1].Removed {
			observer = c.Observer
		}
		x.refs.Settings = append(x.refs.Settings,
			st.Restore(svc, x.pools[st.Pool-1], observer, x.server.affinity, queues))
	}
	for i, svc := range x.services {
		svc.SetSettings(x.refs.Settings[x.state.Services[i].Running-1])
	}
}

func (x *restoring) restoreBindings() {
	s := x.server
	byNumber := make([]*binding, len(x.state.Bindings))
	for i := range x.state.Bindings {
		st := &x.state.Bindings[i]
		b := &binding{at: st.At, local: st.Local, path: st.At.Path, splits: st.Splits, descriptors: 1}
		if !st.Shared {
			b.descriptors = s.kind.sockets(st.At, s.workers)
		}
		b.Restore(&st.Flow, x.services, &x.refs)
		x.refs.Bindings = append(x.refs.Bindings, &b.Binding)
		if st.Flow.Gone {
			continue
		}
		byNumber[i] = b
		x.bindings = append(x.bindings, b)
		s.bindings[b.address()] = b
	}
	x.restoreInstances(byNumber)
}

// restoreInstances has the server know the services that run as an Apply would have left them.
func (x *restoring) restoreInstances(bindings []*binding) {
	s := x.server
	running := new(running)
	all := make(map[*Service]*instance)
	for i, svc := range x.services {
		if x.state.Services[i].Removed {
			continue
		}
		now := &instance{service: svc, settings: svc.Settings(), given: svc.Config(), index: len(s.given)}
		if now.settings.IsUDP() {
			s.datagrams++
		}
		s.given = append(s.given, now.given)
		running.services = append(running.services, svc)
		s.byName[svc.Name], all[svc] = now, now
	}
	for _, b := range x.bindings {
		s.sockets += b.descriptors
		for _, to := range b.Destinations() {
			now := all[to.Service]
			now.bindings = append(now.bindings, b)
			b.claims = append(b.claims, claim{Claim: to.Claim, owner: now})
		}
	}
	for i := range x.state.Requests {
		st := &x.state.Requests[i]
		now, at := all[x.services[st.Service-1]], addressOf(st.At)
		switch {
		case now == nil:
		case st.Binding == 0:
			chosen := at
			chosen.at = netip.AddrPortFrom(at.at.Addr(), st.Port)
			now.choose(request{at, st.Nth}, chosen)
		default:
			now.choose(request{at, st.Nth}, bindings[st.Binding-1].address())
		}
	}
	s.running.Store(running)
}

func (x *restoring) restoreClients() {
	for i := range x.state.Clients {
		st := &x.state.Clients[i]
		x.server.affinity.Restore(conntrack.AffinityEntry[Service, balancer.Backend]{
			Client: st.Client, Service: x.services[st.Service-1], Backend: x.refs.Backends[st.Backend-1],
			Created: st.Created, Expires: st.Expires,
		}, x.state.Clock)
	}
}

// apply puts the services that ran into effect: nothing is bound, nothing is closed.
func (x *restoring) apply(services []*ServiceConfig) error {
	s := x.server
	p, err := s.plan(services)
	if err != nil {
		return err
	}
	for i := range p.wants {
		if w := &p.wants[i]; w.binding == nil {
			return fmt.Errorf("service %s listens on %s, and has not before", w.owner.service.Name, w.at)
		}
	}
	if len(p.gone) > 0 {
		return fmt.Errorf("no service listens on %s any more", p.gone[0].at)
	}
	if err := s.bind(p); err != nil {
		return err
	}
	for i, svc := range x.services {
		if x.state.Services[i].Removed {
			p.removed = append(p.removed, svc)
		}
	}
	s.restored.Services = p.removed
	s.commit(p)
	for i := range x.state.Bindings {
		if st := &x.state.Bindings[i]; st.File || st.Lost {
			b := s.bindings[st.address()]
			b.file.path = st.At.Path
			if st.File {
				b.file.File, _ = socketfile.Find(st.At.Path) // without it the next Apply makes it anew
			}
			s.files[b] = true
		}
	}
	flow.RestoreQueues(x.refs.Queued)
	s.rejoins.Store(true)
	return nil
}
