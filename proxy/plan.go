package proxy

import (
	"fmt"
	"slices"

	"usher/proxy/flow"
)

// instance is a service with one config. Another config makes another instance of it.
type instance struct {
	service  *Service
	given    *ServiceConfig // by Apply
	settings *flow.Settings
	index    int // among the services that run
	sockets  int // that its listeners take
	bindings []*binding
	chosen   map[request]address // where the kernel has chosen the port; nil: nowhere
}

// plan is what a call of Apply leads to. It lists what changes. Of a service that stays as it is the plan reads the
// pointer alone, unless other shares of places follow for all.
type plan struct {
	given    []*ServiceConfig
	placed   []placement // of instances that are new or have another index
	changed  []*instance // new ones, in the order of the services
	replaced []*instance // whose service has a new one, or is removed
	removed  []*Service
	services []*Service // as they run then

	leaving   []*binding        // of replaced
	isFree    map[*binding]bool // of leaving: nobody wants it again
	wants     []want
	added     []*binding
	gone      []*binding
	sockets   int // that all listeners take
	datagrams int // services that are udp

	places, ports int
	division      *flow.Division // nil: as it is
	notes         []string
}

// placement is an index among the services that run.
type placement struct {
	index int
	now   *instance
}

// want is one port of a listener that a service wants.
type want struct {
	owner    *instance
	listener int // of owner
	offset   uint16
	at       Listener // of this port alone
	request  request  // where the kernel chooses the port
	binding  *binding
}

// plan compares the services that are wanted with those that run.
func (s *Server) plan(services []*ServiceConfig) (*plan, error) {
	p := &plan{given: services, isFree: make(map[*binding]bool), sockets: s.sockets, datagrams: s.datagrams}
	if err := p.compare(s); err != nil {
		return nil, err
	}
	p.sum()
	p.list(s)
	if err := p.divide(s); err != nil {
		return nil, err
	}
	return p, p.match(s)
}

// compare finds the services that are new, have another config, or are gone.
func (p *plan) compare(s *Server) error {
	lost := s.lostFiles()
	stays := func(index int) bool { return index < len(p.given) && p.given[index] == s.given[index] }
	names := make(map[string]bool) // of services that are not where they were
	for i, c := range p.given {
		if i < len(s.given) && s.given[i] == c && !lost[c] {
			continue
		}
		now := s.byName[c.Name]
		if names[c.Name] || now != nil && now.index != i && stays(now.index) {
			return fmt.Errorf("service %s: there are two services of that name", c.Name)
		}
		names[c.Name] = true
		if now == nil || now.given != c || lost[c] {
			if now != nil {
				p.replaced = append(p.replaced, now)
			}
			now = s.newInstance(c, now)
			p.changed = append(p.changed, now)
		}
		p.placed = append(p.placed, placement{i, now})
	}
	for i, c := range s.given {
		if !stays(i) && !names[c.Name] {
			gone := s.byName[c.Name]
			p.replaced = append(p.replaced, gone)
			p.removed = append(p.removed, gone.service)
		}
	}
	return nil
}

// newInstance returns what a service becomes; before is what it is, or nil.
func (s *Server) newInstance(c *ServiceConfig, before *instance) *instance {
	now := &instance{given: c}
	var settings *flow.Settings
	if before == nil {
		now.service = flow.NewService(c.Name, s.seed)
	} else {
		now.service, settings = before.service, before.settings
	}
	own := *c
	own.Listeners = slices.Clone(c.Listeners) // which get the ports that the kernel chooses
	now.settings = flow.NewSettings(now.service, own, s.affinity, settings)
	for _, l := range c.Listeners {
		now.sockets += s.kind.sockets(l, s.workers)
	}
	return now
}

// lostFiles returns the services with a unix listener whose file is gone; nil: there are none.
func (s *Server) lostFiles() (lost map[*ServiceConfig]bool) {
	for b := range s.files {
		if !b.file.isThere() {
			if lost == nil {
				lost = make(map[*ServiceConfig]bool)
			}
			lost[s.byName[b.Destination().Service.Name].given] = true
		}
	}
	return lost
}

// sum adds up what follows from the services that have changed.
func (p *plan) sum() {
	for _, before := range p.replaced {
		p.sockets -= before.sockets
		if before.settings.IsUDP() {
			p.datagrams--
		}
		p.leaving = append(p.leaving, before.bindings...)
	}
	for _, b := range p.leaving {
		p.isFree[b] = true
	}
	for _, now := range p.changed {
		p.sockets += now.sockets
		if now.settings.IsUDP() {
			p.datagrams++
		}
	}
}

