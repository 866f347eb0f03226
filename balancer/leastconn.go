package balancer

import "sync"

// leastConn picks the member with the fewest active flows, and of equal ones the
// least recently picked.
//
// The mutex is what makes picking and reserving one step: with a lock-free estimate,
// flows that start together all pick the same idle backend. It is held for one walk
// along the heap, well under a microsecond, and only by flows that begin or end and
// by update, which takes it anew for each member that it looks at. Nobody who holds it
// waits for anything, and no byte of a flow passes through here.
type leastConn struct {
	mu    sync.Mutex
	heap  heap   // every item's load is its backend's active count
	picks uint64 // all so far

	members []member // the last update's; for update alone
}

// update adds those that came before it takes away those that left, so that the heap
// does not run empty between two lists that are not.
func (s *leastConn) update(members []member) {
	for _, m := range members {
		s.mu.Lock()
		if m.node.place < 0 {
			s.heap.push(item{load: m.Active(), picked: m.node.picked, backend: m.Backend})
		}
		s.mu.Unlock()
	}
	for _, m := range s.members {
		if m.slot >= 0 {
			continue
		}
		s.mu.Lock()
		s.heap.remove(m.node.place)
		s.mu.Unlock()
	}
	s.members = members
}

func (s *leastConn) acquire(_ Flow, tried *Tried) *Backend {
	s.mu.Lock()
	i := s.heap.first(tried)
	if i < 0 {
		s.mu.Unlock()
		return nil
	}
	x := &s.heap.items[i]
	b := x.backend
	b.reserve()
	s.picks++
	b.node.picked = s.picks
	x.load++
	x.picked = s.picks
	s.heap.down(i)
	s.mu.Unlock()
	return b
}

func (s *leastConn) release(b *Backend) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.release()
	if i := b.node.place; i >= 0 {
		s.heap.items[i].load--
		s.heap.up(i)
	}
}
