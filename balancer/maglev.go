package balancer

import (
	"cmp"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// What follows is a contract between instances, also of different versions: a client
// must get the same backend from all of them. Change nothing of it lightly.
const (
	// maglevSize is the number of slots: a prime, so that any step visits them all,
	// and the small size of the paper ("Maglev: A Fast and Reliable Software Network
	// Load Balancer", NSDI 2016, section 3.4), whose shares are even to 1 % for up to
	// 650 backends.
	maglevSize = 65537

	// Seeds of the two hashes of a backend's name. Clients are hashed with seed 0.
	maglevOffsetSeed = 1
	maglevSkipSeed   = 2
)

// maglevWalk is how many more slots a flow looks at for an untried backend.
const maglevWalk = 256

// maglev sends a client to the backend that a consistent hash of its address (not its
// port) names. It needs no memory of clients, agrees with other instances that have the
// same backends in any order, and when a backend comes or goes hardly any client of
// the others moves. Clients without an address (of unix sockets) count as one client.
type maglev struct {
	table atomic.Pointer[maglevTable]
}

// maglevTable is immutable.
type maglevTable struct {
	backends []*Backend // by weight, then by name; empty: no slots
	slots    []int32    // index in backends
}

func (s *maglev) update(members []member) { s.table.Store(newMaglevTable(members)) }

func (s *maglev) acquire(f Flow, tried *Tried) *Backend {
	t := s.table.Load()
	if len(t.backends) == 0 {
		return nil
	}
	h := maglevClient(f.Client.Addr())
	b := t.at(h)
	if tried.Has(b) {
		if b = t.untried(h, tried); b == nil {
			return nil
		}
	}
	b.reserve()
	return b
}

func (s *maglev) release(b *Backend) { b.release() }

// maglevClient hashes an IPv4 address in its IPv6-mapped form, because a socket of both
// families shows it as such, and leaves out the zone, which differs between hosts.
func maglevClient(a netip.Addr) uint64 {
	key := a.As16()
	return xxhash.Sum64(key[:])
}

// at returns the backend of a slot, or of a hash.
func (t *maglevTable) at(h uint64) *Backend { return t.backends[t.slots[h%maglevSize]] }

// untried walks on from the flow's slot by a step that is the client's own, so that the
// clients of a dead backend spread over the others by weight; the slots beside its own
// are not spread like that. A tried backend with nearly all the weight can fill the
// walk; then it takes the next untried one of the list, at most maxTried+1 on.
func (t *maglevTable) untried(h uint64, tried *Tried) *Backend {
	slot, step := h%maglevSize, h/maglevSize%(maglevSize-1)+1
	for range maglevWalk {
		slot += step
		if b := t.at(slot); !tried.Has(b) {
			return b
		}
	}
	n := uint64(len(t.backends))
	for i := range n {
		if b := t.backends[(h+i)%n]; !tried.Has(b) {
			return b
		}
	}
	return nil
}

// newMaglevTable fills the slots as in the paper: backends take turns, and in its turn
// each one claims the first free slot of its own permutation of all slots.
//
// Backends of one weight take their turns together, by name: with equal weights that is
// the paper's plain round. Turns are spaced by weight: the next one is due at (turns
// taken) / weight, and of those due at once the heaviest goes first. So nobody is left
// without a slot while there are as many slots as backends, and the order of any two
// does not depend on a third: one that leaves hardly moves the clients of the others.
func newMaglevTable(members []member) *maglevTable {
	t := &maglevTable{}
	if len(members) == 0 {
		return t
	}
	members = slices.Clone(members)
	slices.SortFunc(members, func(x, y member) int {
		return cmp.Or(cmp.Compare(y.weight, x.weight), cmp.Compare(x.name, y.name))
	})

	t.backends = make([]*Backend, len(members))
	ways := make([]maglevWay, len(members))
	var queue maglevQueue
	for i, m := range members {
		t.backends[i] = m.Backend
		ways[i] = newMaglevWay(m.name)
		if i == 0 || m.weight != members[i-1].weight {
			queue = append(queue, maglevTurn{weight: uint64(m.weight), first: i})
		}
		queue[len(queue)-1].end = i + 1
	}

	t.slots = slices.Repeat([]int32{-1}, maglevSize)
	free := maglevSize
	for {
		next := &queue[0] // at first none has had a turn, and the heaviest stands in front
		for i := next.first; i < next.end; i++ {
			t.slots[ways[i].claim(t.slots)] = int32(i)
			if free--; free == 0 {
				return t
			}
		}
		next.taken++
		queue.settle()
	}
}

// maglevWay is a backend's permutation: it starts at slot and goes on by skip. As the
// number of slots is prime, it comes to each of them.
type maglevWay struct {
	slot, skip uint32
}

func newMaglevWay(name string) maglevWay {
	hash := func(seed uint64) uint64 {
		d := xxhash.NewWithSeed(seed)
		d.WriteString(name)
		return d.Sum64()
	}
	return maglevWay{
		slot: uint32(hash(maglevOffsetSeed) % maglevSize),
		skip: uint32(hash(maglevSkipSeed)%(maglevSize-1) + 1),
	}
}

// claim returns the next slot of the way that is free, of which there is one.
func (w *maglevWay) claim(slots []int32) uint32 {
	for {
		slot := w.slot
		if w.slot += w.skip; w.slot >= maglevSize {
			w.slot -= maglevSize
		}
		if slots[slot] < 0 {
			return slot
		}
	}
}

// maglevTurn is the next turn of the backends of one weight.
type maglevTurn struct {
	taken      uint64 // turns they have had, at most maglevSize
	weight     uint64
	first, end int // their indexes
}

// before compares taken/weight without dividing; the products stay below 2^48.
func (x *maglevTurn) before(y *maglevTurn) bool {
	due, other := x.taken*y.weight, y.taken*x.weight
	return due < other || due == other && x.weight > y.weight
}

// maglevQueue is a binary min-heap by before.
type maglevQueue []maglevTurn

// settle moves the first, whose turn came later, to where it belongs now.
func (q maglevQueue) settle() {
	x, i := q[0], 0
	for {
		child := 2*i + 1
		if child >= len(q) {
			break
		}
		if right := child + 1; right < len(q) && q[right].before(&q[child]) {
			child = right
		}
		if !q[child].before(&x) {
			break
		}
		q[i] = q[child]
		i = child
	}
	q[i] = x
}
