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
	last     *Backend   // picked last, also while it is no member; nil: the head of the list
	at       int        // index of last, or of the one before its place; -1: the head
}

func newIPVSRR() *ipvsRR { return &ipvsRR{at: -1} }

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
	if s.last == nil {
		return
	}
	s.at = sort.Search(len(next), func(i int) bool { return next[i].id < s.last.id }) - 1
	if s.last.gone.Load() {
		s.last = nil
		if s.at >= 0 {
			s.last = next[s.at]
		}
	}
}

func (s *ipvsRR) acquire(_ Flow, tried *Tried) (b *Backend, busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.at
	for range s.backends {
		if i++; i == len(s.backends) {
			i = 0
		}
		if b := s.backends[i]; try(b, tried, &busy) {
			s.last, s.at = b, i
			return b, false
		}
	}
	return nil, busy
}
