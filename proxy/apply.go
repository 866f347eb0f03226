package proxy

import (
	"errors"
	"slices"

	"go.uber.org/zap"
)

// ErrShutDown is what Apply returns once the server shuts down.
var ErrShutDown = errors.New("the server is shut down")

// Apply has the server run these services and no others. It first binds the addresses that
// are new. If that fails nothing has changed, and the error says all that cannot be had; see
// [ListenErrors]. What follows cannot fail:
//
//   - A service is known by its name. Its new flows get the new config; those that live
//     keep the one that they began with.
//   - A listener is known by its address. One that stays keeps its sockets and the clients
//     that wait at them, also when another service has it from now on. Port 0 stays the
//     port that the kernel chose for this service. Mode and owners of a unix listener's
//     file are changed in place; an empty one is left as it is. If that file is gone, it is
//     made anew. Where that fails the listener of a service with the same pointer stays as
//     it is, and the next call tries again.
//   - The listeners of a service with [flow.EmptyClose] are closed. They keep the ports that the kernel chose.
//   - A listener that no service wants any more is closed once the clients are served that
//     the kernel has accepted. One on all addresses may give way to one on a single address
//     and back, with the event loops; the portable engine takes two calls for that.
//   - The flows of a service that is gone live on; [Server.CutService] ends them. Its
//     clients that wait for a backend are turned away.
//
// Configs are not written to once they were given, by anybody. The same pointer says that
// nothing has changed, and then costs nothing; an equal config under another pointer does
// the same for the price of a change.
//
// Before Start it binds, and nobody is served yet. Calls wait for each other. None of them
// holds up a flow.
func (s *Server) Apply(services []*ServiceConfig) error {
	c, err := s.Prepare(services)
	if err != nil {
		return err
	}
	c.Commit()
	return nil
}

// Change is a call of [Server.Apply] between its two parts: the addresses are bound, and nobody is served by them yet.
type Change struct {
	server *Server
	plan   *plan
}

// Prepare does the part of [Server.Apply] that can fail. The caller makes the pools of new services ready and calls
// Commit. Until then other calls of Apply, Prepare, Start and Shutdown wait.
func (s *Server) Prepare(services []*ServiceConfig) (*Change, error) {
	s.applying.Lock()
	c, err := s.prepare(services)
	if err != nil {
		s.applying.Unlock()
	}
	return c, err
}

func (s *Server) prepare(services []*ServiceConfig) (*Change, error) {
	if s.draining.Load() {
		return nil, ErrShutDown
	}
	p, err := s.plan(services)
	if err != nil {
		return nil, err
	}
	if err := s.bind(p); err != nil {
		for _, b := range p.added {
			s.engine.discard(b)
		}
		return nil, err
	}
	return &Change{s, p}, nil
}

// Commit puts the change into effect.
func (c *Change) Commit() {
	defer c.server.applying.Unlock()
	c.server.commit(c.plan)
}

// ChangedService is a service with a config that is new in a change.
type ChangedService struct {
	Given     *ServiceConfig // to Prepare
	Service   *Service
	Listeners []Listener // of Given, with the ports that the kernel chose
}

// Services returns those with a new config. Those with the one that they have already may be among them.
func (c *Change) Services() []ChangedService {
	all := make([]ChangedService, len(c.plan.changed))
	for i, now := range c.plan.changed {
		all[i] = ChangedService{now.given, now.service, now.settings.Listeners}
	}
	return all
}

// bind binds what is new. After an error what is in p.added is still bound.
func (s *Server) bind(p *plan) error {
	leaves := make(map[address]*binding) // by network and port, the one on all addresses first
	for _, b := range p.gone {
		if at := b.port(); leaves[at] == nil || b.at.Addr.Addr().IsUnspecified() {
			leaves[at] = b
		}
	}
	type listener struct {
		owner *instance
		index int
	}
	isRefused := make(map[listener]bool)
	for i := range p.wants {
		w := &p.wants[i]
		if isRefused[listener{w.owner, w.listener}] {
			continue
		}
		if err := s.bindWant(p, w, leaves); err != nil {
			isRefused[listener{w.owner, w.listener}] = true
			p.refuse(w, err)
		}
	}
	if err := p.refusal(); err != nil {
		return err
	}
	return p.changeFiles()
}

