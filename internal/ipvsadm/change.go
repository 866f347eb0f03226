package ipvsadm

import (
	"math"
	"net/netip"
	"slices"
	"sync/atomic"
)

// State is all that commands have asked for: services in the order in which they were added, and timeouts. Each change
// costs O(1), amortized, and answers with the kernel's Errno, whose checks it makes in the kernel's order.
//
// Many may read a State while nobody changes it. Whoever changes one that others read makes a Clone first.
type State struct {
	Timeouts Timeouts // of --set
	services ordered[Key, *record]
	owner    *owner      // marks the records that no other State has
	isShared atomic.Bool // a clone has the records too
}

// record is a service of one State or more. A State changes it in place if it is the only one.
type record struct {
	service      Service // without its destinations
	destinations ordered[netip.AddrPort, Destination]
	owner        *owner
	whole        atomic.Pointer[Service] // as Services shows it; nil after a change
}

// owner is an identity.
type owner struct{ _ byte }

// NewState returns the state of a machine on which nothing was asked for yet.
func NewState() *State {
	return &State{Timeouts: DefaultTimeouts(), owner: new(owner)}
}

// Clone returns a copy to change. It costs a copy of the list of services, and nothing for each destination.
func (s *State) Clone() *State {
	s.isShared.Store(true)
	return &State{Timeouts: s.Timeouts, services: s.services.clone(), owner: new(owner)}
}

// Services returns the services in the order in which they were added. One that did not change is the same pointer as
// before, in clones too.
func (s *State) Services() []*Service {
	all := make([]*Service, 0, s.services.len())
	for r := range s.services.oldestFirst() {
		all = append(all, r.load())
	}
	return all
}

// Find returns a service, or nil.
func (s *State) Find(key Key) *Service {
	if r, ok := s.services.get(key); ok {
		return (*r).load()
	}
	return nil
}

func (r *record) load() *Service {
	if whole := r.whole.Load(); whole != nil {
		return whole
	}
	whole := r.service
	whole.Destinations = slices.AppendSeq(make([]Destination, 0, r.destinations.len()), r.destinations.newestFirst())
	r.whole.Store(&whole)
	return &whole
}

// Add adds a service without destinations, as IPVS_CMD_NEW_SERVICE does. Those of v are left out.
func (s *State) Add(v Service) error {
	if _, ok := s.services.get(v.Key); ok {
		return EEXIST
	}
	if err := v.check(); err != nil {
		return err
	}
	s.services.add(v.Key, &record{service: v.normal(), owner: s.ownRecords()})
	return nil
}

// Edit replaces all of a service but its Key and its destinations, as IPVS_CMD_SET_SERVICE does.
func (s *State) Edit(v Service) error {
	if _, ok := s.services.get(v.Key); !ok {
		return ESRCH
	}
	if err := v.check(); err != nil {
		return err
	}
	s.edit(v.Key).service = v.normal()
	return nil
}

// Delete deletes a service with its destinations.
func (s *State) Delete(key Key) error {
	if _, ok := s.services.get(key); !ok {
		return ESRCH
	}
	s.services.delete(key)
	return nil
}

// Flush deletes all services. Timeouts stay.
func (s *State) Flush() { s.services = ordered[Key, *record]{} }

// AddDestination adds d as the newest destination of a service.
func (s *State) AddDestination(key Key, d Destination) error {
	r, ok := s.services.get(key)
	if !ok {
		return ESRCH
	}
	if err := d.check(key); err != nil {
		return err
	}
	if _, ok := (*r).destinations.get(d.Addr); ok {
		return EEXIST
	}
	if !isUnicast(d.Addr.Addr()) {
		return EINVAL
	}
	s.edit(key).destinations.add(d.Addr, d)
	return nil
}

// EditDestination replaces all of a destination but its address and its place.
func (s *State) EditDestination(key Key, d Destination) error {
	r, ok := s.services.get(key)
	if !ok {
		return ESRCH
	}
	if err := d.check(key); err != nil {
		return err
	}
	if _, ok := (*r).destinations.get(d.Addr); !ok {
		return ENOENT
	}
	old, _ := s.edit(key).destinations.get(d.Addr)
	*old = d
	return nil
}

// DeleteDestination deletes a destination of a service.
func (s *State) DeleteDestination(key Key, addr netip.AddrPort) error {
	r, ok := s.services.get(key)
	if !ok {
		return ESRCH
	}
	if _, ok := (*r).destinations.get(addr); !ok {
		return ENOENT
	}
	s.edit(key).destinations.delete(addr)
	return nil
}

// maxTimeout is what a kernel of 250 ticks a second can count in an int.
const maxTimeout = math.MaxInt32 / 250

// SetTimeouts sets the timeouts that are not 0.
func (s *State) SetTimeouts(t Timeouts) error {
	if max(t.TCP, t.TCPFin, t.UDP) > maxTimeout {
		return EINVAL
	}
	for _, set := range []struct {
		to   *uint32
		from uint32
	}{{&s.Timeouts.TCP, t.TCP}, {&s.Timeouts.TCPFin, t.TCPFin}, {&s.Timeouts.UDP, t.UDP}} {
		if set.from != 0 {
			*set.to = set.from
		}
	}
	return nil
}

// ownRecords returns the owner of records that s makes, a new one after a Clone.
func (s *State) ownRecords() *owner {
	if s.isShared.Swap(false) {
		s.owner = new(owner)
	}
	return s.owner
}

// edit returns the record of a service that is there, to change it. It is a copy if another State has it.
func (s *State) edit(key Key) *record {
	r, _ := s.services.get(key)
	if own := s.ownRecords(); (*r).owner != own {
		*r = &record{service: (*r).service, destinations: (*r).destinations.clone(), owner: own}
	}
	(*r).whole.Store(nil)
	return *r
}
