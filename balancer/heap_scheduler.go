package balancer

import (
	"math"
	"slices"
	"sync"
)

// heapScheduler picks the member with the least key, from a heap of all: lc, wlc, sed, nq,
// fo, ovf and wrr.
//
// A backend that fails has the least key by most orders, as it holds no flows or its turn
// is overdue. Once it has had a new flow it rests, behind all others, until another one
// is its fair share.
//
// The mutex makes picking and reserving one step: with a lock-free estimate, flows that
// start together all pick the same idle backend. Flows that begin or end hold it for one
// walk along the heap, well under a microsecond. update takes it anew for each member.
// Nobody who holds it waits for anything, and no byte of a flow passes through here.
type heapScheduler struct {
	mu        sync.Mutex
	keyer     keyer
	fair      fairness
	era       uint32      // of the keyer, from 1; see heapNode.era
	unsettled bool        // keys may be of another order, or miss what flows did by another scheduler
	ready     backendHeap // those that do not rest
	resting   backendHeap // by the new flow for which they are due
	weights   uint64      // of all members together
	// newFlows counts the choices that were no retries.
	newFlows uint64
	// picks counts all choices. It begins above any ID: those that were never picked
	// stand before those that were, in the order in which they came.
	picks uint64

	members []member // the last update's; for update alone
}

// keyer orders backends. Its methods are called with heapScheduler.mu held.
type keyer interface {
	// key is that of a backend with its node.weight and its flows at present. It may
	// ignore limits: heapScheduler puts backends without room behind all others.
	key(b *Backend) heapKey
	// enter is called when a backend becomes a member, has room again, or has another
	// weight.
	enter(b *Backend)
	// picked is called after a pick, before b has its new key. first is the least key of
	// that moment: b's own, unless the flow had tried those before it or persistence
	// sent it. Its major is noRoom when nobody had room.
	picked(b *Backend, first heapKey)
}

// fairness is the share of new flows that is a backend's fair one.
type fairness uint8

const (
	fairByWeight fairness = iota
	fairAlike             // the same for all backends
	inOrder               // any: the first one in the order gets all
)

func newHeapScheduler(k keyer, f fairness) *heapScheduler {
	return &heapScheduler{keyer: k, fair: f, era: 1, unsettled: true, picks: 1 << 32}
}

// reorder changes the order. Until update has been called some members stand where they stood in the one before.
func (s *heapScheduler) reorder(k keyer, f fairness) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keyer, s.fair = k, f
	s.era++
	s.unsettled = true
}

// owner is that of a scheduler with a heap.
func (s *heapScheduler) owner() *heapScheduler { return s }

// touch gives a backend the key of the moment, if it is a member.
func (s *heapScheduler) touch(b *Backend) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.node.place >= 0 {
		s.rekey(b)
	}
}

// clear removes all members.
func (s *heapScheduler) clear() {
	for _, m := range s.members {
		s.mu.Lock()
		s.removeLocked(m.Backend)
		s.mu.Unlock()
	}
	s.members = nil
}

// removeLocked removes a member.
func (s *heapScheduler) removeLocked(b *Backend) {
	s.weights -= b.node.weight
	s.heapOf(b).remove(b.node.place)
	b.node.rests = false
}

// enter has the keyer take a backend in, which forgets what another keyer has left of it.
func (s *heapScheduler) enter(b *Backend) {
	if n := &b.node; n.era != s.era {
		n.era, n.next, n.owed = s.era, position{}, false
	}
	s.keyer.enter(b)
}

// update adds new members before it removes old ones, so that the heap does not run empty
// between two lists that are not.
func (s *heapScheduler) update(members []member) {
	for i, m := range members {
		s.mu.Lock()
		n := &m.node
		n.order = uint64(i)
		n.phase = phaseOf(i, len(members))
		if n.place < 0 {
			n.weight = 0
		}
		if n.weight != uint64(m.weight) {
			s.weights += uint64(m.weight) - n.weight
			n.weight = uint64(m.weight)
			s.enter(m.Backend)
		}
		if n.picked == 0 {
			n.picked = uint64(m.id)
		}
		if n.place < 0 {
			s.ready.push(heapItem{s.key(m.Backend), m.Backend})
		} else {
			s.rekey(m.Backend)
		}
		s.mu.Unlock()
	}
	for _, m := range s.members {
		if m.slot >= 0 {
			continue
		}
		s.mu.Lock()
		s.removeLocked(m.Backend)
		s.mu.Unlock()
	}
	s.members = members
}

