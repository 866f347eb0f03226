package balancer

import (
	"cmp"
	"slices"
	"sort"
	"sync"
)

// ipvsRR is round robin as the kernel does it: from the newest backend to the oldest, and
// on from the last one that was picked. One that comes in stands at the head of the list,
// so it waits until the round is over. Choosing is O(1), and O(n) past those that are
// tried or full; the mutex is held that long.
type ipvsRR struct {
	counting
	mu       sync.Mutex
	backends []*Backend // newest first
	places   [cursors]ipvsPlace
}

// ipvsPlace is where the kernel's pointer stands. The kernel knows no flow that moves on:
// those have a place of their own.
type ipvsPlace struct {
	last *Backend // picked last, also while it is no member; nil: the head of the list
	at   int      // index of last, or of the one before its place; -1: the head
}

func newIPVSRR() *ipvsRR { return &ipvsRR{places: [cursors]ipvsPlace{{at: -1}, {at: -1}}} }

// newest returns the members in the kernel's order.
func newest(members []member) []member {
	return slices.SortedFunc(slices.Values(members), func(a, b member) int { return cmp.Compare(b.id, a.id) })
}

// update goes back from a backend that was removed to the one before it, so that the one
// behind it is next and nobody is passed over. One that is no member for a while keeps
// its place, as one of weight 0 does in the kernel's list.
func (s *ipvsRR) update(members []member) {
	next := make([]*Backend, len(members))
	for i, m := range newest(members) {
		next[i] = m.Backend
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backends = next
	for c := range s.places {
		s.places[c].follow(next)
	}
}

// follow finds the place in a new list.
func (p *ipvsPlace) follow(list []*Backend) {
	if p.last == nil {
		return
	}
	p.at = sort.Search(len(list), func(i int) bool { return list[i].id < p.last.id }) - 1
	if p.last.gone.Load() {
		p.last = nil
		if p.at >= 0 {
			p.last = list[p.at]
		}
	}
}

func (s *ipvsRR) acquire(_ Flow, tried *Tried) (b *Backend, busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &s.places[tried.cursor()]
	i := p.at
	for range s.backends {
		if i++; i == len(s.backends) {
			i = 0
		}
		if b := s.backends[i]; try(b, tried, &busy) {
			p.last, p.at = b, i
			return b, false
		}
	}
	return nil, busy
}

// ipvsWRR is weighted round robin as the kernel does it. It walks along the list, newest
// first, and picks those that weigh at least the level; at the end of the list the level
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
	walks   [cursors]ipvsWalk
	// step is the greatest common divisor of all weights. top is the largest one less
	// step-1, so that the lowest level is 1. Both are 0 without members.
	step, top int
}

// ipvsWalk is where a walk has come to. The kernel knows no flow that moves on: those have
// a walk of their own.
type ipvsWalk struct {
	last  int // index of the one picked last, -1 at the head of the list
	level int // 0 without members
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
	s.members = next
	s.step, s.top = step, heaviest-max(step-1, 0)
	for c := range s.walks {
		w := &s.walks[c]
		w.last = -1
		switch {
		case w.level == 0 || w.level > s.top:
			w.level = s.top
		case s.step > 1:
			w.level = w.level/s.step*s.step + 1
		}
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
	w := &s.walks[tried.cursor()]
	if b := s.walk(w, tried); b != nil {
		return b, false
	}
	// Once more only if one that had room has none by the second walk.
	for {
		heaviest, busy := s.heaviest(tried)
		if heaviest == 0 {
			// The kernel starts anew, unless it was on the lowest level amid the list.
			if w.last < 0 || w.level > s.step {
				w.last, w.level = -1, s.top
			}
			return nil, busy
		}
		if w.level -= s.step; w.level <= 0 {
			w.level = s.top
		}
		if over := w.level - heaviest; over > 0 {
			w.level -= ((over-1)/s.step + 1) * s.step
		}
		w.last = -1
		if b := s.walk(w, tried); b != nil {
			return b, false
		}
	}
}

// walk reserves the next one on this level, up to the end of the list.
func (s *ipvsWRR) walk(w *ipvsWalk, tried *Tried) *Backend {
	var busy bool
	for i := w.last + 1; i < len(s.members); i++ {
		if m := &s.members[i]; m.weight >= w.level && try(m.Backend, tried, &busy) {
			w.last = i
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
