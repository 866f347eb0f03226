package balancer

import (
	"slices"
	"sync"
)

// ipvsWRR is weighted round robin as the kernel does it. It walks along the list, newest
// first, and picks whoever weighs at least the level; at the end of the list the level
// falls by one step, and below 1 it begins at the top again. So a heavy backend gets its
// flows in bursts.
//
// Choosing is O(n), like in the kernel, and the mutex is held that long. It does not
// depend on the weights: levels that nobody with room reaches are passed over at once,
// where the kernel walks the list for each.
type ipvsWRR struct {
	counting
	mu      sync.Mutex
	members []member // newest first
	last    int      // index of the one picked last, -1 at the head of the list
	// step is the greatest common divisor of all weights. top is the largest one less
	// step-1, so that the lowest level is 1. Both and level are 0 without members.
	step, top, level int
}

// update follows the kernel on each edit: the walk begins at the head again, on the level
// at which it was, as far as there still is such a level. Another order of the same
// members is no edit: the kernel does not know it.
func (s *ipvsWRR) update(members []member) {
	next := newest(members)
	step, heaviest := 0, 0
	for _, m := range next {
		step = gcd(m.weight, step)
		heaviest = max(heaviest, m.weight)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(next, s.members) {
		return
	}
	s.members, s.last = next, -1
	s.step, s.top = step, heaviest-max(step-1, 0)
	switch {
	case s.level == 0 || s.level > s.top:
		s.level = s.top
	case s.step > 1:
		s.level = s.level/s.step*s.step + 1
	}
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func (s *ipvsWRR) acquire(_ Flow, tried *Tried) (b *Backend, busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.walk(tried); b != nil {
		return b, false
	}
	// Once more only if one that had room has none by the second walk.
	for {
		heaviest, busy := s.heaviest(tried)
		if heaviest == 0 {
			// The kernel starts anew, unless it was on the lowest level amid the list.
			if s.last < 0 || s.level > s.step {
				s.last, s.level = -1, s.top
			}
			return nil, busy
		}
		if s.level -= s.step; s.level <= 0 {
			s.level = s.top
		}
		if over := s.level - heaviest; over > 0 {
			s.level -= ((over-1)/s.step + 1) * s.step
		}
		s.last = -1
		if b := s.walk(tried); b != nil {
			return b, false
		}
	}
}

// walk reserves the next one on this level, up to the end of the list.
func (s *ipvsWRR) walk(tried *Tried) *Backend {
	var busy bool
	for i := s.last + 1; i < len(s.members); i++ {
		if m := &s.members[i]; m.weight >= s.level && try(m.Backend, tried, &busy) {
			s.last = i
			return m.Backend
		}
	}
	return nil
}

// heaviest is the largest weight of those that are untried and have room, or 0. busy
// says, if it is 0, that an untried one had no room.
func (s *ipvsWRR) heaviest(tried *Tried) (weight int, busy bool) {
	for i := range s.members {
		switch m := &s.members[i]; {
		case m.weight <= weight || tried.Has(m.Backend):
		case m.Backend.busy():
			busy = true
		default:
			weight = m.weight
		}
	}
	return weight, busy
}
