package proxy

import (
	"container/heap"
	"sort"
)

// TopRows keeps the first rows in an order, of however many.
type TopRows struct {
	most int
	heap rowHeap
}

// NewTopRows returns one that keeps up to most rows. Order returns a negative number if a
// comes before b.
func NewTopRows(most int, order func(a, b *Row) int) *TopRows {
	return &TopRows{most: most, heap: rowHeap{order: order}}
}

// Add keeps a row if it is one of the first so far. O(log most).
func (t *TopRows) Add(r Row) {
	switch {
	case len(t.heap.rows) < t.most:
		heap.Push(&t.heap, r)
	case t.most > 0 && t.heap.order(&r, &t.heap.rows[0]) < 0:
		t.heap.rows[0] = r
		heap.Fix(&t.heap, 0)
	}
}

// Take returns the rows in order, and keeps none.
func (t *TopRows) Take() []Row {
	rows := t.heap.rows
	t.heap.rows = nil
	sortRows(rows, t.heap.order)
	return rows
}

// sortRows sorts rows. Package slices has 20 KB of code for a type of this size, package sort one for all.
func sortRows(rows []Row, order func(a, b *Row) int) {
	sort.Sort(sort.Reverse(&rowHeap{rows, order}))
}

// rowHeap has the last row in an order on top.
type rowHeap struct {
	rows  []Row
	order func(a, b *Row) int
}

func (h *rowHeap) Len() int           { return len(h.rows) }
func (h *rowHeap) Less(i, j int) bool { return h.order(&h.rows[i], &h.rows[j]) > 0 }
func (h *rowHeap) Swap(i, j int)      { h.rows[i], h.rows[j] = h.rows[j], h.rows[i] }
func (h *rowHeap) Push(r any)         { h.rows = append(h.rows, r.(Row)) }
func (h *rowHeap) Pop() any           { panic("rows are replaced, never taken") }
