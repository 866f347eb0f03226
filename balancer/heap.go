package balancer

import "math/bits"

// heapKey is the place of a backend in an order: the least goes first. major decides, then
// the fraction num/den, which is never divided, then turn.
type heapKey struct {
	major    uint64
	num, den uint64 // den is not 0
	turn     uint64
}

// noRoom is the major of backends that cannot be chosen.
const noRoom = 1 << 63

func (x *heapKey) before(y *heapKey) bool {
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

// backendHeap is a binary min-heap of backends. Each one knows its place, so that one with
// a new key moves in O(log n). The owner guards the heap and the node of each backend.
type backendHeap struct {
	items []heapItem
}

// heapItem holds the key beside the pointer, so that comparing does not visit the backend.
type heapItem struct {
	heapKey
	backend *Backend
}

// heapNode is the part of a backend that its scheduler owns.
type heapNode struct {
	place  int      // index in items, -1 when in no heap
	weight uint64   // as a member
	picked uint64   // when the backend was last picked, as a count of picks; 0: never. Outlasts leaving
	order  uint64   // index in the list of members
	phase  uint64   // the same as a part of the list, below 1<<turnBits; see phaseOf
	next   position // of wrr and wlc: its next turn. Outlasts leaving
	full   bool     // had no room when it got its key
	owed   bool     // of wrr and wlc: it was given a turn when it came in, and not picked since
	era    uint32   // of the keyer that next and owed are of; 0: none yet
	rests  bool     // is in heapScheduler.resting
	due    float64  // the count of new flows with which it is due for another; see heapScheduler.mustRest
}

func (h *backendHeap) push(x heapItem) {
	h.items = append(h.items, x)
	h.up(len(h.items) - 1)
}

func (h *backendHeap) remove(i int) {
	h.items[i].backend.node.place = -1
	last := len(h.items) - 1
	moved := h.items[last]
	h.items[last] = heapItem{}
	h.items = h.items[:last]
	if i < last {
		h.items[i] = moved
		h.fix(i)
	}
}

// set gives the backend at i a new key. In some orders a flow that ends leaves it as it is.
func (h *backendHeap) set(i int, r heapKey) {
	if h.items[i].heapKey != r {
		h.items[i].heapKey = r
		h.fix(i)
	}
}

// fix restores the order after the key at i has changed either way.
func (h *backendHeap) fix(i int) {
	if i > 0 && h.items[i].before(&h.items[(i-1)/2].heapKey) {
		h.up(i)
	} else {
		h.down(i)
	}
}

// up and down move the item at i to where it belongs and set its place.
func (h *backendHeap) up(i int) {
	x := h.items[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !x.before(&h.items[parent].heapKey) {
			break
		}
		h.put(i, h.items[parent])
		i = parent
	}
	h.put(i, x)
}

func (h *backendHeap) down(i int) {
	x := h.items[i]
	for {
		child := 2*i + 1
		if child >= len(h.items) {
			break
		}
		if right := child + 1; right < len(h.items) && h.items[right].before(&h.items[child].heapKey) {
			child = right
		}
		if !h.items[child].before(&x.heapKey) {
			break
		}
		h.put(i, h.items[child])
		i = child
	}
	h.put(i, x)
}

func (h *backendHeap) put(i int, x heapItem) {
	h.items[i] = x
	x.backend.node.place = i
}

// first returns the index of the least item whose backend is untried, or -1. It goes
// down from the root best first: an item stands behind its parent, so whatever has not
// been looked at stands behind the edge of what has.
func (h *backendHeap) first(tried *Tried) int {
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
			if h.items[edge[i]].before(&h.items[edge[best]].heapKey) {
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
