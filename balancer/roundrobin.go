package balancer

import "sync/atomic"

// roundRobin gives each member its turn in the order of the list. See ipvsRR for the
// kernel's.
type roundRobin struct {
	counting
	round atomic.Pointer[round]
}

// round is one list of members and whose turn it is.
type round struct {
	backends []*Backend
	turns    [cursors]turn // see Tried.cursor
}

// turn is the next one to take, modulo the number of backends.
type turn struct {
	_ [cacheLine]byte
	atomic.Uint64
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
		for c := range old.turns {
			turn, n := old.turns[c].Load(), uint64(len(old.backends))
			for i := range n {
				if b := old.backends[(turn+i)%n]; b.slot >= 0 {
					next.turns[c].Store(uint64(b.slot))
					break
				}
			}
		}
	}
	s.round.Store(next)
}

func (s *roundRobin) acquire(_ Flow, tried *Tried) (b *Backend, busy bool) {
	r := s.round.Load()
	if len(r.backends) == 0 {
		return nil, false
	}
	t := &r.turns[tried.cursor()]
	if b = r.take(t); !avoid(b, tried) && try(b, tried, &busy) {
		return b, false
	}
	return r.next(t, tried, busy)
}

// take uses up one turn.
func (r *round) take(t *turn) *Backend {
	return r.backends[(t.Add(1)-1)%uint64(len(r.backends))]
}

// avoid reports whether a flow should not move on to b: others have failed there, too.
func avoid(b *Backend, tried *Tried) bool { return tried.Len() > 0 && b.failing.Load() }

// next goes on round, using up the turns of those it skips: otherwise the backend
// after a dead one would get the dead one's share on top of its own. Other flows take
// turns meanwhile, so its own may all fall on those that are tried or full; then it
// looks at each one in line, those that fail others included.
func (r *round) next(t *turn, tried *Tried, busy bool) (*Backend, bool) {
	for range maxTried {
		if b := r.take(t); !avoid(b, tried) && try(b, tried, &busy) {
			return b, false
		}
	}
	turn, n := t.Load(), uint64(len(r.backends))
	for i := range n {
		if b := r.backends[(turn+i)%n]; try(b, tried, &busy) {
			t.CompareAndSwap(turn, turn+i+1)
			return b, false
		}
	}
	return nil, busy
}

// try reserves b if it is untried and has room. It sets busy if it has none.
func try(b *Backend, tried *Tried, busy *bool) bool {
	if tried.Has(b) {
		return false
	}
	if b.reserve(false) {
		return true
	}
	*busy = true
	return false
}
