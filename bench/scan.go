package main

import (
	"sync/atomic"

	"usher/balancer"
)

// scanTraffic chooses the backend with the fewest flows by looking at all of them, and
// then takes it. Of equal ones the first wins. The pool only provides its backends.
// Two concurrent choices may take the same one. The scan has no step that serialises
// them, so it is faster than a correct one.
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
		if !p.AcquireSticky(best, balancer.AffinityPolicy{}) {
			return nil
		}
		return best
	}
	return newTraffic(len(backends), acquire, p.Release)
}

// packedTraffic is scanTraffic at its fastest. The counts lie side by side in memory,
// apart from the backends, and a scan reads nothing else.
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
