package balancer

import "math/bits"

// weightedRR deals out turns in rounds. In each round every backend has as many turns as
// it weighs, at even distances, so a cycle of as many picks as all weigh together gives
// each exactly its weight. How far a backend stands in its first turn when the round
// begins follows from its place in the list: so equal weights are plain round robin in
// the order of the list, and many light backends are spread among the turns of a heavy
// one. After changes that takes up to eight rounds; the shares are right from the first.
// See ipvsWRR for the kernel's order.
//
// now is the present place in the present round, which never goes back: nobody is owed
// anything for a time in which it was no member or had no room.
type weightedRR struct {
	now position
}

// position is a place in the sequence of rounds: at/span of a round behind whole ones. at
// counts turns of one backend in parts of 1<<turnBits, and span is its weight in them.
type position struct {
	round, at, span uint64 // at < span; span 0 only for one that was never set
}

// turnBits is how finely turns are divided: enough for the places in a list of a million,
// and topWeight turns in such parts fit into 58 bits.
const turnBits = 20

// phaseOf is the middle of the i-th of n parts of a turn.
func phaseOf(i, n int) uint64 {
	return (2*uint64(i) + 1) << turnBits / (2 * uint64(n))
}

func (x position) key(turn uint64) heapKey {
	return heapKey{major: x.round, num: x.at, den: x.span, turn: turn}
}

// in is the place in the round in units of another span, rounded down.
func (x position) in(span uint64) uint64 {
	hi, lo := bits.Mul64(x.at, span)
	at, _ := bits.Div64(hi, lo, x.span)
	return at
}

// until is how far y lies ahead, in parts of y's turns and rounded up; 0 if it does not.
func (x position) until(y position) uint64 {
	if from, to := x.key(0), y.key(0); !from.before(&to) {
		return 0
	}
	return (y.round-x.round)*y.span + y.at - x.in(y.span)
}

func newWeightedRR() *weightedRR { return &weightedRR{now: position{span: 1}} }

func (r *weightedRR) key(b *Backend) heapKey { return b.node.next.key(b.node.picked) }

func (r *weightedRR) enter(b *Backend) {
	n := &b.node
	before := n.next
	n.next = position{round: r.now.round, at: r.now.in(n.weight << turnBits), span: n.weight << turnBits}
	if before.span != 0 {
		if ahead := r.now.until(before); ahead > 0 {
			if before.span == n.next.span {
				n.next = before
				return
			}
			// The part of its turn that it has waited for stays. It is rounded in its
			// favour: a weight that changes all the time does not put a turn off.
			n.next.at += ahead - 1
			n.next.round += n.next.at / n.next.span
			n.next.at %= n.next.span
			return
		}
	}
	if n.place >= 0 && !n.full || n.owed {
		return // its turn is due, now
	}
	// The first of its turns that is not over yet, in its place of the list. If that one
	// goes by while it is away again, the next time it does not wait: otherwise one that
	// comes and goes in step with the rounds would never get a flow.
	n.owed = true
	if over := n.next.at; over > n.phase {
		n.next.at = n.phase + (over-n.phase+1<<turnBits-1)>>turnBits<<turnBits
	} else {
		n.next.at = n.phase
	}
	if n.next.at >= n.next.span {
		n.next.round++
		n.next.at = n.phase
	}
}

// overdue has a turn that went by wait until now, and no longer: one that could not have
// its turns for a while does not get them all at once afterwards.
func (r *weightedRR) overdue(b *Backend) {
	n := &b.node
	if next, now := n.next.key(0), r.now.key(0); next.before(&now) {
		n.next = position{round: r.now.round, at: r.now.in(n.next.span), span: n.next.span}
	}
}

// picked takes a turn away from a backend. Retries and flows that persistence sends take
// no more than the next turn: else many at once would keep new flows away for long.
func (r *weightedRR) picked(b *Backend, first heapKey) {
	if now := r.now.key(0); first.major != noRoom {
		if first.turn = 0; now.before(&first) {
			r.now = position{first.major, first.num, first.den}
		}
	}
	b.node.owed = false
	x := &b.node.next
	if r.now.until(*x) >= 1<<turnBits {
		return
	}
	if x.at += 1 << turnBits; x.at >= x.span {
		x.round++
		x.at -= x.span
		// Where it stands in its turn follows the list, in small steps: the way there is
		// not one turn long, and weights may change in every round.
		const step = 1 << turnBits / 8
		x.at = min(max(b.node.phase, x.at-min(x.at, step)), x.at+step)
	}
}
