package balancer

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// Surplus is how many flows a backend has beyond its fair share.
type Surplus struct {
	Backend *Backend
	Flows   int64
}

// Surplus returns the members that have more flows than their fair share. All flows of
// members are shared out: by weight with a scheduler that weighs, else evenly. A member gets
// no more than its Limits allow, and the others what is left. Flows of backends that are no
// members do not count. Shares are rounded up, so that no flow would come back to the backend
// that it left. The error says why there are no such shares.
func (p *Pool) Surplus() ([]Surplus, error) {
	p.build.Lock()
	defer p.build.Unlock()
	a, err := lookup(p.options.Scheduler)
	switch {
	case err != nil:
		return nil, err
	case a.Hashes || a.Destination:
		return nil, fmt.Errorf("scheduler %s sends a client back to the backend that it had", a.Name)
	case a.ordered:
		return nil, fmt.Errorf("scheduler %s has an order of backends, and no shares", a.Name)
	}
	loads := make([]sharing, 0, len(p.members))
	for _, m := range p.members {
		l := sharing{flows: uint64(max(m.Active(), 0)), weight: 1, most: m.Limits().most()}
		if a.Weighs {
			l.weight = uint64(m.weight)
		}
		loads = append(loads, l)
	}
	var all []Surplus
	for i, fair := range fairShares(loads) {
		if over := loads[i].flows - min(fair, loads[i].flows); over > 0 {
			all = append(all, Surplus{p.members[i].Backend, int64(over)})
		}
	}
	return all, nil
}

// sharing is a member's part when flows are shared out.
type sharing struct {
	flows, weight uint64
	most          uint64 // that it may have
}

// fairShares shares all flows out by weight, each share rounded up. Those that may have less
// than their share get what they may. O(n log n).
func fairShares(loads []sharing) []uint64 {
	order := make([]int, len(loads))
	flows, weight := uint64(0), uint64(0)
	for i, l := range loads {
		order[i] = i
		flows += l.flows
		weight += l.weight
	}
	// Those with the least room for their weight come first: once one of them may have its
	// share, all others may.
	slices.SortFunc(order, func(a, b int) int {
		x, y := &loads[a], &loads[b]
		return compareProducts(x.most, y.weight, y.most, x.weight)
	})
	shares := make([]uint64, len(loads))
	for _, i := range order {
		l := &loads[i]
		share := partOf(flows, l.weight, weight)
		if l.most < share {
			flows -= min(l.most, flows)
			weight -= l.weight
			share = l.most
		}
		shares[i] = share
	}
	return shares
}

// partOf returns n * part / whole, rounded up; part is not greater than whole.
func partOf(n, part, whole uint64) uint64 {
	if part == 0 {
		return 0
	}
	hi, lo := bits.Mul64(n, part)
	q, r := bits.Div64(hi, lo, whole)
	if r > 0 {
		q++
	}
	return q
}

// compareProducts compares a*b with c*d.
func compareProducts(a, b, c, d uint64) int {
	hi1, lo1 := bits.Mul64(a, b)
	hi2, lo2 := bits.Mul64(c, d)
	return cmp.Or(cmp.Compare(hi1, hi2), cmp.Compare(lo1, lo2))
}

// most is how many flows the limits allow; new flows are not sent beyond the upper threshold.
func (l Limits) most() uint64 {
	most := uint64(math.MaxUint64)
	for _, n := range [...]int{l.Max, l.Upper} {
		if n > 0 {
			most = min(most, uint64(n))
		}
	}
	return most
}
