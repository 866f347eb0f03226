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
	last     int        // index of the one picked last, -1 before the first one
}

func newIPVSRR() *ipvsRR { return &ipvsRR{last: -1} }

// newest returns the members in the kernel's order.
func newest(members []member) []member {
	return slices.SortedFunc(slices.Values(members), func(a, b member) int { return cmp.Compare(b.id, a.id) })
}

// update goes back from a backend that left to the one before it, so that the one behind
// it is next and nobody is passed over.
func (s *ipvsRR) update(members []member) {
	next := make([]*Backend, len(members))
	for i, m := range newest(members) {
		next[i] = m.Backend
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last >= 0 {
		id := s.backends[s.last].id
		s.last = sort.Search(len(next), func(i int) bool { return next[i].id < id }) - 1
	}
	s.backends = next
}

func (s *ipvsRR) acquire(_ Flow, tried *Tried) (b *Backend, busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.last
	for range s.backends {
		if i++; i == len(s.backends) {
			i = 0
		}
		if b := s.backends[i]; try(b, tried, &busy) {
			s.last = i
			return b, false
		}
	}
	return nil, busy
}
