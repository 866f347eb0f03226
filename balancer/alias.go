package balancer

import (
	"cmp"
	"math/bits"
	"slices"
)

// lots draws members at random, each as often as its weight says. It is not changed
// once made.
type lots struct {
	rows  []lot
	total uint64 // of all weights
	// sums is set for the kernel's draw: the weights up to and with each row.
	sums []uint64
}

// lot is a column of Walker's alias table. All columns are lots.total high and equally
// wide; a point below cut is the column's own, one above belongs to the alias.
type lot struct {
	backend *Backend
	weight  uint64
	cut     uint64
	alias   int32
}

// newLots fills the table by Vose's method, in whole numbers and so without error: the
// own cut of a row and its parts of other columns add up to its weight times the number
// of rows. Weights are below 2^38, so up to 2^26 members nothing overflows.
func newLots(members []member) *lots {
	t := rowsOf(members)
	n := len(t.rows)
	height := make([]uint64, n) // what is left to place of each row
	// Rows with less than a column are stacked up from the left, the others from the
	// right.
	stacks := make([]int32, n)
	less, more := 0, n
	sort := func(i int32) {
		if height[i] < t.total {
			stacks[less] = i
			less++
		} else {
			more--
			stacks[more] = i
		}
	}
	for i := range t.rows {
		height[i] = t.rows[i].weight * uint64(n)
		sort(int32(i))
	}
	for less > 0 {
		small, large := stacks[less-1], stacks[more]
		less--
		more++
		t.rows[small].cut, t.rows[small].alias = height[small], large
		height[large] -= t.total - height[small]
		sort(large)
	}
	for _, i := range stacks[more:] {
		t.rows[i].cut, t.rows[i].alias = t.total, i
	}
	return t
}

// newKernelLots draws as IPVS does: see draw.
func newKernelLots(members []member) *lots {
	newest := slices.Clone(members)
	slices.SortFunc(newest, func(a, b member) int { return cmp.Compare(b.id, a.id) })
	t := rowsOf(newest)
	t.sums = make([]uint64, len(newest))
	sum := uint64(0)
	for i := range t.rows {
		sum += t.rows[i].weight
		t.sums[i] = sum
	}
	return t
}

func rowsOf(members []member) *lots {
	t := &lots{rows: make([]lot, len(members))}
	for i, m := range members {
		t.rows[i] = lot{backend: m.Backend, weight: uint64(m.weight)}
		t.total += uint64(m.weight)
	}
	return t
}

// draw maps a uniform number to a row; there is at least one. A row gets its share of
// all 2^64 numbers, give or take one per column.
//
// The kernel draws from 0 to the total, both included, and walks along the list until
// it has taken off that much. So it has one draw more than there is weight, which goes
// to the first in the list, the newest. The first sum that reaches the number is where
// the walk ends.
func (t *lots) draw(r uint64) *lot {
	if t.sums != nil {
		upTo, _ := bits.Mul64(r, t.total+1)
		i, _ := slices.BinarySearch(t.sums, upTo)
		return &t.rows[i]
	}
	column, rest := bits.Mul64(r, uint64(len(t.rows)))
	l := &t.rows[column]
	if y, _ := bits.Mul64(rest, t.total); y >= l.cut {
		l = &t.rows[l.alias]
	}
	return l
}

// redraws is how often a draw is repeated before members are looked at one by one.
// While half of them will do, one look in 256 comes to that.
const redraws = 8

// pick draws a member that is untried, has room and is not the one named. What others
// have left over is found in the end: then in line from a random start, by chance and
// not by weight. Without any it returns nil, and sets busy if that was for want of room.
func (t *lots) pick(random func() uint64, tried *Tried, not *Backend, busy *bool) *lot {
	if len(t.rows) == 0 {
		return nil
	}
	for range redraws {
		l := t.draw(random())
		if l.backend != not && !tried.Has(l.backend) && !l.backend.busy() {
			return l
		}
	}
	start := t.somewhere(random())
	for i := range t.rows {
		l := t.row(start + i)
		switch {
		case l.backend == not || tried.Has(l.backend):
		case l.backend.busy():
			*busy = true
		default:
			return l
		}
	}
	return nil
}

// somewhere maps a uniform number to an index, and row takes one that may have run over
// the end.
func (t *lots) somewhere(r uint64) int {
	i, _ := bits.Mul64(r, uint64(len(t.rows)))
	return int(i)
}

func (t *lots) row(i int) *lot {
	if i >= len(t.rows) {
		i -= len(t.rows)
	}
	return &t.rows[i]
}
