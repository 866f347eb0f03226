package proxy

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"sort"
	"time"

	"usher/balancer"
	"usher/proxy/flow"
	"usher/proxy/rules"
)

// ErrNotHandedOver is why a server has no State: the reason is in the error that wraps it.
var ErrNotHandedOver = errors.New("the server cannot be handed over")

// handoverEngine is an engine whose flows can be handed over.
type handoverEngine interface {
	// suspend returns when the engine moves nothing any more: all that had been read of
	// datagrams is passed on, and nobody waits for an answer of another worker.
	suspend()
	// resume has the engine go on.
	resume()
	// references shows what flows, sessions and listeners refer to; nil is nothing.
	references(func(*flow.Settings, *balancer.Backend, *flow.Binding))
	// save adds bindings, workers and the time to a state in which all else has its number.
	save(st *State, n *flow.Numbers, bindings []*binding)
	// age returns how long ago a state was saved.
	age(st *State) time.Duration
	// restore makes an engine that has not started what the state says. bindings are those
	// that are not gone, in the order of the state.
	restore(st *State, r *flow.Refs, bindings []*binding) error
	// rejoin counts restored flows at the rules that would let them in.
	rejoin(set *rules.Set)
	// release closes what the engine has opened itself, and nothing that was restored.
	release()
}

// accessFlushMost is how long Suspend waits for the lines of flows that have ended, before
// the flows stop and again after that.
const (
	accessFlushMost  = time.Second
	accessFlushPause = 20 * time.Millisecond
)

// Suspend stops the event loops between two turns: nothing is accepted, read or sent any more.
// It returns the state of the whole server, for [Restore]. [Server.Resume] has this server go
// on instead; until then Apply, cuts, Shutdown and Suspend wait. The error is
// [ErrNotHandedOver] with the reason, or [ErrShutDown], and then the server was not stopped.
func (s *Server) Suspend() (*State, error) {
	e, ok := s.engine.(handoverEngine)
	if !ok {
		return nil, notHandedOver("its engine is portable, which leaves sockets to the Go runtime")
	}
	s.access.Load().flush(accessFlushMost)
	s.applying.Lock()
	switch {
	case s.draining.Load():
		s.applying.Unlock()
		return nil, ErrShutDown
	case !s.started:
		s.applying.Unlock()
		return nil, notHandedOver("it has not started")
	}
	s.cutting.Lock()
	e.suspend()
	s.access.Load().flush(accessFlushPause)
	st := s.save(e)
	if err := st.Check(); err != nil {
		s.Resume()
		return nil, notHandedOver(err.Error())
	}
	return st, nil
}

// Resume has a suspended server go on. Its state is void from then on.
func (s *Server) Resume() {
	s.engine.(handoverEngine).resume()
	s.cutting.Unlock()
	s.applying.Unlock()
}

type notHandedOver string

func (e notHandedOver) Error() string { return ErrNotHandedOver.Error() + ": " + string(e) }

func (e notHandedOver) Unwrap() error { return ErrNotHandedOver }

// saving is a state in the making.
type saving struct {
	server   *Server
	numbers  flow.Numbers
	services flow.Numbering[Service]
	pools    flow.Numbering[balancer.Pool]
	held     map[*balancer.Pool][]*balancer.Backend
}

// save returns the state of a suspended server. First all that is referred to gets its number,
// services and pools first, and then what refers to it is saved.
func (s *Server) save(e handoverEngine) *State {
	x := &saving{server: s, held: make(map[*balancer.Pool][]*balancer.Backend)}
	bindings := slices.SortedFunc(maps.Values(s.bindings), func(a, b *binding) int { return cmp.Compare(a.at.String(), b.at.String()) })
	x.number(e, bindings)
	st := &State{Version: stateVersion, Clock: s.Now()}
	for _, p := range x.pools.All {
		pool, backends := p.State(x.held[p])
		for _, b := range backends {
			x.numbers.Backends.Of(b)
		}
		st.Pools = append(st.Pools, pool)
	}
	e.save(st, &x.numbers, bindings)
	for i, b := range x.numbers.Bindings.All { // more may be those of sessions
		if i == len(st.Bindings) {
			st.Bindings = append(st.Bindings, bindingState{})
		}
		st.Bindings[i].Flow = b.Save(&x.numbers, x.services.Of)
	}
	for _, svc := range x.services.All {
		st.Services = append(st.Services, svc.Save(&x.numbers))
	}
	for _, c := range x.numbers.Settings.All {
		st.Settings = append(st.Settings, c.Save(&x.numbers, x.services.Of(c.Service), x.pools.Of(c.Pool)))
	}
	st.Requests = x.requests()
	st.Clients = x.clients()
	return st
}

// number gives services, settings, pools and bindings their numbers, those of today before
// those that are only in use yet, and finds the backends that are held.
func (x *saving) number(e handoverEngine, bindings []*binding) {
	for _, svc := range x.server.Services() {
		x.services.Of(svc)
		x.numbers.Settings.Of(svc.Settings())
	}
	for _, b := range bindings {
		x.numbers.Bindings.Of(&b.Binding)
	}
	seen := make(map[*balancer.Backend]bool)
	e.references(func(c *flow.Settings, b *balancer.Backend, at *flow.Binding) {
		x.numbers.Settings.Of(c)
		x.numbers.Bindings.Of(at)
		if b != nil && !seen[b] {
			seen[b] = true
			x.held[c.Pool] = append(x.held[c.Pool], b)
		}
	})
	for _, b := range x.numbers.Bindings.All {
		for _, to := range b.Destinations() {
			x.numbers.Settings.Of(to.Settings())
			x.services.Of(to.Service)
		}
	}
	for i := 0; i < len(x.numbers.Settings.All); i++ { // it grows
		c := x.numbers.Settings.All[i]
		x.services.Of(c.Service)
		x.pools.Of(c.Pool)
		x.numbers.Settings.Of(c.Service.Settings())
	}
}

// requests returns the ports that the kernel has chosen.
func (x *saving) requests() (all []requestState) {
	for _, svc := range x.server.Services() {
		for r, a := range x.server.byName[svc.Name].chosen {
			st := requestState{
				Service: x.services.Of(svc), Nth: r.nth,
				At: Listener{Network: r.address.network, Addr: r.address.at, Path: r.address.path, V6Only: r.address.v6only},
			}
			if b := x.server.bindings[a]; b != nil {
				st.Binding = x.numbers.Bindings.Of(&b.Binding)
			} else {
				st.Port = a.at.Port()
			}
			all = append(all, st)
		}
	}
	return all
}

// clients returns the clients of services that persist, those first whose time ends first.
func (x *saving) clients() (all []clientState) {
	for row := range x.server.Clients() {
		if x.numbers.Backends.Has(row.Backend) && x.services.Has(row.Service) {
			all = append(all, clientState{
				row.Client, x.services.Of(row.Service), x.numbers.Backends.Of(row.Backend), row.Created, row.Expires,
			})
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Expires < all[j].Expires })
	return all
}
