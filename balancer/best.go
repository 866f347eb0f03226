package balancer

import "sync"

// best picks the member that stands first by a rule, and keeps all of them in a
// ranking. lc, wlc, sed, nq, fo, ovf and wrr are rules.
//
// The mutex is what makes picking and reserving one step: with a lock-free estimate,
// flows that start together all pick the same idle backend. It is held for one walk
// along the heap, well under a microsecond, and only by flows that begin or end and
// by update, which takes it anew for each member that it looks at. Nobody who holds it
// waits for anything, and no byte of a flow passes through here.
type best struct {
	rule rule
	mu   sync.Mutex
	rows ranking
	// picks counts all so far. It begins above any ID: those that were never picked
	// stand before those that were, in the order in which they came.
	picks uint64

	members []member // the last update's; for update alone
}

// rule ranks backends. Its methods are called with best.mu held.
type rule interface {
	// rank of a backend with its node.weight and its flows at present. It may leave
	// out what best sees to: that one without room stands behind all others.
	rank(b *Backend) rank
	// enter is told of a backend that comes in, comes back to having room, or has
	// another weight.
	enter(b *Backend)
	// picked is told of a pick, before the backend is ranked anew, and of the rank that
	// stood first then: the backend's own, unless the flow had tried those before it or
	// persistence sent it. Its major is noRoom when nobody had room.
	picked(b *Backend, first rank)
}

func newBest(r rule) *best { return &best{rule: r, picks: 1 << 32} }

// update adds those that came before it takes away those that left, so that the ranking
// does not run empty between two lists that are not.
func (s *best) update(members []member) {
	for i, m := range members {
		s.mu.Lock()
		n := &m.node
		n.order = uint64(i)
		n.phase = phaseOf(i, len(members))
		if n.place < 0 || n.weight != uint64(m.weight) {
			n.weight = uint64(m.weight)
			s.rule.enter(m.Backend)
		}
		if n.picked == 0 {
			n.picked = uint64(m.id)
		}
		if n.place < 0 {
			s.rows.push(ranked{s.rank(m.Backend), m.Backend})
		} else {
			s.rows.set(n.place, s.rank(m.Backend))
		}
		s.mu.Unlock()
	}
	for _, m := range s.members {
		if m.slot >= 0 {
			continue
		}
		s.mu.Lock()
		s.rows.remove(m.node.place)
		s.mu.Unlock()
	}
	s.members = members
}

func (s *best) acquire(_ Flow, tried *Tried) (b *Backend, busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.choose(tried)
}

// choose is acquire with mu held.
func (s *best) choose(tried *Tried) (b *Backend, busy bool) {
	for {
		i := s.rows.first(tried)
		if i < 0 {
			return nil, false
		}
		x := s.rows.items[i]
		if x.major == noRoom {
			return nil, true // all others stand behind it
		}
		if x.backend.reserve(false) {
			s.pick(x.backend)
			return x.backend, false
		}
		// Its limits were lowered, and update is still to come. Now it stands behind.
		s.rows.set(i, s.rank(x.backend))
	}
}

// pick counts a reservation of a backend in the ranking, and ranks it anew.
func (s *best) pick(b *Backend) {
	first := s.rows.items[0].rank
	s.picks++
	b.node.picked = s.picks
	s.rule.picked(b, first)
	s.rows.set(b.node.place, s.rank(b))
}

// take asks the rule as well: ovf has bounds that Backend.reserve does not know.
func (s *best) take(b *Backend, persistent bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := b.node.place
	if i >= 0 && !persistent {
		r := s.rank(b)
		s.rows.set(i, r)
		if r.major == noRoom {
			return false
		}
	}
	if !b.reserve(persistent) {
		return false
	}
	if i >= 0 {
		s.pick(b)
	}
	return true
}

func (s *best) release(b *Backend) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.release()
	if i := b.node.place; i >= 0 {
		s.rows.set(i, s.rank(b))
	}
}

// rank is the rule's, but for a backend without room.
func (s *best) rank(b *Backend) rank {
	n, full := &b.node, b.busy()
	if n.full && !full {
		s.rule.enter(b)
	}
	if n.full = full; full {
		return rank{major: noRoom, den: 1, turn: n.picked}
	}
	return s.rule.rank(b)
}
