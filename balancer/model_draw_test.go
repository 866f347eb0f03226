package balancer

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"time"
)

// drawRule is twos, p2c and ewma with twin random numbers and its own record of samples.
type drawRule struct {
	noState
	ipvs, distinct bool
	random         *rand.Rand
	samples        map[*Backend]*[2]estimate // of accepting and of answering; nil: not ewma
}

// draw maps a number to a member as the kernel's walk does, or by TestAliasCells.
func (r *drawRule) draw(members []*modelBackend, x uint64) *modelBackend {
	some := make([]member, len(members))
	for i, b := range members {
		some[i] = member{Backend: b.Backend, weight: b.weight}
	}
	var drawn *Backend
	if r.ipvs {
		slices.SortFunc(some, func(a, b member) int { return int(a.id) - int(b.id) })
		total := 0
		for _, m := range some {
			total += m.weight
		}
		at, _ := bits.Mul64(x, uint64(total+1))
		drawn = kernelWalk(some, int(at))
	} else {
		drawn = newAliasTable(some).draw(x).backend
	}
	return members[slices.IndexFunc(members, func(b *modelBackend) bool { return b.Backend == drawn })]
}

func (r *drawRule) pick(c choice, not *modelBackend) *modelBackend {
	right := func(b *modelBackend) bool { return b != not && slices.Contains(c.candidates, b) }
	for range redraws {
		if b := r.draw(c.members, r.random.Uint64()); right(b) {
			return b
		}
	}
	inLine := c.members
	if r.ipvs {
		inLine = newestOf(inLine)
	}
	start, _ := bits.Mul64(r.random.Uint64(), uint64(len(inLine)))
	for i := range inLine {
		if b := inLine[(int(start)+i)%len(inLine)]; right(b) {
			return b
		}
	}
	return nil
}

// choose has two right picks where a rounded latency may decide.
func (r *drawRule) choose(c choice) ([]*modelBackend, bool) {
	if len(c.members) == 0 {
		return nil, false
	}
	first := r.pick(c, nil)
	if first == nil {
		return nil, c.busy
	}
	if len(c.members) == 1 {
		return only(first, c)
	}
	var not *modelBackend
	if r.distinct {
		not = first
	}
	second := r.pick(c, not)
	switch {
	case second == nil:
		return only(first, c)
	case r.samples == nil && second.active*first.weight < first.active*second.weight:
		return only(second, c)
	case r.samples == nil:
		return only(first, c)
	}
	cost1, cost2, sure := r.costs(first, second)
	switch {
	case !sure || cost1 != cost2 && cost2 > cost1*.999 && cost2 < cost1*1.001:
		return []*modelBackend{first, second}, false
	case cost2 < cost1:
		return only(second, c)
	}
	return only(first, c)
}

// costs by the rules of ewma; sure is false close to the edge of what counts as equal.
func (r *drawRule) costs(x, y *modelBackend) (cx, cy float64, sure bool) {
	lx, ly, sure := 0., 0., true
	for part := range 2 {
		ex, ey := r.sample(x.Backend, part), r.sample(y.Backend, part)
		switch {
		case ex.mean == 0:
			ex = ey
		case ey.mean == 0:
			ey = ex
		}
		fade := remains(max(ex.at, ey.at) - min(ex.at, ey.at))
		if ex.at < ey.at {
			ex.mean = fade*ex.mean + (1-fade)*ey.mean
		} else {
			ey.mean = fade*ey.mean + (1-fade)*ex.mean
		}
		lx, ly = lx+ex.mean, ly+ey.mean
	}
	if lx != ly {
		apart := max(lx, ly)/min(lx, ly) - 1
		sure = apart < latencyNoise*.999 || apart > latencyNoise*1.001
		if apart < latencyNoise {
			lx, ly = 1, 1
		}
	}
	if lx == ly { // in whole numbers
		return float64(x.active * y.weight), float64(y.active * x.weight), sure
	}
	mean := float64(x.weight+y.weight) / 2
	cx = lx * (float64(x.active)/float64(x.weight) + 1/mean)
	cy = ly * (float64(y.active)/float64(y.weight) + 1/mean)
	return cx, cy, sure
}

func (r *drawRule) sample(b *Backend, part int) estimate {
	if e := r.samples[b]; e != nil {
		return e[part]
	}
	return estimate{}
}

// observe gives a sample to the pool and to the record.
func (r *drawRule) observe(p *Pool, b *Backend, part int, took, now time.Duration) {
	if part == 0 {
		p.ObserveConnect(b, took, now)
	} else {
		p.Observe(b, took, now)
	}
	if r.samples == nil {
		return
	}
	if r.samples[b] == nil {
		r.samples[b] = new([2]estimate)
	}
	now -= now % latencyTick
	e := &r.samples[b][part]
	weight := 1 - remains(now-e.at)
	if float64(took) > e.mean {
		weight = 1
	}
	e.mean += (float64(took) - e.mean) * weight
	e.at = now
}
