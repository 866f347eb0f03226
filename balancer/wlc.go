package balancer

// weightedLeastConn ranks by active flows in relation to the weight; of equal ones the
// least recently picked goes first, with ipvs the newest. As in the kernel, idle
// backends are equal whatever their weights: with ipvs the newest of them gets every
// flow until it has one. See leastConn for what counts as active.
type weightedLeastConn struct {
	stateless
	ties ties
}

func (r weightedLeastConn) rank(b *Backend) rank {
	return rank{num: uint64(b.Active()), den: b.node.weight, turn: r.ties.turn(b)}
}
