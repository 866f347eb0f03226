package balancer

// overflow is failover in which a weight is also a number of flows: a backend that has
// that many gets no more, and the flow goes on to the next weight. With ipvs it gets one
// more than its weight, as the kernel passes over those that have more, not as many. When
// all are over, flows are refused.
type overflow struct {
	failover
	beyond int64 // flows over the weight
}

func (r overflow) rank(b *Backend) rank {
	x := r.failover.rank(b)
	if b.Active() >= int64(b.node.weight)+r.beyond {
		x.major = noRoom
	}
	return x
}

func newOverflow(s settings) overflow {
	r := overflow{failover: failover{ties: tiesOf(s, firstListed)}}
	if s.ipvs {
		r.beyond = 1
	}
	return r
}
