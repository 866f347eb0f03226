package balancer

import (
	"cmp"
	"math"
	"math/bits"
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

// logTable draws exponentially distributed numbers, -ln u. Unlike math.Log it gives the
// same to the last bit on all machines, which instances need that are to agree on a
// table: a conversion of each product keeps compilers from fusing it with the sum around
// it. Ten digits are right.
type logTable [logSteps]struct {
	ln      float64 // of the middle of a step of 1 … 2
	inverse float64 // of the middle
}

const (
	logSteps = 1 << logBits
	logBits  = 8
	ln2      = 0.693147180559945309417232121458176568
)

func newLogTable() *logTable {
	t := new(logTable)
	for i := range t {
		middle := 1 + (float64(i)+0.5)/logSteps
		t[i].inverse = 1 / middle
		// ln m = 2·artanh s = 2·(s + s³/3 + s⁵/5 + …); s is at most 1/3.
		s := (middle - 1) / (middle + 1)
		power, square := 2*s, float64(s*s)
		for k := 1.0; k < 30; k += 2 {
			t[i].ln += power / k
			power *= square
		}
	}
	return t
}

// pause returns -ln u for u = (x+1/2)/2^32, so that u is neither 0 nor 1.
func (t *logTable) pause(x uint32) float64 {
	odd := uint64(x)<<1 | 1 // u·2^33
	zeros := bits.LeadingZeros64(odd)
	fraction := odd << zeros // u·2^(zeros-30) is 1 … 2, these are its bits
	at := &t[fraction<<1>>(64-logBits)]
	f := float64(fraction>>11) / (1 << 52)
	r := float64(f*at.inverse) - 1 // at most 2^-9 either way
	// ln(1+r) = r - r²/2 + r³/3 - …
	ln := r - float64(r*float64(r*(0.5-float64(r/3))))
	return float64(float64(zeros-30)*ln2) - at.ln - ln
}