// settle gives all members the keys of the moment. It follows the update with which flows see a new order.
func (s *heapScheduler) settle() {
	for _, m := range s.members {
		s.touch(m.Backend)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsettled = false
}

// findRoom gives members their keys that have room although their keys deny it, and reports whether there are any.
func (s *heapScheduler) findRoom(h *backendHeap) (found bool) {
	if !s.unsettled {
		return false
	}
	for _, x := range slices.Clone(h.items) {
		if x.major != noRoom {
			continue
		}
		s.rekey(x.backend)
		found = found || h.items[x.backend.node.place].major != noRoom
	}
	return found
}

func (s *heapScheduler) acquire(_ Flow, tried *Tried) (b *Backend, busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.choose(tried)
}

// choose is acquire with mu held.
func (s *heapScheduler) choose(tried *Tried) (b *Backend, busy bool) {
	isNew := tried.Len() == 0
	if isNew {
		s.wake()
	}
	for _, heap := range [...]*backendHeap{&s.ready, &s.resting} {
		for i := heap.first(tried); i >= 0; i = heap.first(tried) {
			x := heap.items[i]
			if x.major == noRoom && s.findRoom(heap) {
				continue
			}
			if x.major == noRoom {
				busy = true // all others stand behind it
				break
			}
			switch {
			case heap == &s.ready && s.mustRest(x.backend, tried):
				s.rest(x.backend)
			case x.backend.reserve(false):
				s.pick(x.backend, isNew)
				return x.backend, false
			default:
				// Its limits were lowered, and update is still to come.
				s.rekey(x.backend)
			}
		}
	}
	return nil, busy
}

// mustRest reports whether a flow should pass b over because it fails: a retry does, and
// a new flow until b is due for one.
func (s *heapScheduler) mustRest(b *Backend, tried *Tried) bool {
	if !b.failing.Load() || s.fair == inOrder {
		return false
	}
	return tried.Len() > 0 || float64(s.newFlows+1) < b.node.due
}

// rest puts a backend behind all that do not rest.
func (s *heapScheduler) rest(b *Backend) {
	s.ready.remove(b.node.place)
	b.node.rests = true
	s.resting.push(heapItem{s.key(b), b})
}

// wake puts back backends whose rest is over with the next new flow. Their turn has waited.
func (s *heapScheduler) wake() {
	for len(s.resting.items) > 0 {
		x := s.resting.items[0]
		if x.major == noRoom || x.num > s.newFlows+1 {
			return
		}
		n := &x.backend.node
		s.enter(x.backend)
		s.resting.remove(n.place)
		n.rests = false
		s.ready.push(heapItem{s.key(x.backend), x.backend})
	}
}

// pick counts a reservation of a backend in a heap, and gives it its new key.
func (s *heapScheduler) pick(b *Backend, isNew bool) {
	if b.node.era != s.era {
		s.enter(b)
	}
	first := heapKey{major: noRoom}
	if len(s.ready.items) > 0 && !s.unsettled {
		first = s.ready.items[0].heapKey
	}
	if isNew {
		s.newFlows++
		b.node.due = s.nextDue(b.node.due, b.node.weight)
	}
	s.picks++
	b.node.picked = s.picks
	s.keyer.picked(b, first)
	s.rekey(b)
}

// nextDue returns when a backend that has just had a new flow is due for the next: one
// interval of its share later, from due if that lies between the last new flow and this.
func (s *heapScheduler) nextDue(due float64, weight uint64) float64 {
	now := float64(s.newFlows)
	if due <= now-1 || due > now {
		due = now
	}
	if s.fair == fairAlike {
		return due + float64(len(s.ready.items)+len(s.resting.items))
	}
	return due + float64(s.weights)/float64(weight)
}

// heapOf returns the heap that a member is in, and rekey gives it the key of the moment.
func (s *heapScheduler) heapOf(b *Backend) *backendHeap {
	if b.node.rests {
		return &s.resting
	}
	return &s.ready
}

func (s *heapScheduler) rekey(b *Backend) { s.heapOf(b).set(b.node.place, s.key(b)) }

// take asks the keyer as well: ovf has bounds that Backend.reserve does not know.
func (s *heapScheduler) take(b *Backend, persistent bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := b.node.place
	if i >= 0 && !persistent {
		s.rekey(b)
		if s.heapOf(b).items[b.node.place].major == noRoom {
			return false
		}
	}
	if !b.reserve(persistent) {
		return false
	}
	if i >= 0 {
		s.pick(b, false)
	}
	return true
}

func (s *heapScheduler) release(b *Backend) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.release()
	if b.node.place >= 0 {
		s.rekey(b)
	}
}

// key is the keyer's, but for a backend without room or one that rests.
func (s *heapScheduler) key(b *Backend) heapKey {
	n, full := &b.node, b.busy()
	if n.full && !full || n.era != s.era {
		s.enter(b)
	}
	if n.full = full; full {
		return heapKey{major: noRoom, den: 1, turn: n.picked}
	}
	if n.rests {
		return heapKey{num: uint64(math.Ceil(n.due)), den: 1}
	}
	return s.keyer.key(b)
}
