package balancer

import "time"

// lblcr sends all flows to one destination address to a set of backends: to the one of
// them with the fewest active flows for its weight, unless that is crowded. Then, and
// when none of them will do, the one that wlc chooses gets the flow and joins the set.
// A set of several that has not changed for a day loses the one with the most active
// flows for its weight. See destinations for how long and how many are remembered.
//
// With ipvs, wlc chooses the newest among equals, and so does a set: the one that joined
// last. Else both choose the least recently picked.
//
// The kernel's sets have no bound. Here one that is full loses its most loaded backend
// to the next that joins: its flows are spread out already.
type lblcr struct {
	locality
	homes destinations[serverSet]
}

// serverSetMost is how many backends one destination may have.
const serverSetMost = 16

// serverSetExpiry is how long a set stays as it is before it shrinks.
const serverSetExpiry = 24 * time.Hour

// serverSet is in the order of joining.
type serverSet struct {
	servers [serverSetMost]*Backend
	n       int
	changed time.Duration
}

func newLBLCR(s settings) scheduler {
	return &lblcr{newLocality(s), newDestinations[serverSet]()}
}

func (s *lblcr) acquire(f Flow, tried *Tried) (b *Backend, busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.homes.advance(f.Now)
	home := s.homes.use(f.Local.Addr())
	if home != nil {
		set := &home.value
		set.forget()
		b := s.least(set, tried)
		// As in the kernel, b may be the one that leaves and still get this flow.
		if set.n > 1 && s.homes.now-set.changed > serverSetExpiry {
			if i := set.most(); i >= 0 {
				set.remove(i)
				set.changed = s.homes.now
			}
		}
		if b != nil && !s.crowded(b, tried) && s.hold(b, false) {
			return b, false
		}
	}
	b, busy = s.choose(tried)
	if b == nil {
		return nil, busy
	}
	if home == nil {
		home = s.homes.add(f.Local.Addr())
	}
	if home != nil {
		home.value.add(b, s.homes.now)
	}
	return b, false
}

// least returns the backend of the set that wlc would choose among them, or nil.
func (s *lblcr) least(set *serverSet, tried *Tried) *Backend {
	var least *Backend
	var lowest rank
	for i := set.n - 1; i >= 0; i-- {
		b := set.servers[i]
		if !s.usable(b, tried) || b.busy() {
			continue
		}
		r := s.rule.rank(b)
		if s.ipvs {
			r.turn = 0
		}
		if least == nil || r.before(&lowest) {
			least, lowest = b, r
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
		if b.Weight() > 0 && (most < 0 || fuller(b, set.servers[most])) {
			most = i
		}
	}
	return most
}

func fuller(x, y *Backend) bool {
	return lighter(uint64(y.Active()), uint64(y.Weight()), uint64(x.Active()), uint64(x.Weight()))
}

func (set *serverSet) add(b *Backend, now time.Duration) {
	for _, old := range set.servers[:set.n] {
		if old == b {
			return
		}
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

// forget takes out backends that have left the pool: they do not come back. That is not
// a change that keeps the set from shrinking.
func (set *serverSet) forget() {
	for i := set.n - 1; i >= 0; i-- {
		if set.servers[i].gone.Load() {
			set.remove(i)
		}
	}
}