// bindWant binds one port of a listener, unless it is bound already.
func (s *Server) bindWant(p *plan, w *want, leaves map[address]*binding) error {
	if w.site != nil && w.binding == nil {
		w.binding = w.site.binding
	}
	if w.binding == nil {
		b := &binding{at: w.at.Socket(), path: w.at.Path, splits: !w.owner.settings.MergesDatagrams(), descriptors: w.sockets}
		if w.site != nil && w.at.Network != "unix" {
			b.at.Addr = w.site.address.at // with the port that the kernel has chosen before the listener was closed
		}
		if other := leaves[b.port()]; other != nil {
			b.joins = b.overlaps(other)
		}
		err := s.bindOrInherit(b, w.owner.settings.Listeners[w.listener].Count() > shardedPorts)
		switch {
		case err == nil:
			w.binding = b
			p.added = append(p.added, b)
		case s.keepsLost(p, w):
			s.log.Warn("the file of a socket is gone, and cannot be made anew",
				zap.String("service", w.owner.service.Name), zap.Stringer("listen", w.at), zap.Error(err))
		default:
			return err
		}
		if w.at.Network != "unix" && w.at.Addr.Port() == 0 {
			w.owner.choose(w.request, b.address())
		}
		if w.site != nil {
			w.site.binding = w.binding
		}
	}
	w.owner.bindings = append(w.owner.bindings, w.binding)
	if l := &w.owner.settings.Listeners[w.listener]; l.Network != "unix" && l.Addr.Port() == 0 {
		l.Addr = w.binding.local
	}
	return nil
}

// keepsLost has a listener whose file is gone stay as it is, if its service does: what became of the file must not stand in
// the way of other changes.
func (s *Server) keepsLost(p *plan, w *want) bool {
	b := s.bindings[addressOf(w.at)]
	if now := s.byName[w.owner.service.Name]; b == nil || now == nil || now.given != w.owner.given {
		return false
	}
	w.binding = b
	p.gone = slices.DeleteFunc(p.gone, func(other *binding) bool { return other == b })
	return true
}

// changeFiles gives the files of unix listeners that stay their new mode and owners.
// After an error those before have theirs from before, as far as that goes.
func (p *plan) changeFiles() error {
	var undo []func()
	isChanged := make(map[*binding]bool)
	for i := range p.wants {
		w := &p.wants[i]
		if w.at.Socket() == w.binding.at || w.binding.file.path == "" || isChanged[w.binding] {
			continue
		}
		isChanged[w.binding] = true
		back, err := w.binding.file.change(w.at)
		if err != nil {
			for _, f := range undo {
				f()
			}
			p.refuse(w, err)
			return p.refusal()
		}
		undo = append(undo, back)
	}
	return nil
}

// commit puts a plan into effect.
func (s *Server) commit(p *plan) {
	for _, svc := range p.removed {
		svc.MarkRemoved()
	}
	for _, b := range p.gone {
		b.Retire()
	}
	if p.division != nil {
		s.admission.Redivide(p.division, p.removed)
	}
	persists := false
	for _, now := range p.changed {
		if now.settings.LogAccess && s.access.Load() == nil {
			s.access.Store(newAccessLog(s.log, !s.admission.RecordSome))
		}
		now.service.SetSettings(now.settings)
		persists = persists || now.settings.Persist.On
	}
	s.adopt(p)
	for i := range p.wants {
		if w := &p.wants[i]; w.at.Network == "unix" {
			w.binding.at = w.at.Socket()
		}
	}
	for b, claims := range p.claims() {
		b.assign(claims)
	}
	s.running.Store(&running{services: p.services, notes: p.notes, shortages: p.shortages})
	if persists && !s.expires {
		s.expires = true
		s.expiry.Go(s.expireAffinity)
	}
	if s.started && len(p.added) > 0 {
		s.engine.serve(p.added)
	}
	s.closeBindings(p.gone)
	s.forgetServices(p.removed)
}

// adopt makes a plan what the next one is compared with.
func (s *Server) adopt(p *plan) {
	for _, svc := range p.removed {
		delete(s.byName, svc.Name)
	}
	for _, at := range p.placed {
		at.now.index = at.index
		s.byName[at.now.service.Name] = at.now
	}
	for _, b := range p.gone {
		delete(s.bindings, b.address())
		delete(s.files, b)
	}
	for _, b := range p.added {
		s.bindings[b.address()] = b
		s.dropClaimed(b)
		if b.file.path != "" {
			s.files[b] = true
		}
	}
	s.given = append(s.given[:0], p.given...)
	clear(s.given[len(p.given):cap(s.given)])
	s.sockets, s.datagrams, s.places, s.ports = p.sockets, p.datagrams, p.places, p.ports
}

// closeBindings gives up addresses.
func (s *Server) closeBindings(gone []*binding) {
	if s.started && len(gone) > 0 {
		s.engine.close(gone)
		return
	}
	for _, b := range gone {
		s.engine.discard(b)
	}
}

// forgetServices turns the clients away that wait for a service which is gone, and has
// all its clients forget their backends.
func (s *Server) forgetServices(gone []*Service) {
	persisted := make(map[*Service]bool)
	for _, svc := range gone {
		svc.WakeQueue()
		if svc.HasPersisted() {
			persisted[svc] = true
		}
	}
	if len(persisted) > 0 {
		s.affinity.DropServices(func(svc *Service) bool { return persisted[svc] })
	}
}
