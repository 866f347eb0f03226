package balancer

// failover ranks by weight: one backend gets all flows for as long as it is a member and
// has room. Of equal ones it is the first that the operator lists, with ipvs the newest.
type failover struct {
	stateless
	ties ties
}

func (r failover) rank(b *Backend) rank {
	return rank{major: topWeight - b.node.weight, den: 1, turn: r.ties.turn(b)}
}
