package balancer

import "sync/atomic"

// roundRobin gives each member its turn in the order of the list.
type roundRobin struct {
	round atomic.Pointer[round]
}

// round is one list of members and whose turn it is.
type round struct {
	backends []*Backend
	_        [cacheLine]byte
	turn     atomic.Uint64 // the next one to take, modulo the number of backends
}

// update starts the new round where the old one stood: with the backend whose turn
// it was, or the first one after it that is still there. So a list that changes often
// favours nobody.
func (s *roundRobin) update(members []member) {
	next := &round{backends: make([]*Backend, len(members))}
	for i, m := range members {
		next.backends[i] = m.Backend
	}
	if old := s.round.Load(); old != nil {
		turn, n := old.turn.Load(), uint64(len(old.backends))
		for i := range n {
			if b := old.backends[(turn+i)%n]; b.slot >= 0 {
				next.turn.Store(uint64(b.slot))
				break
			}
		}
	}
	s.round.Store(next)
}

func (s *roundRobin) acquire(_ Flow, tried *Tried) *Backend {
	r := s.round.Load()
	if len(r.backends) == 0 {
		return nil
	}
	b := r.take()
	if tried.Has(b) {
		if b = r.untried(tried); b == nil {
			return nil
		}
	}
	b.reserve()
	return b
}

func (s *roundRobin) release(b *Backend) { b.release() }

// take uses up one turn.
func (r *round) take() *Backend {
	return r.backends[(r.turn.Add(1)-1)%uint64(len(r.backends))]
}

// untried goes on round, using up the turns of those it skips: otherwise the backend
// after a dead one would get the dead one's share on top of its own. Other flows take
// turns meanwhile, so its own may all fall on tried ones; then it looks at the next
// ones in line, of which at most maxTried can be tried.
func (r *round) untried(tried *Tried) *Backend {
	for range tried.Len() {
		if b := r.take(); !tried.Has(b) {
			return b
		}
	}
	turn, n := r.turn.Load(), uint64(len(r.backends))
	for i := range n {
		if b := r.backends[(turn+i)%n]; !tried.Has(b) {
			return b
		}
	}
	return nil
}
