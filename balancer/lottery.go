package balancer

import (
	"math/bits"
	"sync/atomic"
)

// lottery draws two members and takes the better one. twos, p2c and ewma are lotteries.
type lottery struct {
	counting
	random func() uint64
	table  func([]member) *lots
	// distinct: the two are different ones, if there are two.
	distinct bool
	// better says whether x beats y, which was drawn first. It looks at counters of
	// backends without a lock: flows that begin together may see the same ones, but
	// have drawn different pairs.
	better func(x, y *lot) bool

	lots atomic.Pointer[lots]
}

func (s *lottery) update(members []member) { s.lots.Store(s.table(members)) }

func (s *lottery) acquire(_ Flow, tried *Tried) (b *Backend, busy bool) {
	t := s.lots.Load()
	first := t.pick(s.random, tried, nil, &busy)
	if first == nil {
		return nil, busy
	}
	var not *Backend
	if s.distinct {
		not = first.backend
	}
	if len(t.rows) > 1 {
		second := t.pick(s.random, tried, not, &busy)
		if second != nil && s.better(second, first) {
			first = second
		}
	}
	busy = false
	if try(first.backend, tried, &busy) {
		return first.backend, false
	}
	// Another flow has just taken the last room there.
	start := t.somewhere(s.random())
	for i := range t.rows {
		if b := t.row(start + i).backend; try(b, tried, &busy) {
			return b, false
		}
	}
	return nil, busy
}

// lighter compares two fractions x/wx < y/wy without dividing.
func lighter(x, wx, y, wy uint64) bool {
	xh, xl := bits.Mul64(x, wy)
	yh, yl := bits.Mul64(y, wx)
	return xh < yh || xh == yh && xl < yl
}
