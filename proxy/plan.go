package proxy

import (
	"cmp"
	"fmt"
	"slices"

	"usher/proxy/flow"
)

// instance is a service with one config. Another config makes another instance of it.
type instance struct {
	service  *Service
	given    *ServiceConfig // by Apply
	settings *flow.Settings
	index    int                 // among the services that run
	bindings []*binding          // one for each port of each listener
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

	isReplaced map[*instance]bool
	leaving    []*binding        // of replaced
	isFree     map[*binding]bool // of leaving: nobody has it, and nobody wants it again
	sites      map[address]*site // but for v6only
	owners     map[claimed]*instance
	wants      []want
	refused    ListenErrors
	added      []*binding
	gone       []*binding
	sockets    int // that all listeners take
	datagrams  int // services that are udp

	places, ports int
	division      *flow.Division // nil: as it is
	notes         []string
	shortages     []string // the notes about what the machine gives less of
}

// placement is an index among the services that run.
type placement struct {
	index int
	now   *instance
}

// plan compares the services that are wanted with those that run.
func (s *Server) plan(services []*ServiceConfig) (*plan, error) {
	p := &plan{
		given: services, sockets: s.sockets, datagrams: s.datagrams,
		isReplaced: make(map[*instance]bool), isFree: make(map[*binding]bool),
		sites: make(map[address]*site), owners: make(map[claimed]*instance),
	}
	if err := p.compare(s); err != nil {
		return nil, err
	}
	p.sum()
	p.list(s)
	p.match(s)
	if err := p.divide(s); err != nil {
		return nil, cmp.Or(p.refusal(), err)
	}
	return p, nil
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
		now.service.Trace = s.admission.Trace
	} else {
		now.service, settings = before.service, before.settings
	}
	own := *c
	own.Listeners = slices.Clone(c.Listeners) // which get the ports that the kernel chooses
	now.settings = flow.NewSettings(now.service, own, s.affinity, settings)
	return now
}

// lostFiles returns the services with a unix listener whose file is gone; nil: there are none.
func (s *Server) lostFiles() (lost map[*ServiceConfig]bool) {
	for b := range s.files {
		if !b.file.isThere() {
			if lost == nil {
				lost = make(map[*ServiceConfig]bool)
			}
			for _, c := range b.claims {
				lost[c.owner.given] = true
			}
		}
	}
	return lost
}

// sum adds up what follows from the services that have changed.
func (p *plan) sum() {
	for _, before := range p.replaced {
		p.isReplaced[before] = true
		if before.settings.IsUDP() {
			p.datagrams--
		}
	}
	for _, before := range p.replaced {
		for _, b := range before.bindings {
			if _, isKnown := p.isFree[b]; !isKnown {
				p.leaving = append(p.leaving, b)
				p.isFree[b] = !slices.ContainsFunc(b.claims, func(c claim) bool { return !p.isReplaced[c.owner] })
			}
		}
	}
	for _, now := range p.changed {
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

// noteDatagrams notes what bounds udp, of at most so many flows.
func (p *plan) noteDatagrams(flows int) {
	var note string
	if p.ports, note = localPorts(flows); note != "" {
		p.notes, p.shortages = append(p.notes, note), append(p.shortages, note)
	}
	if note, isShort := receiveBufferNote(); note != "" {
		p.notes = append(p.notes, note)
		if isShort {
			p.shortages = append(p.shortages, note)
		}
	}
}

// divide shares the places out.
func (p *plan) divide(s *Server) error {
	share := shareDescriptors(s.wanted, consumers{listening: p.sockets, workers: s.workers, pipes: s.kind.pipes})
	if share.flows <= 0 {
		return p.tooFewDescriptors(share)
	}
	if share.flows > s.capacity { // somebody has raised the descriptor limit since New
		share.flows, share.note = s.capacity, fmt.Sprintf("max-conns %d (as many as at the start)", s.capacity)
	}
	p.places = share.flows
	p.notes = []string{s.kind.note, fmt.Sprintf("workers %d", s.workers), share.note}
	if s.wanted > share.flows {
		p.shortages = append(p.shortages, share.note)
	}
	if p.datagrams > 0 {
		p.noteDatagrams(share.flows)
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
	if p.division, err = flow.Divide(settings, int64(p.places), int64(p.ports)); err != nil {
		return p.tooFewFlows(err)
	}
	return nil
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