// list makes the list of the services that run. It stays the same one if they do.
func (p *plan) list(s *Server) {
	p.services = s.Services()
	if len(p.given) == len(p.services) && !slices.ContainsFunc(p.placed, func(at placement) bool { return p.services[at.index] != at.now.service }) {
		return
	}
	p.services = make([]*Service, len(p.given))
	copy(p.services, s.Services())
	for _, at := range p.placed {
		p.services[at.index] = at.now.service
	}
}

// divide shares the places out.
func (p *plan) divide(s *Server) error {
	share := shareDescriptors(s.wanted, consumers{listening: p.sockets, workers: s.workers, pipes: s.kind.pipes})
	if share.flows <= 0 {
		return fmt.Errorf("descriptor limit: %s", share.note)
	}
	if share.flows > s.capacity { // somebody has raised the descriptor limit since New
		share.flows, share.note = s.capacity, fmt.Sprintf("max-conns %d (as many as at the start)", s.capacity)
	}
	p.places = share.flows
	p.notes = []string{s.kind.note, fmt.Sprintf("workers %d", s.workers), share.note}
	if p.datagrams > 0 {
		var note string
		p.ports, note = localPorts(share.flows)
		for _, note := range []string{note, receiveBufferNote()} {
			if note != "" {
				p.notes = append(p.notes, note)
			}
		}
	}
	if p.dividesAs(s) {
		return nil
	}
	settings := make([]*flow.Settings, len(p.services))
	for i, svc := range p.services {
		settings[i] = svc.Settings()
	}
	for _, at := range p.placed {
		settings[at.index] = at.now.settings
	}
	var err error
	p.division, err = flow.Divide(settings, int64(p.places), int64(p.ports))
	return err
}

// dividesAs reports whether the places are divided as they are now.
func (p *plan) dividesAs(s *Server) bool {
	if p.places != s.places || p.ports != s.ports || len(p.removed) > 0 || len(p.given) != len(s.given) {
		return false
	}
	for i, now := range p.changed { // none is new, so each replaces one
		if !now.settings.DividesAs(p.replaced[i].settings) {
			return false
		}
	}
	return true
}

// match finds the bindings that stay, and those that go.
func (p *plan) match(s *Server) error {
	owners := make(map[address]*Service)
	for _, now := range p.changed {
		asked := make(map[address]int) // listeners whose port the kernel chooses
		for i, l := range now.settings.Listeners {
			if err := checkListener(now.settings, l); err != nil {
				return &ListenError{now.service.Name, l.String(), err}
			}
			for offset := range l.Count() {
				w := want{owner: now, listener: i, offset: uint16(offset), at: l.Port(offset)}
				if a := w.resolve(s, asked); a.network != "" {
					if other := p.claim(s, owners, a, now.service); other != nil {
						return &ListenError{now.service.Name, w.at.String(), fmt.Errorf("listen on %s: service %s listens there", w.at, other.Name)}
					}
					if b := s.bindings[a]; b != nil && b.file.isThere() {
						w.binding = b
						p.isFree[b] = false
					}
				}
				p.wants = append(p.wants, w)
			}
		}
	}
	for _, b := range p.leaving {
		if p.isFree[b] {
			p.gone = append(p.gone, b)
		}
	}
	return nil
}

// checkListener refuses a listener that a service cannot have.
func checkListener(c *flow.Settings, l Listener) error {
	switch {
	case (l.Network == "udp") != c.IsUDP():
		return fmt.Errorf("listen on %s: all listeners of a service are udp, or none is", l)
	case l.Network != "unix" && l.Count() > 1 && (l.Addr.Port() == 0 || int(l.Addr.Port())+l.Count() > 1<<16):
		return fmt.Errorf("listen on %s: a range of ports is within 1-65535", l)
	}
	return nil
}

// resolve returns the address that is wanted. Where the kernel is to choose the port that is the one which it has
// chosen before; without one there is no address yet.
func (w *want) resolve(s *Server, asked map[address]int) address {
	a := addressOf(w.at)
	if w.at.Network == "unix" || a.at.Port() != 0 {
		return a
	}
	w.request = request{a, asked[a]}
	asked[a]++
	before := s.byName[w.owner.service.Name]
	if before == nil || before.chosen[w.request].network == "" {
		return address{}
	}
	a = before.chosen[w.request]
	w.owner.choose(w.request, a)
	return a
}

// choose notes which port the kernel has chosen.
func (now *instance) choose(r request, a address) {
	if now.chosen == nil {
		now.chosen = make(map[request]address)
	}
	now.chosen[r] = a
}

// claim notes that a service has an address, or returns another one that has it.
func (p *plan) claim(s *Server, owners map[address]*Service, a address, svc *Service) (other *Service) {
	a.v6only = false
	if other = owners[a]; other != nil {
		return other
	}
	owners[a] = svc
	for range 2 {
		if b := s.bindings[a]; b != nil {
			if _, leaves := p.isFree[b]; !leaves {
				return b.Destination().Service
			}
		}
		a.v6only = true
	}
	return nil
}
