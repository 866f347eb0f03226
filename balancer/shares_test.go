package balancer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestSharesThroughChange has backends of weights 1 to 100 join, leave, drain, come back
// and change, with flows under way, and then looks at who gets how many. What has been
// before makes no difference.
func TestSharesThroughChange(t *testing.T) {
	t.Parallel()
	ofOneGoroutine(t)
	for _, o := range forms() {
		check := shareCheck(o.Scheduler, o.Flags != nil)
		if check == nil || o.Balance > 0 {
			continue
		}
		t.Run(formOf(o), func(t *testing.T) {
			t.Parallel()
			rnd := newRand(t)
			s := specs(30)
			o.Random = rnd.Uint64
			p := poolOf(t, o, nil)
			var held []*Backend
			for range 2 {
				for range 2 {
					changeAll(rnd, p, s)
					for range 100 {
						if b := acquire(p, visit(rnd.IntN(1<<20)), nil); b != nil {
							held = append(held, b)
						}
					}
				}
				for len(held) > 0 {
					held = releaseOne(rnd, p, held)
				}
				check(t, rnd, p, membersOf(p))
			}
		})
	}
}

// changeAll makes the pool another part of s, in another order and with some other weights,
// drains some of it and takes some back.
func changeAll(rnd *rand.Rand, p *Pool, s []Spec) {
	rnd.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
	for i := range s {
		if s[i].Weight == 1 || rnd.IntN(4) == 0 {
			s[i].Weight = 1 + rnd.IntN(100)
		}
	}
	update(p, s[:2+rnd.IntN(len(s)-1)])
	for range 3 {
		if b := p.Backends()[rnd.IntN(len(p.Backends()))]; b.Status() == Draining {
			setAdmin(p, Ready, b)
		} else {
			setAdmin(p, Drain, b)
		}
	}
	setAdmin(p, Ready, p.Backends()[0]) // one at least is there
}

// shareCheck returns what checks the shares of an algorithm on an idle pool, or nil where
// they do not follow from the weights alone.
func shareCheck(name string, ipvs bool) func(t *testing.T, rnd *rand.Rand, p *Pool, members []member) {
	switch name {
	case "rr", "lc":
		return func(t *testing.T, _ *rand.Rand, p *Pool, members []member) {
			for i := range members {
				members[i].weight = 1
			}
			wantShares(t, p, members, 1)
		}
	case "wrr":
		return func(t *testing.T, _ *rand.Rand, p *Pool, members []member) {
			off := 2
			if ipvs { // an edit leaves the walk at a place in the new cycle
				off = 0
			}
			wantShares(t, p, members, off)
		}
	case "wlc", "sed", "nq":
		return func(t *testing.T, _ *rand.Rand, p *Pool, members []member) { wantShares(t, p, members, 1) }
	case "twos", "p2c", "ewma":
		return func(t *testing.T, _ *rand.Rand, p *Pool, members []member) {
			extra := slices.MaxFunc(members, func(x, y member) int { return int(x.id) - int(y.id) }).Backend
			wantChi(t, p, members, func(b *Backend, w, all float64) (share, variance float64) {
				if !ipvs {
					return w / all, 0
				}
				if b == extra {
					w++
				}
				return w / (all + 1), 0
			}, func(int) Flow { return Flow{} })
		}
	case "mh", "sh", "dh", "ring", "hrw":
		if ipvs {
			return nil // see the vectors
		}
		return func(t *testing.T, rnd *rand.Rand, p *Pool, members []member) {
			slots := float64(len(schedulerOf(p).(*hashing).table.Load().slots))
			wantChi(t, p, members, func(_ *Backend, w, all float64) (share, variance float64) {
				share = w / all
				if name == "hrw" || name == "ring" { // drawn
					return share, share / slots
				}
				return share, 1 / (slots * slots) // a slot more or less
			}, func(int) Flow { return visit(int(rnd.Uint32())) })
		}
	}
	return nil
}

// wantShares holds three flows for each unit of weight.
func wantShares(t *testing.T, p *Pool, members []member, off int) {
	t.Helper()
	all := 0
	for _, m := range members {
		all += m.weight
	}
	count := picks(p, 3*all)
	for _, m := range members {
		if got, want := count[m.Backend], 3*m.weight; got < want-off || got > want+off {
			t.Errorf("%d members: weight %d of %d got %d flows, want %d", len(members), m.weight, all, got, want)
		}
	}
	releaseAll(p)
}

// wantChi compares short flows with shares that have a variance of their own.
func wantChi(t *testing.T, p *Pool, members []member, of func(b *Backend, w, all float64) (share, variance float64), flow func(int) Flow) {
	t.Helper()
	const flows = 30_000
	all := 0.0
	for _, m := range members {
		all += float64(m.weight)
	}
	count := make(map[*Backend]int)
	for i := range flows {
		b := acquire(p, flow(i), nil)
		count[b]++
		p.Release(b)
	}
	chi := 0.0
	for _, m := range members {
		share, variance := of(m.Backend, float64(m.weight), all)
		d := float64(count[m.Backend]) - flows*share
		chi += d * d / (flows*share + flows*flows*variance)
	}
	if limit := chiSquareLimit(len(members)); chi > limit || count[nil] > 0 {
		t.Errorf("%d members: chi-square %.1f, want at most %.1f; %d flows got none", len(members), chi, limit, count[nil])
	}
}

