package balancer

import "math/bits"

// rank is the place of a backend in an order: the least goes first. major decides, then
// the fraction num/den, which is never divided, then turn.
type rank struct {
	major    uint64
	num, den uint64 // den is not 0
	turn     uint64
}

// noRoom is the major of backends that cannot be chosen.
const noRoom = 1 << 63

func (x *rank) before(y *rank) bool {
	if x.major != y.major {
		return x.major < y.major
	}
	if x.den != y.den {
		xh, xl := bits.Mul64(x.num, y.den)
		yh, yl := bits.Mul64(y.num, x.den)
		if xh != yh {
			return xh < yh
		}
		if xl != yl {
			return xl < yl
		}
	} else if x.num != y.num {
		return x.num < y.num
	}
	return x.turn < y.turn
}

// ranking is a binary min-heap of backends in which each one knows its place, so that
// one whose rank changed is moved in O(log n). Whoever owns it guards it, and with it
// the node of each backend.
type ranking struct {
	items []ranked
}

// ranked holds the rank beside the pointer, so that comparing does not visit the
// backend.
type ranked struct {
	rank
	backend *Backend
}

// rankNode is the part of a backend that its pool's ranking owns.
type rankNode struct {
	place  int    // index in items, -1 when not in the ranking
	weight uint64 // as a member
	picked uint64 // when the backend was last picked, as a count of picks; 0: never. Outlasts leaving
	order  uint64 // index in the list of members
	phase  uint64 // the same as a part of the list, below 1<<turnBits; see phaseOf
	full   bool   // had no room when it was ranked
	next   spot   // of wrr and wlc: its next turn. Outlasts leaving
	owed   bool   // of wrr and wlc: it was given a turn when it came in, and not picked since
}

func (h *ranking) push(x ranked) {
	h.items = append(h.items, x)
	h.up(len(h.items) - 1)
}

func (h *ranking) remove(i int) {
	h.items[i].backend.node.place = -1
	last := len(h.items) - 1
	moved := h.items[last]
	h.items[last] = ranked{}
	h.items = h.items[:last]
	if i < last {
		h.items[i] = moved
		h.fix(i)
	}
}

// set gives the backend at i a new rank. A flow that ends leaves that of some rules as it
// is.
func (h *ranking) set(i int, r rank) {
	if h.items[i].rank != r {
		h.items[i].rank = r
		h.fix(i)
	}
}

// fix restores the order after the rank at i has changed either way.
func (h *ranking) fix(i int) {
	if i > 0 && h.items[i].before(&h.items[(i-1)/2].rank) {
		h.up(i)
	} else {
		h.down(i)
	}
}

// up and down move the item at i to where it belongs and set its place.
func (h *ranking) up(i int) {
	x := h.items[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !x.before(&h.items[parent].rank) {
			break
		}
		h.put(i, h.items[parent])
		i = parent
	}
	h.put(i, x)
}

func (h *ranking) down(i int) {
	x := h.items[i]
	for {
		child := 2*i + 1
		if child >= len(h.items) {
			break
		}
		if right := child + 1; right < len(h.items) && h.items[right].before(&h.items[child].rank) {
			child = right
		}
		if !h.items[child].before(&x.rank) {
			break
		}
		h.put(i, h.items[child])
		i = child
	}
	h.put(i, x)
}

func (h *ranking) put(i int, x ranked) {
	h.items[i] = x
	x.backend.node.place = i
}

// first returns the index of the least item whose backend is untried, or -1. It goes
// down from the root best first: an item stands behind its parent, so whatever has not
// been looked at stands behind the edge of what has.
func (h *ranking) first(tried *Tried) int {
	if len(h.items) == 0 {
		return -1
	}
	if !tried.Has(h.items[0].backend) {
		return 0
	}
	// Each tried item leaves the edge and brings in two children at most.
	var edge [maxTried + 1]int
	n := 1
	for n > 0 {
		best := 0
		for i := 1; i < n; i++ {
			if h.items[edge[i]].before(&h.items[edge[best]].rank) {
				best = i
			}
		}
		at := edge[best]
		if !tried.Has(h.items[at].backend) {
			return at
		}
		n--
		edge[best] = edge[n]
		for child := 2*at + 1; child <= 2*at+2 && child < len(h.items); child++ {
			edge[n] = child
			n++
		}
	}
	return -1
}
