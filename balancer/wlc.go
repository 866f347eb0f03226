package balancer

// weightedLeastConn ranks by active flows in relation to the weight; of equal ones the
// least recently picked goes first. Idle backends are all equal, whatever their weights:
// they have turns by weight, as in wrr. So the shares follow the weights in a pool that is
// mostly idle as well, where every flow finds others idle.
//
// With ipvs, as in the kernel, the newest goes first: of idle ones it gets every flow
// until it has one. See leastConn for what counts as active.
type weightedLeastConn struct {
	turns *weightedRR // of those that are idle; nil with ipvs
}

// loaded is the major of backends with flows: beyond any round of turns, below noRoom.
const loaded = 1 << 62

func newWeightedLeastConn(s settings) weightedLeastConn {
	if s.ipvs {
		return weightedLeastConn{}
	}
	return weightedLeastConn{turns: newWeightedRR()}
}

func (r weightedLeastConn) rank(b *Backend) rank {
	n := uint64(b.Active())
	switch {
	case r.turns == nil:
		return rank{num: n, den: b.node.weight, turn: newestFirst.turn(b)}
	case n == 0:
		r.turns.overdue(b)
		return r.turns.rank(b)
	}
	return rank{major: loaded, num: n, den: b.node.weight, turn: b.node.picked}
}

func (r weightedLeastConn) enter(b *Backend) {
	if r.turns != nil {
		r.turns.enter(b)
	}
}

// picked takes a turn from a backend that was idle until then. So were those that stood
// before it: first is one of them.
func (r weightedLeastConn) picked(b *Backend, first rank) {
	if r.turns != nil && b.Active() == 1 {
		r.turns.picked(b, first)
	}
}
