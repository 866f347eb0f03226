package balancer

// shortestDelay ranks by the flows that a backend would have with one more, in relation
// to its weight: of idle backends the heaviest goes first. Of equal ones it is the least
// recently picked, with ipvs the newest. UDP flows count, unlike in the kernel.
type shortestDelay struct {
	stateless
	ties ties
}

func (r shortestDelay) rank(b *Backend) rank {
	return rank{num: uint64(b.Active()) + 1, den: b.node.weight, turn: r.ties.turn(b)}
}
