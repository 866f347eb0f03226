package balancer

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestSharesThroughChange has backends of weights 1 to 100 join, leave, drain, come back
// and change, with flows under way, and then looks at who gets how many. What has been
// before makes no difference.
func TestSharesThroughChange(t *testing.T) {
	t.Parallel()
	for _, a := range Algorithms() {
		for _, flags := range [][]string{nil, {IPVS}} {
			judge := shareJudge(a, flags != nil)
			if judge == nil || flags != nil && !slices.Contains(a.Flags, IPVS) {
				continue
			}
			t.Run(strings.Join(append([]string{a.Name}, flags...), " "), func(t *testing.T) {
				t.Parallel()
				rnd := newRand(t)
				const n = 30
				s := specs(n)
				p := poolOf(t, Options{Scheduler: a.Name, Flags: flags, Initial: Up, Random: rnd.Uint64}, nil)
				var held []*Backend
				for range 3 {
					for range 2 {
						changeAll(rnd, p, s)
						for range 100 {
							if b := acquire(p, visit(rnd.IntN(1<<20)), nil); b != nil {
								held = append(held, b)
							}
							for len(held) > 200 {
								held = releaseOne(rnd, p, held)
							}
						}
					}
					for len(held) > 0 {
						held = releaseOne(rnd, p, held)
					}
					judge(t, rnd, p, membersOf(p))
				}
			})
		}
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
	p.Update(s[:2+rnd.IntN(len(s)-1)])
	for range 3 {
		if b := p.Backends()[rnd.IntN(len(p.Backends()))]; b.Status() == Drain {
			p.Resume(b)
		} else {
			p.SetStatus(b, Drain)
		}
	}
	p.Resume(p.Backends()[0]) // one at least is there
}

// shareJudge returns what checks the shares of an algorithm on an idle pool, or nil where
// they do not follow from the weights alone.
func shareJudge(a Algorithm, ipvs bool) func(t *testing.T, rnd *rand.Rand, p *Pool, members []member) {
	switch a.Name {
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
			slots := float64(len(p.scheduler.(*hashing).table.Load().slots))
			wantChi(t, p, members, func(_ *Backend, w, all float64) (share, variance float64) {
				share = w / all
				if a.Name == "hrw" || a.Name == "ring" { // drawn
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
