package balancer

import (
	"cmp"
	"math"
	"slices"
)

// rendezvousBlocks is the number of parts in which the slots are given away, each one on
// its own: the last slots that are free take the longest to be found, and there are few
// in a small part, which the nearest cache holds as well.
const rendezvousBlocks = 64

// newRendezvous gives each slot to its rendezvous winner. By the weighted rule, each
// backend draws a number -ln(u)/weight per slot, u uniform in (0, 1), and the least wins.
// Drawing them all takes slots times backends. But such numbers are also the times at
// which the backend first comes to each slot of a block, if it visits random ones with
// an exponential pause, its mean in proportion to 1/weight, before each visit. In that
// form the draws of a backend come in order, and those too late to win need not be made:
// eight or nine for a slot decide, for any number of backends.
//
// The visits of a backend depend on its name and weight alone. So one that leaves frees
// its own slots and moves no other, one that comes only takes slots for itself, and the
// same holds for a weight that falls or grows.
func newRendezvous(members []member) *hashTable {
	members = slices.Clone(members)
	slices.SortFunc(members, func(x, y member) int { return cmp.Compare(x.name, y.name) })
	t := newHashTable(members)
	t.slots = make([]int32, hashSlots)
	if len(members) == 1 {
		return t
	}
	visitors := make([]visitor, len(members))
	for i, m := range members {
		visitors[i].name, visitors[i].rate = hashName(m.name, rendezvousSeed), 1/float64(m.weight)
	}
	logs, won := newLogTable(), make([]float64, hashSlots/rendezvousBlocks+1)
	for block := range uint64(rendezvousBlocks) {
		first, end := block*hashSlots/rendezvousBlocks, (block+1)*hashSlots/rendezvousBlocks
		for i := range visitors {
			visitors[i].enter(block, end-first, logs)
		}
		giveAway(t.slots[first:end], won[:end-first], visitors, float64(t.weight), logs)
	}
	return t
}

// giveAway lets the visitors go through the slots of a block until all are won. The sum
// of their weights says how long that will take.
func giveAway(slots []int32, won []float64, visitors []visitor, weight float64, logs *logTable) {
	for i := range won {
		won[i] = math.Inf(1)
	}
	// In one step each slot has one visit on average, and after ln(slots) steps one
	// slot is likely to have had none.
	step := float64(len(slots)) / weight
	for until, free := step*math.Log(float64(len(slots))), len(slots); free > 0; until += step {
		for i := range visitors {
			v := &visitors[i]
			for at := v.at(); at <= until; at = v.at() {
				if w := won[v.slot]; at < w { // at equal times the name decides
					if math.IsInf(w, 1) {
						free--
					}
					won[v.slot], slots[v.slot] = at, int32(i)
				}
				v.advance(uint64(len(slots)), logs)
			}
		}
	}
}

// visitor is a backend on its way through the slots of a block.
type visitor struct {
	name         uint64  // its hash
	rate         float64 // 1/weight
	seed, visits uint64  // of the block
	paused       float64 // sum of the pauses until the next visit, for weight 1
	slot         uint32  // of the next visit
}

// enter draws the first visit to a block of so many slots.
func (v *visitor) enter(block, slots uint64, logs *logTable) {
	v.seed, v.visits, v.paused = draw(v.name, block), 0, 0
	v.advance(slots, logs)
}

// advance draws the next visit.
func (v *visitor) advance(slots uint64, logs *logTable) {
	x := draw(v.seed, v.visits)
	v.visits++
	v.slot = uint32(x >> 32 * slots >> 32)
	v.paused += logs.pause(uint32(x))
}

// at returns the time of the next visit.
func (v *visitor) at() float64 { return v.paused * v.rate }
