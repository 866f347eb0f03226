package balancer

import (
	"math/bits"
	"sync/atomic"
)

// twoChoices draws two members and takes the better one: twos, p2c and ewma. The most
// loaded of n backends is above the mean by about log log n flows; with one draw it is
// log n / log log n (Azar, Broder, Karlin and Upfal, Balanced Allocations).
type twoChoices struct {
	counting
	random func() uint64
	build  func([]member) *aliasTable
	// distinct: the two are different ones, if there are two. With two backends that is
	// least connections, and no flow is placed without a comparison.
	distinct bool
	// better says whether x beats y, which was drawn first. It looks at counters of
	// backends without a lock: flows that begin together may see the same ones, but
	// have drawn different pairs.
	better func(x, y *column) bool

	table atomic.Pointer[aliasTable]
}

// newTwos draws by weight, maybe the same one twice. Of equal ones it takes the first.
//
// The kernel compares active*256 + total connections. Here no flow is inactive, so that
// is 257 times the active ones and says the same.
//
// With ipvs the newest backend has the kernel's one draw more than its weight; see
// aliasTable.draw. The kernel leaves out overloaded servers before it draws; here a draw
// that falls on one is repeated. So the newest in the list has the one draw more, not the
// newest with room.
func newTwos(s settings) scheduler {
	build := newAliasTable
	if s.ipvs {
		build = newCumulativeTable
	}
	return &twoChoices{random: s.random, build: build, better: fewerActive}
}

func newP2C(s settings) scheduler {
	return &twoChoices{random: s.random, build: newAliasTable, distinct: true, better: fewerActive}
}

func (s *twoChoices) update(members []member) { s.table.Store(s.build(members)) }

func (s *twoChoices) acquire(_ Flow, tried *Tried) (b *Backend, busy bool) {
	t := s.table.Load()
	first := t.pick(s.random, tried, nil, &busy)
	if first == nil {
		return nil, busy
	}
	var not *Backend
	if s.distinct {
		not = first.backend
	}
	if len(t.columns) > 1 {
		second := t.pick(s.random, tried, not, &busy)
		if second != nil && s.prefers(second, first, tried) {
			first = second
		}
	}
	busy = false
	if try(first.backend, tried, &busy) {
		return first.backend, false
	}
	// Another flow has just taken the last room there.
	start := t.somewhere(s.random())
	for i := range t.columns {
		if b := t.column(start + i).backend; try(b, tried, &busy) {
			return b, false
		}
	}
	return nil, busy
}

// prefers reports whether the second draw counts. A backend that fails holds no flows and
// would win each time. So it has to be drawn first, as often as its weight says, and a
// retry avoids it.
func (s *twoChoices) prefers(second, first *column, tried *Tried) bool {
	switch {
	case second.backend.failing.Load():
		return false
	case first.backend.failing.Load():
		return tried.Len() > 0
	}
	return s.better(second, first)
}

// fewerActive reports whether x has fewer active flows for its weight than y.
func fewerActive(x, y *column) bool {
	return lighter(uint64(x.backend.Active()), x.weight, uint64(y.backend.Active()), y.weight)
}

// lighter compares two fractions x/wx < y/wy without dividing.
func lighter(x, wx, y, wy uint64) bool {
	xh, xl := bits.Mul64(x, wy)
	yh, yl := bits.Mul64(y, wx)
	return xh < yh || xh == yh && xl < yl
}
