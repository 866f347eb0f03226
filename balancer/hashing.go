package balancer

import (
	"slices"
	"sync/atomic"
)

// hashing is the scheduler of all consistent hashes: a flow's key gives a hash, the
// hash a slot, and the slot a backend. It needs no memory of clients, agrees with other
// instances that have the same backends in any order, and when a backend comes or goes
// few flows of the others move. mh, ring, hrw, and the default forms of sh and dh differ
// in how the table is built.
type hashing struct {
	counting // persistence passes the bound: such a flow counts, but has no choice
	key      HashKey
	build    func([]member) *hashTable
	table    atomic.Pointer[hashTable]
	bound    bound

	members []member // the last update's; for update alone
}

func newHashing(key HashKey, b bound, build func([]member) *hashTable) *hashing {
	return &hashing{key: key, build: build, bound: b}
}

// update builds no table when nothing has changed that it depends on, as with new limits.
func (s *hashing) update(members []member) {
	same := func(x, y member) bool { return x.Backend == y.Backend && x.weight == y.weight }
	switch {
	case len(members) == 0:
		s.table.Store(new(hashTable))
	case !slices.EqualFunc(members, s.members, same):
		s.table.Store(s.build(members))
	}
	s.members = members
}

func (s *hashing) acquire(f Flow, tried *Tried) (b *Backend, busy bool) {
	t := s.table.Load()
	if len(t.backends) == 0 {
		return nil, false
	}
	h := s.key.hash(&f)
	if s.bound.percent > 0 {
		return s.bound.acquire(t, h, tried)
	}
	slot := t.slot(h)
	if b = t.backends[t.slots[slot]]; try(b, tried, &busy) {
		return b, false
	}
	w := t.walk(h, slot, hashWalkSteps)
	for i := w.next(); i >= 0; i = w.next() {
		if b = t.backends[i]; try(b, tried, &busy) {
			return b, false
		}
	}
	return nil, busy
}

// hashSlots is the number of slots of mh and hrw: a prime, so that any step visits them
// all, and the small size of the Maglev paper. It is part of the contract between
// instances; see maglev.go.
const hashSlots = 65537

// hashTable is immutable. The zero value is that of no members.
type hashTable struct {
	backends []*Backend
	weights  []uint64 // of backends, as members
	weight   uint64   // sum of weights
	slots    []int32  // index in backends
	ring     *ringIndex
}

// newHashTable has the members in their order, and no slots yet.
func newHashTable(members []member) *hashTable {
	t := &hashTable{
		backends: make([]*Backend, len(members)),
		weights:  make([]uint64, len(members)),
	}
	for i, m := range members {
		t.backends[i] = m.Backend
		t.weights[i] = uint64(m.weight)
		t.weight += uint64(m.weight)
	}
	return t
}

// slot returns where the walk of a hash begins.
func (t *hashTable) slot(h uint64) uint64 {
	if t.ring != nil {
		return t.ring.point(h)
	}
	return h % hashSlots
}

// hashWalkSteps is how many more slots a flow looks at for an untried backend.
const hashWalkSteps = 256

// hashWalk is the way of a flow whose first backend would not do: the next slots, then
// the list of all, since a backend with nearly all the weight can fill the slots.
//
// On a ring the next slots are the next points: a flow goes where it would go if the
// backends that it has tried were not there. In other tables the slots beside one
// another have the same successors too often, so a flow goes on by a step of its own,
// which spreads the flows of a dead backend over the others by weight.
type hashWalk struct {
	t          *hashTable
	slot, step uint64
	left       int    // slots to come
	first      uint64 // of the list
	listed     int
}

// walk goes on from the slot of a hash.
func (t *hashTable) walk(h, slot uint64, steps int) hashWalk {
	w := hashWalk{t: t, slot: slot, step: 1, left: steps, first: h % uint64(len(t.backends))}
	if t.ring == nil {
		w.step = h/hashSlots%(hashSlots-1) + 1
	}
	return w
}

// next returns an index in backends, or -1 when all have been there.
func (w *hashWalk) next() int {
	if w.left > 0 {
		w.left--
		if w.slot += w.step; w.slot >= uint64(len(w.t.slots)) {
			w.slot -= uint64(len(w.t.slots))
		}
		return int(w.t.slots[w.slot])
	}
	n := len(w.t.backends)
	if w.listed == n {
		return -1
	}
	i := int((w.first + uint64(w.listed)) % uint64(n))
	w.listed++
	return i
}
