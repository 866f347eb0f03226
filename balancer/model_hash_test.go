package balancer

import (
	"math/big"
	"slices"
)

// hashRule keeps clients at the backend of their slot, by a table that has tests of its
// own. Any other candidate is right where that one will not do.
type hashRule struct {
	noState
	s       *hashing
	percent int // of the bound; 0: none
}

func (r *hashRule) choose(c choice) ([]*modelBackend, bool) {
	if len(c.members) == 0 {
		return nil, false
	}
	t := r.s.table.Load()
	own := t.backends[t.slots[t.slot(r.s.key.hash(&c.flow))]]
	some := c.candidates
	if r.percent > 0 {
		some = r.below(c)
	}
	for _, b := range some {
		if b.Backend == own {
			return only(b, c)
		}
	}
	if len(some) == 0 {
		some = leastLoaded(c.candidates)
	}
	return some, len(some) == 0 && c.busy
}

// below returns the candidates that have room below their bound.
func (r *hashRule) below(c choice) (some []*modelBackend) {
	all := 0
	for _, b := range c.members {
		all += b.weight
	}
	for _, b := range c.candidates {
		if int64(b.active) < exactBound(r.percent, c.flows+1, b.weight, all) {
			some = append(some, b)
		}
	}
	return some
}

// exactBound is ceil(balance/100 · flows · weight/all).
func exactBound(balance, flows, weight, all int) int64 {
	x := new(big.Int).Mul(big.NewInt(int64(balance)), big.NewInt(int64(flows)))
	x.Mul(x, big.NewInt(int64(weight)))
	d := new(big.Int).Mul(big.NewInt(100), big.NewInt(int64(all)))
	x.Add(x, d).Sub(x, big.NewInt(1))
	return x.Div(x, d).Int64()
}

func leastLoaded(some []*modelBackend) (least []*modelBackend) {
	for _, b := range some {
		switch {
		case least == nil || byShare(b, least[0]) < 0:
			least = []*modelBackend{b}
		case byShare(b, least[0]) == 0:
			least = append(least, b)
		}
	}
	return least
}

// ipvsHashRule is the kernel's loop over the slots, written out.
type ipvsHashRule struct {
	noState
	m  *model
	s  *ipvsHash
	mh bool
}

func (r *ipvsHashRule) hash(key, offset uint32) uint32 {
	if r.mh {
		return hsiphash(offset+key, 2654435761) % 4093
	}
	return (offset + (key*0x61c88647)>>24) & 255
}

func (r *ipvsHashRule) choose(c choice) ([]*modelBackend, bool) {
	t := r.s.table.Load()
	if len(c.members) == 0 || len(t.slots) == 0 {
		return nil, false
	}
	from := c.flow.Client
	if r.s.destination {
		from = c.flow.Local
	}
	a := from.Addr().As4()
	key := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	if r.s.port {
		key += uint32(from.Port())
	}
	first, size, probes := r.hash(key, 0), uint32(len(t.slots)), uint32(0)
	if r.s.fallback || c.tried.Len() > 0 {
		probes = size
	}
	slot, busy := first, false
	for o := range 1 + probes {
		if o > 0 {
			slot = r.hash(key, (o-1+first)%size)
		}
		b := r.m.backends[t.members[t.slots[slot]].Backend]
		if slices.Contains(c.candidates, b) {
			return only(b, c)
		}
		busy = busy || b.Weight() > 0 && !c.tried.Has(b.Backend) && b.full()
	}
	if c.tried.Len() > 0 { // along the list, newest first
		if some := newestOf(c.candidates); len(some) > 0 {
			return only(some[0], c)
		}
		busy = busy || c.busy
	}
	return nil, busy
}
