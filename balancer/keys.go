package balancer

// flowKey orders backends by what of says of their weight and flows at present. lc, sed,
// nq, fo and ovf are such orders, and wlc with ipvs.
//
// The kernel counts 257 for an active connection and 1 for an inactive one. A proxy sees
// flows end, those of UDP too, so the number of flows says the same.
type flowKey struct {
	of   func(b *Backend) heapKey // but for the turn
	ties ties
}

func (k flowKey) key(b *Backend) heapKey {
	x := k.of(b)
	x.turn = k.ties.turn(b)
	return x
}

func (flowKey) enter(*Backend)           {}
func (flowKey) picked(*Backend, heapKey) {}

// ties says who goes first among equals.
type ties uint8

const (
	leastRecent ties = iota // the least recently picked: equal ones take turns
	newestFirst             // as in IPVS, whose list begins with the newest
	firstListed             // in the operator's order
)

func (t ties) turn(b *Backend) uint64 {
	switch t {
	case newestFirst:
		return ^uint64(b.id)
	case firstListed:
		return b.node.order
	}
	return b.node.picked
}

// tiesOf returns newestFirst for the kernel's choice, else usual.
func tiesOf(s settings, usual ties) ties {
	if s.ipvs {
		return newestFirst
	}
	return usual
}

// leastConn is lc: active flows, whatever the weights.
func leastConn(b *Backend) heapKey { return heapKey{num: uint64(b.Active()), den: 1} }

// flowsPerWeight is wlc with ipvs.
func flowsPerWeight(b *Backend) heapKey {
	return heapKey{num: uint64(b.Active()), den: b.node.weight}
}

// shortestDelay is sed: the flows with one more, in relation to the weight. Of idle
// backends the heaviest goes first. UDP flows count, unlike in the kernel.
func shortestDelay(b *Backend) heapKey {
	return heapKey{num: uint64(b.Active()) + 1, den: b.node.weight}
}

// neverQueue is nq: idle backends first, whatever their weights, then as sed.
func neverQueue(b *Backend) heapKey {
	if b.Active() == 0 {
		return heapKey{den: 1}
	}
	x := shortestDelay(b)
	x.major = 1
	return x
}

// failover is fo: one backend gets all flows while it is a member and has room.
func failover(b *Backend) heapKey { return heapKey{major: topWeight - b.node.weight, den: 1} }

// overflow is ovf: failover in which a weight is also a maximum of flows. When all have
// that many, flows are refused.
func overflow(b *Backend) heapKey { return overflowBeyond(b, 0) }

// ipvsOverflow allows one flow more: the kernel passes over backends that have more flows
// than weight, not as many.
func ipvsOverflow(b *Backend) heapKey { return overflowBeyond(b, 1) }

func overflowBeyond(b *Backend, beyond int64) heapKey {
	if b.Active() >= int64(b.node.weight)+beyond {
		return heapKey{major: noRoom, den: 1}
	}
	return failover(b)
}

// weightedLeastConn is wlc: active flows in relation to the weight; of equal ones the
// least recently picked goes first. Idle backends take turns by weight, as in wrr. So
// shares follow weights also in a pool that is mostly idle.
type weightedLeastConn struct {
	turns *weightedRR // of idle backends
}

// loaded is the major of backends with flows: beyond any round of turns, below noRoom.
const loaded = 1 << 62

// newWeightedLeastConn returns the kernel's order with ipvs: of idle backends the newest
// gets every flow until it has one.
func newWeightedLeastConn(s settings) keyer {
	if s.ipvs {
		return flowKey{flowsPerWeight, newestFirst}
	}
	return weightedLeastConn{turns: newWeightedRR()}
}

func (k weightedLeastConn) key(b *Backend) heapKey {
	if n := uint64(b.Active()); n > 0 {
		return heapKey{major: loaded, num: n, den: b.node.weight, turn: b.node.picked}
	}
	k.turns.overdue(b)
	return k.turns.key(b)
}

func (k weightedLeastConn) enter(b *Backend) { k.turns.enter(b) }

// picked takes a turn from a backend that was idle until now. So were those before it:
// first is one of them.
func (k weightedLeastConn) picked(b *Backend, first heapKey) {
	if b.Active() == 1 {
		k.turns.picked(b, first)
	}
}
