package balancer

import (
	"math/bits"
	"slices"
)

// aliasTable draws members at random, each as often as its weight says. It is immutable.
type aliasTable struct {
	columns []column
	total   uint64 // of all weights
	// sums is set for the kernel's draw: the weights up to and with each row.
	sums []uint64
}

// column is one of Walker's alias table. All are aliasTable.total high and equally
// wide; a point below cut is the column's own, one above belongs to the alias.
type column struct {
	backend *Backend
	weight  uint64
	cut     uint64
	alias   int32
}

// newAliasTable fills the table by Vose's method, in whole numbers and so without error: the
// own cut of a row and its parts of other columns add up to its weight times the number
// of rows. Weights are below 2^38, so up to 2^26 members nothing overflows.
func newAliasTable(members []member) *aliasTable {
	t := columnsOf(members)
	n := len(t.columns)
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
	for i := range t.columns {
		height[i] = t.columns[i].weight * uint64(n)
		sort(int32(i))
	}
	for less > 0 {
		small, large := stacks[less-1], stacks[more]
		less--
		more++
		t.columns[small].cut, t.columns[small].alias = height[small], large
		height[large] -= t.total - height[small]
		sort(large)
	}
	for _, i := range stacks[more:] {
		t.columns[i].cut, t.columns[i].alias = t.total, i
	}
	return t
}

// newCumulativeTable draws as IPVS does: see draw.
func newCumulativeTable(members []member) *aliasTable {
	t := columnsOf(newest(members))
	t.sums = make([]uint64, len(members))
	sum := uint64(0)
	for i := range t.columns {
		sum += t.columns[i].weight
		t.sums[i] = sum
	}
	return t
}

func columnsOf(members []member) *aliasTable {
	t := &aliasTable{columns: make([]column, len(members))}
	for i, m := range members {
		t.columns[i] = column{backend: m.Backend, weight: uint64(m.weight)}
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
func (t *aliasTable) draw(r uint64) *column {
	if t.sums != nil {
		upTo, _ := bits.Mul64(r, t.total+1)
		i, _ := slices.BinarySearch(t.sums, upTo)
		return &t.columns[i]
	}
	column, rest := bits.Mul64(r, uint64(len(t.columns)))
	l := &t.columns[column]
	if y, _ := bits.Mul64(rest, t.total); y >= l.cut {
		l = &t.columns[l.alias]
	}
	return l
}

// redraws is how often a draw is repeated before members are looked at one by one.
// While half of them will do, one look in 256 comes to that.
const redraws = 8

// pick draws a member that is untried, has room and is not the one named. What others
// leave is found in the end in line from a random start, by chance and not by weight.
// Without any it returns nil, and sets busy if one had no room.
func (t *aliasTable) pick(random func() uint64, tried *Tried, not *Backend, busy *bool) *column {
	if len(t.columns) == 0 {
		return nil
	}
	for range redraws {
		l := t.draw(random())
		if l.backend != not && !tried.Has(l.backend) && !l.backend.busy() {
			return l
		}
	}
	start := t.somewhere(random())
	for i := range t.columns {
		l := t.column(start + i)
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
func (t *aliasTable) somewhere(r uint64) int {
	i, _ := bits.Mul64(r, uint64(len(t.columns)))
	return int(i)
}

func (t *aliasTable) column(i int) *column {
	if i >= len(t.columns) {
		i -= len(t.columns)
	}
	return &t.columns[i]
}
