package main

import (
	"sync/atomic"

	"usher/balancer"
)

// scanTraffic chooses the backend with the fewest flows by looking at all of them, one
// after the other, and then takes it. Of equal ones the first wins. The pool only
// lends its backends. Two that choose at once may choose the same one: this scan has no
// step that would hold the other up, and so is quicker than one that may be used.
func scanTraffic(p *balancer.Pool) (*traffic, error) {
	backends := p.Backends()
	acquire := func(balancer.Flow) *balancer.Backend {
		best := backends[0]
		flows := best.Active()
		for _, b := range backends[1:] {
			if n := b.Active(); n < flows {
				best, flows = b, n
			}
		}
		if !p.Rejoin(best, balancer.Stickiness{}) {
			return nil
		}
		return best
	}
	return newTraffic(len(backends), acquire, p.Release)
}

// packedTraffic is scanTraffic as quick as it can be made: the counts lie side by side
// in memory, apart from the backends, and a scan reads nothing else.
func packedTraffic(p *balancer.Pool) (*traffic, error) {
	backends := p.Backends()
	counts := make([]atomic.Int32, len(backends))
	first := backends[0].ID() // the pool numbers the backends of its first list in order
	acquire := func(balancer.Flow) *balancer.Backend {
		best, flows := 0, counts[0].Load()
		for i := range counts {
			if n := counts[i].Load(); n < flows {
				best, flows = i, n
			}
		}
		counts[best].Add(1)
		return backends[best]
	}
	release := func(b *balancer.Backend) { counts[b.ID()-first].Add(-1) }
	return newTraffic(len(backends), acquire, release)
}
