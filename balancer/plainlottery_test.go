package balancer

import (
	"math/bits"
	"math/rand/v2"
	"time"
)

// plainLottery chooses by the counters of the backends and its own record of samples.
type plainLottery struct {
	p        *Pool
	ipvs     bool
	distinct bool
	random   *rand.Rand
	samples  map[*Backend]*[2]estimate // of accepting and of answering
}

// membersOf is the pool's rule for who is a member, without panic and slow start.
func membersOf(p *Pool) []member {
	for _, status := range []Status{Up, Unknown, Down} {
		var members []member
		for _, b := range p.Backends() {
			if b.Status() == status && b.Weight() > 0 {
				members = append(members, member{Backend: b, weight: b.Weight()})
			}
		}
		if members != nil {
			return members
		}
	}
	return nil
}

// full is what Limits say, and IPVS of its thresholds.
func full(b *Backend) bool {
	l := b.Limits()
	return b.Overloaded() || l.Max > 0 && b.Active() >= int64(l.Max)
}

func (m *plainLottery) pick(members []member, tried *Tried, not *Backend) *member {
	for range redraws {
		var x *member
		if r := m.random.Uint64(); m.ipvs {
			byAge := map[uint32]member{}
			total, oldest := 0, uint32(0)
			for _, x := range members {
				byAge[x.id] = x
				total += x.weight
				oldest = max(oldest, x.id)
			}
			draw, _ := bits.Mul64(r, uint64(total+1))
			var inAge []member
			for id := uint32(1); id <= oldest; id++ {
				if x, ok := byAge[id]; ok {
					inAge = append(inAge, x)
				}
			}
			b := kernelWalk(inAge, int(draw))
			for i := range members {
				if members[i].Backend == b {
					x = &members[i]
				}
			}
		} else {
			b := newLots(members).draw(r).backend // TestAliasCells
			for i := range members {
				if members[i].Backend == b {
					x = &members[i]
				}
			}
		}
		if x.Backend != not && !tried.Has(x.Backend) && !full(x.Backend) {
			return x
		}
	}
	rows := members
	if m.ipvs {
		rows = nil
		for _, l := range newKernelLots(members).rows {
			rows = append(rows, member{Backend: l.backend, weight: int(l.weight)})
		}
	}
	start, _ := bits.Mul64(m.random.Uint64(), uint64(len(rows)))
	for i := range rows {
		x := &rows[(int(start)+i)%len(rows)]
		if x.Backend != not && !tried.Has(x.Backend) && !full(x.Backend) {
			return x
		}
	}
	return nil
}

// acquire says what may be picked: more than one where a rounded latency may decide.
func (m *plainLottery) acquire(tried *Tried) (want []*Backend, busy bool) {
	members := membersOf(m.p)
	if len(members) == 0 {
		return []*Backend{nil}, false
	}
	first := m.pick(members, tried, nil)
	if first == nil {
		for _, x := range members {
			busy = busy || !tried.Has(x.Backend) && full(x.Backend)
		}
		return []*Backend{nil}, busy
	}
	if len(members) == 1 {
		return []*Backend{first.Backend}, false
	}
	var not *Backend
	if m.distinct {
		not = first.Backend
	}
	second := m.pick(members, tried, not)
	if second == nil {
		return []*Backend{first.Backend}, false
	}
	if m.samples == nil {
		if second.Active()*int64(first.weight) < first.Active()*int64(second.weight) {
			return []*Backend{second.Backend}, false
		}
		return []*Backend{first.Backend}, false
	}
	cost1, cost2, sure := m.costs(first, second)
	switch {
	case !sure || cost1 != cost2 && cost2 > cost1*.999 && cost2 < cost1*1.001:
		return []*Backend{first.Backend, second.Backend}, false
	case cost2 < cost1:
		return []*Backend{second.Backend}, false
	}
	return []*Backend{first.Backend}, false
}

// costs by the rules of ewma; sure is false close to the edge of what counts as equal.
func (m *plainLottery) costs(x, y *member) (cx, cy float64, sure bool) {
	lx, ly, sure := 0., 0., true
	for part := range 2 {
		ex, ey := m.sample(x.Backend, part), m.sample(y.Backend, part)
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
		return float64(x.Active() * int64(y.weight)), float64(y.Active() * int64(x.weight)), sure
	}
	mean := float64(x.weight+y.weight) / 2
	cx = lx * (float64(x.Active())/float64(x.weight) + 1/mean)
	cy = ly * (float64(y.Active())/float64(y.weight) + 1/mean)
	return cx, cy, sure
}

func (m *plainLottery) sample(b *Backend, part int) estimate {
	if e := m.samples[b]; e != nil {
		return e[part]
	}
	return estimate{}
}

func (m *plainLottery) observe(b *Backend, part int, took, now time.Duration) {
	if m.samples == nil {
		return
	}
	if m.samples[b] == nil {
		m.samples[b] = new([2]estimate)
	}
	now -= now % latencyTick
	e := &m.samples[b][part]
	weight := 1 - remains(now-e.at)
	if float64(took) > e.mean {
		weight = 1
	}
	e.mean += (float64(took) - e.mean) * weight
	e.at = now
}
