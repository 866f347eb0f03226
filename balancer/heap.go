package balancer

// heap is a binary min-heap of backends in which each one knows its place, so that
// one whose load changed is moved in O(log n). Whoever owns the heap guards it, and
// with it the node of each backend.
type heap struct {
	items []item
}

// item holds the key beside the pointer, so that comparing does not visit the backend.
type item struct {
	load    int64
	picked  uint64 // when the backend was last picked, as a count of picks; 0: never
	backend *Backend
}

// heapNode is the part of a backend that its pool's heap owns.
type heapNode struct {
	place  int    // index in items, -1 when not in the heap
	picked uint64 // outlasts leaving the heap
}

// before orders by load, then by least recently picked. Backends that were never
// picked go in the order in which they came.
func (x *item) before(y *item) bool {
	if x.load != y.load {
		return x.load < y.load
	}
	if x.picked != y.picked {
		return x.picked < y.picked
	}
	return x.backend.id < y.backend.id
}

func (h *heap) push(x item) {
	h.items = append(h.items, x)
	h.up(len(h.items) - 1)
}

func (h *heap) remove(i int) {
	h.items[i].backend.node.place = -1
	last := len(h.items) - 1
	moved := h.items[last]
	h.items[last] = item{}
	h.items = h.items[:last]
	if i < last {
		h.items[i] = moved
		h.fix(i)
	}
}

// fix restores the order after the key at i has changed either way.
func (h *heap) fix(i int) {
	if i > 0 && h.items[i].before(&h.items[(i-1)/2]) {
		h.up(i)
	} else {
		h.down(i)
	}
}

// up and down move the item at i to where it belongs and set its place.
func (h *heap) up(i int) {
	x := h.items[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !x.before(&h.items[parent]) {
			break
		}
		h.put(i, h.items[parent])
		i = parent
	}
	h.put(i, x)
}

func (h *heap) down(i int) {
	x := h.items[i]
	for {
		child := 2*i + 1
		if child >= len(h.items) {
			break
		}
		if right := child + 1; right < len(h.items) && h.items[right].before(&h.items[child]) {
			child = right
		}
		if !h.items[child].before(&x) {
			break
		}
		h.put(i, h.items[child])
		i = child
	}
	h.put(i, x)
}

func (h *heap) put(i int, x item) {
	h.items[i] = x
	x.backend.node.place = i
}

// first returns the index of the least item whose backend is untried, or -1. It goes
// down from the root best first: an item stands behind its parent, so whatever has not
// been looked at stands behind the edge of what has.
func (h *heap) first(tried *Tried) int {
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
			if h.items[edge[i]].before(&h.items[edge[best]]) {
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
