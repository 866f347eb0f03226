package balancer

import (
	"slices"
	"time"
)

// locality is lblc or lblcr: a flow goes where flows to its destination address went
// before, so that caches behind the balancer each hold a part of all content. Where that
// will not do it goes where wlc sends it, which is remembered. See destinations for how
// long and how many; a flow to a destination that is not remembered is wlc's.
//
// With ipvs wlc chooses the newest among equals, as the kernel does. Limits.Max is always
// kept. A retry takes the destination along to the next backend.
type locality[T any] struct {
	*heapScheduler
	ipvs    bool
	entries destinations[T]
	// reserve reserves the backend that an entry stands for, or returns nil. add puts one
	// that wlc chose into the entry.
	reserve func(s *locality[T], entry *T, tried *Tried) *Backend
	add     func(entry *T, b *Backend, now time.Duration)
	// With ipvs: the members, if any of them has limits. Guarded by heapScheduler.mu.
	limited []member
}

// newLBLC has one backend a destination: the one that the last flow went to, while it is a
// member, has room and is not crowded. With ipvs a backend keeps its destinations while
// it is between its thresholds, as in the kernel.
func newLBLC(s settings) scheduler {
	return newLocality(s, func(s *locality[*Backend], entry **Backend, tried *Tried) *Backend {
		if b := *entry; s.usable(b, tried) && !s.crowded(b, tried) && s.hold(b, tried, s.ipvs) {
			return b
		}
		return nil
	}, func(entry **Backend, b *Backend, _ time.Duration) { *entry = b })
}

func newLocality[T any](s settings, reserve func(*locality[T], *T, *Tried) *Backend, add func(*T, *Backend, time.Duration)) scheduler {
	return &locality[T]{
		heapScheduler: s.heapScheduler(newWeightedLeastConn(s), fairByWeight), ipvs: s.ipvs,
		entries: newDestinations[T](), reserve: reserve, add: add,
	}
}

func (s *locality[T]) update(members []member) {
	s.heapScheduler.update(members)
	if !s.ipvs {
		return
	}
	var limited []member
	for _, m := range members {
		if m.limits != nil {
			limited = members
			break
		}
	}
	s.mu.Lock()
	s.limited = limited
	s.mu.Unlock()
}

func (s *locality[T]) acquire(f Flow, tried *Tried) (b *Backend, busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries.advance(f.Now)
	entry := s.entries.use(f.Local.Addr())
	if entry != nil {
		if b := s.reserve(s, &entry.value, tried); b != nil {
			return b, false
		}
	}
	b, busy = s.choose(tried)
	if b == nil {
		return nil, busy
	}
	if entry == nil {
		entry = s.entries.add(f.Local.Addr())
	}
	if entry != nil {
		s.add(&entry.value, b, s.entries.now)
	}
	return b, false
}

// usable reports whether a backend of an entry is one to choose from.
func (s *locality[T]) usable(b *Backend, tried *Tried) bool {
	return b.node.place >= 0 && b.Weight() > 0 && !tried.Has(b)
}

// crowded reports whether a destination should leave b: it has more flows than weight,
// and another backend has less than half of that. Weights are those asked for, since here
// they stand for flows and not for shares.
//
// The other one is the one that wlc chooses. With ipvs it may also be one without room,
// which does not get the destination, as in the kernel. To see those, all members are
// looked at, but only if some of them have limits.
func (s *locality[T]) crowded(b *Backend, tried *Tried) bool {
	if b.Active() <= int64(b.Weight()) {
		return false
	}
	if i := s.ready.first(tried); i >= 0 && s.ready.items[i].major != noRoom && half(s.ready.items[i].backend) {
		return true
	}
	for _, m := range s.limited {
		if half(m.Backend) && !tried.Has(m.Backend) {
			return true
		}
	}
	return false
}

func half(b *Backend) bool { return b.Active()*2 < int64(b.Weight()) }

// hold reserves a usable backend; persistent passes its thresholds.
func (s *locality[T]) hold(b *Backend, tried *Tried, persistent bool) bool {
	if !b.reserve(persistent) {
		return false
	}
	s.pick(b, tried.Len() == 0)
	return true
}

// serverSet is what lblcr remembers of a destination: backends in the order of joining.
type serverSet struct {
	servers [serverSetMost]*Backend
	n       int
	changed time.Duration
}

// serverSetMost is how many backends one destination may have.
const serverSetMost = 16

// serverSetExpiry is how long a set stays as it is before it shrinks.
const serverSetExpiry = 24 * time.Hour

// newLBLCR has a set of backends a destination. The one with the fewest active flows for
// its weight gets the flow, unless it is crowded: then wlc's choice gets it and joins. A
// set of several that has not changed for a day loses its most loaded backend.
//
// Of equal backends of a set, the last to join gets the flow with ipvs, else the least
// recently picked. The kernel's sets have no bound. Here a full one loses its most loaded
// backend to the next that joins: its flows are spread out already.
func newLBLCR(s settings) scheduler {
	return newLocality(s, reserveOfSet, (*serverSet).add)
}

func reserveOfSet(s *locality[serverSet], set *serverSet, tried *Tried) *Backend {
	set.forget()
	b := leastOfSet(s, set, tried)
	// As in the kernel, b may be the one that leaves and still get this flow.
	if set.n > 1 && s.entries.now-set.changed > serverSetExpiry {
		if i := set.most(); i >= 0 {
			set.remove(i)
			set.changed = s.entries.now
		}
	}
	if b != nil && !s.crowded(b, tried) && s.hold(b, tried, false) {
		return b
	}
	return nil
}

// leastOfSet returns the backend of the set that wlc prefers, or nil. One that fails has
// the fewest flows, and would be the least of its sets for ever.
func leastOfSet(s *locality[serverSet], set *serverSet, tried *Tried) *Backend {
	var least *Backend
	var lowest heapKey
	for i := set.n - 1; i >= 0; i-- {
		b := set.servers[i]
		if !s.usable(b, tried) || b.busy() || s.mustRest(b, tried) {
			continue
		}
		k := s.keyer.key(b)
		if s.ipvs {
			k.turn = 0
		}
		if least == nil || k.before(&lowest) {
			least, lowest = b, k
		}
	}
	return least
}

// most returns the index of the backend with the most active flows for its weight, of
// equal ones the one that joined last; members or not. It is -1 when all have weight 0.
func (set *serverSet) most() int {
	most := -1
	for i := set.n - 1; i >= 0; i-- {
		b := set.servers[i]
		if b.Weight() == 0 {
			continue
		}
		if most >= 0 {
			x := set.servers[most]
			if !lighter(uint64(x.Active()), uint64(x.Weight()), uint64(b.Active()), uint64(b.Weight())) {
				continue
			}
		}
		most = i
	}
	return most
}

func (set *serverSet) add(b *Backend, now time.Duration) {
	if slices.Contains(set.servers[:set.n], b) {
		return
	}
	if set.n == serverSetMost {
		set.remove(max(set.most(), 0))
	}
	set.servers[set.n] = b
	set.n++
	set.changed = now
}

func (set *serverSet) remove(i int) {
	copy(set.servers[i:set.n], set.servers[i+1:set.n])
	set.n--
	set.servers[set.n] = nil
}

// forget takes out backends that have left the pool. That is not a change that keeps the
// set from shrinking.
func (set *serverSet) forget() {
	for i := set.n - 1; i >= 0; i-- {
		if set.servers[i].gone.Load() {
			set.remove(i)
		}
	}
}
