package balancer

import (
	"cmp"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// The tables of mh, hrw and ring, the hash of a key and the walk of a flow are a contract
// between instances, also of different versions: a client must get the same backend
// from all of them. Change nothing of it lightly.
const (
	// maglevSize is the small size of the paper ("Maglev: A Fast and Reliable Software
	// Network Load Balancer", NSDI 2016, section 3.4), whose shares are even to 1 % for
	// up to 650 backends.
	maglevSize = hashSlots

	// Seeds of the hashes of a backend's name. Keys of flows are hashed with seed 0.
	maglevOffsetSeed = 1
	maglevSkipSeed   = 2
	ringSeed         = 3
	rendezvousSeed   = 4
)

// newMaglevTable fills the slots as in the paper: backends take turns, and in its turn
// each one claims the first free slot of its own permutation of all slots.
//
// Backends of one weight take their turns together, by name: with equal weights that is
// the paper's plain round. Turns are spaced by weight: the next one is due at (turns
// taken) / weight, and of those due at once the heaviest goes first. So nobody is left
// without a slot while there are as many slots as backends, and the order of any two
// does not depend on a third: one that leaves hardly moves the clients of the others.
func newMaglevTable(members []member) *hashTable {
	members = slices.Clone(members)
	slices.SortFunc(members, func(x, y member) int {
		return cmp.Or(cmp.Compare(y.weight, x.weight), cmp.Compare(x.name, y.name))
	})

	t := newHashTable(members)
	ways := make([]permutation, len(members))
	var queue maglevQueue
	for i, m := range members {
		ways[i] = newPermutation(m.name)
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

// permutation is a backend's permutation: it starts at slot and goes on by skip. As the
// number of slots is prime, it comes to each of them.
type permutation struct {
	slot, skip uint32
}

func newPermutation(name string) permutation {
	return permutation{
		slot: uint32(hashName(name, maglevOffsetSeed) % maglevSize),
		skip: uint32(hashName(name, maglevSkipSeed)%(maglevSize-1) + 1),
	}
}

func hashName(name string, seed uint64) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(seed)
	d.WriteString(name)
	return d.Sum64()
}

// claim returns the next slot of the way that is free, of which there is one.
func (w *permutation) claim(slots []int32) uint32 {
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

// before compares taken/weight without dividing; the products stay below 2^55.
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