// TestSharesOfLoad: flows that stay are spread by weight, exactly to within one flow where
// keys decide, closely where draws do.
func TestSharesOfLoad(t *testing.T) {
	t.Parallel()
	for _, o := range forms() {
		off, each := 1.0, 5
		switch o.Scheduler {
		default:
			continue
		case "wlc", "sed", "nq":
		case "twos", "p2c", "ewma":
			off, each = .1, 20
		}
		t.Run(formOf(o), func(t *testing.T) {
			t.Parallel()
			s := specs(100)
			for i := range s {
				s[i].Weight = 1 + i
			}
			o.Random = newRand(t).Uint64
			p := poolOf(t, o, s)
			for _, b := range p.Backends() {
				p.Observe(b, time.Millisecond, 0)
			}
			picks(p, 5050*each)
			for _, b := range p.Backends() {
				want, slack := float64(b.Weight()*each), off
				if off < 1 {
					slack = off*float64(b.Weight()*each) + 5
				}
				if got := float64(b.Active()); math.Abs(got-want) > slack {
					t.Errorf("weight %d holds %v flows, want %v", b.Weight(), got, want)
				}
			}
		})
	}
}

// TestShareActs shows the part of new flows that each scheduler that weighs gives to a
// backend of which a part counts, by its spec or by a slow start.
func TestShareActs(t *testing.T) {
	t.Parallel()
	for _, a := range Algorithms() {
		if !a.Weighs {
			continue
		}
		t.Run(a.Name, func(t *testing.T) {
			t.Parallel()
			rnd := newRand(t)
			p := poolOf(t, Options{Scheduler: a.Name, SlowStart: time.Minute, Random: rnd.Uint64}, nil)
			b, now, at := (*Backend)(nil), 2*time.Minute, 0
			want := func(what string, part float64) {
				t.Helper()
				const flows = 2200
				before := b.Total()
				for range flows {
					at++
					f := visit(at)
					f.Now = now
					acquire(p, f, nil) // held: load counts for some
				}
				if got := float64(b.Total() - before); got < part*flows/2 || got > part*flows*2 {
					t.Errorf("%s: got %v of %d flows, want about %.0f", what, got, flows, part*flows)
				}
				releaseAll(p)
			}
			all := specs(2)
			all[0].Check = Up
			p.Update(all, 0)
			p.Update(all, now)
			b = p.Backends()[1]
			all[1].Check = Up
			p.Update(all, now)
			want("the first step of a slow start", 5./105)
			now *= 2
			p.Update(all, now)
			want("its whole weight", 1./2)
			all[1].Share = 10
			p.Update(all, now)
			want("a tenth of its weight", 1./11)
			if b.Weight() != 1 {
				t.Errorf("its weight is %d, that of its spec is 1", b.Weight())
			}
		})
	}
}

// TestShareCounts: what members weigh, by weight@share of each backend.
func TestShareCounts(t *testing.T) {
	t.Parallel()
	type spec struct{ weight, share int }
	for _, tt := range []struct {
		scheduler string
		flags     []string
		specs     []spec
		want      string
	}{
		{"wrr", nil, []spec{{1, 0}, {3, 100}}, "[1 3]"},
		{"wrr", nil, []spec{{1, 0}, {3, 50}}, "[100 150]"},
		{"wrr", nil, []spec{{2, 50}, {3, 50}}, "[2 3]"}, // half of all is all
		{"wrr", nil, []spec{{2, 50}}, "[2]"},
		{"wrr", nil, []spec{{2, 50}, {0, 70}}, "[2]"},
		{"wrr", nil, []spec{{1, 1}, {1, -5}, {1, 100}}, "[1 1 100]"},
		{"wrr", nil, []spec{{1, 1000}, {1, 5000}, {1, 100}}, "[1000 1000 100]"},
		{"wrr", nil, []spec{{maxWeight, 1000}, {1, 100}}, fmt.Sprintf("[%d 100]", int64(topWeight))},
		{"fo", nil, []spec{{1, 50}, {3, 50}, {100, 7}}, "[1 2 7]"},
		{"ovf", nil, []spec{{10, 150}, {maxWeight, 1000}}, fmt.Sprintf("[15 %d]", maxWeight)},
		{"wrr", []string{IPVS}, []spec{{1, 50}, {10, 1}, {0, 50}}, "[1 1]"},
	} {
		p, err := NewPool(Options{Scheduler: tt.scheduler, Flags: tt.flags})
		if err != nil {
			t.Fatal(err)
		}
		all := specs(len(tt.specs))
		for i, s := range tt.specs {
			all[i].Weight, all[i].Share = s.weight, s.share
		}
		update(p, all)
		var got []int
		for _, m := range p.members {
			got = append(got, m.weight)
		}
		if fmt.Sprint(got) != tt.want {
			t.Errorf("%s%v of %v: %v, want %s", tt.scheduler, tt.flags, tt.specs, got, tt.want)
		}
	}
}
