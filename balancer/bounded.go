package balancer

import (
	"math/bits"
	"sync/atomic"
)

// bound keeps each backend to so many percent of its fair share of all flows, as in
// "Consistent Hashing with Bounded Loads" (Mirrokni, Thorup, Zadimoghaddam, 2016): a
// backend that has that many is passed over, so that no client sinks one backend alone.
//
// A flow is in the count from before it is reserved until after it is released, so the
// count is never less than what the members have together, the new flow included.
// As the bounds of all members add up to more than flows, one of them has fewer than
// its own: the bound alone refuses nobody. Flows of backends that are no longer members
// count until they end, and loosen the bound of the others by that much.
//
// Nobody exceeds the bound that followed from flows when the choice began. Flows that
// end meanwhile, or later, leave a backend above what would be its bound now; no flow
// is moved for that.
type bound struct {
	percent uint64     // 0: no bound
	count   *flowCount // nil without a bound
}

// flowCount is the number of flows of all backends of a pool whose load is marked as counted. It is exact whenever
// counting begins or ends: the mark is in the word that each flow changes.
type flowCount struct {
	_     [cacheLine]byte
	flows atomic.Int64
	_     [cacheLine]byte
}

// countFlows has the flows of a backend counted or not, those that it has included. Caller must hold Pool.mu.
func (b *Backend) countFlows(is bool) {
	for {
		before := load(b.flows.Load())
		if before.counted() == is {
			return
		}
		if n := before.active(); is && b.flows.CompareAndSwap(uint64(before), uint64(before|countedBit)) {
			b.pool.count.flows.Add(n)
		} else if !is && b.flows.CompareAndSwap(uint64(before), uint64(before&^countedBit)) {
			b.pool.count.flows.Add(-n)
		}
	}
}

// recount takes a flow into the pool's count or out of it.
func (b *Backend) recount(was, is bool) {
	switch {
	case is && !was:
		b.pool.count.flows.Add(1)
	case was && !is:
		b.pool.count.flows.Add(-1)
	}
}

// most returns ceil(percent/100 · flows · weight/all), where weight is at most all. No
// sum of weights that fits into memory wraps in earnest; if one does, there is no bound.
func (b *bound) most(flows int64, weight, all uint64) int64 {
	hi, lo := bits.Mul64(b.percent*uint64(flows), weight)
	if hi >= 100*all {
		return maxFlows
	}
	quo, rem := bits.Div64(hi, lo, 100*all)
	if rem > 0 {
		quo++
	}
	return int64(min(quo, maxFlows))
}

// acquire walks on from a backend that is tried, full or at its bound. When all are,
// because those that are left cannot take what the others should have, the bound gives
// way: the least loaded one that has room gets the flow. One that fails has no flows, and
// so always room below its bound: it gets its own clients, and those of others last.
func (b *bound) acquire(t *hashTable, h uint64, tried *Tried) (*Backend, bool) {
	n, slot := b.count.flows.Add(1), t.slot(h)
	if x := b.try(t, int(t.slots[slot]), n, tried); x != nil {
		return x, false
	}
	// In a small table, few slots show all that they can.
	w := t.walk(h, slot, min(hashWalkSteps, 8*len(t.backends)))
	for i := w.next(); i >= 0; i = w.next() {
		if t.backends[i].failing.Load() {
			continue
		}
		if x := b.try(t, i, n, tried); x != nil {
			return x, false
		}
	}
	x, busy := b.least(t, tried, false)
	if x == nil {
		x, busy = b.least(t, tried, true)
	}
	if x == nil {
		b.count.flows.Add(-1)
	}
	return x, busy
}

// try reserves the i-th backend if it is untried and has room below its bound.
func (b *bound) try(t *hashTable, i int, flows int64, tried *Tried) *Backend {
	x := t.backends[i]
	if tried.Has(x) || !x.reserveCounted(b.most(flows, t.weights[i], t.weight), false, true) {
		return nil
	}
	return x
}

// leastTries is how often least goes for a backend that others take meanwhile.
const leastTries = 4

// least reserves the untried backend with room that has the least flows in relation to
// its weight. As long as none is tried or full, that one is below its bound, even if
// the walk of a flow among many that began with it has just missed the room it had. Those
// that fail count if failing.
func (b *bound) least(t *hashTable, tried *Tried, failing bool) (x *Backend, busy bool) {
	for range leastTries {
		at, flows := -1, uint64(0)
		for i, x := range t.backends {
			if tried.Has(x) || !failing && x.failing.Load() {
				continue
			}
			if x.busy() {
				busy = true
				continue
			}
			// Far from overflow: flows are below 2^26, weights below 2^38.
			n := uint64(x.Active())
			if at < 0 || n*t.weights[at] < flows*t.weights[i] {
				at, flows = i, n
			}
		}
		if at < 0 {
			return nil, busy
		}
		x, w := t.backends[at], t.weights[at]
		if x.reserveCounted(max(b.most(b.count.flows.Load(), w, t.weight), int64(flows)+1), false, true) {
			return x, false
		}
	}
	for _, x := range t.backends {
		if tried.Has(x) || !failing && x.failing.Load() {
			continue
		}
		if x.reserveCounted(maxFlows, false, true) {
			return x, false
		}
		busy = true
	}
	return nil, busy
}
