package balancer

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestWRRNobodyStarves changes weights and members every few picks. One backend is left
// alone, and must get its share of what it lives through.
func TestWRRNobodyStarves(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"weights", "own weight", "members", "both"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			rnd := newRand(t)
			for _, every := range []int{1, 2, 3, 7} {
				const n, picks = 9, 5000
				s := specs(n)
				for i := range s {
					s[i].Weight = 1 + rnd.IntN(20)
				}
				p := newPool(t, "wrr", s)
				watched := p.Backends()[rnd.IntN(n)]
				for i, b := range p.Backends() {
					if b == watched {
						s[0], s[i] = s[i], s[0]
					}
				}
				due, got, since, longest := 0.0, 0, 0.0, 0.0
				for k := range picks {
					if k%every == 0 {
						changeAround(rnd, p, s, what)
					}
					all := 0
					for _, b := range p.Backends() {
						all += b.Weight()
					}
					share := float64(watched.Weight()) / float64(all)
					due += share
					since += share
					if b := acquire(p, client(k), nil); b == watched {
						got++
						since = 0
					}
					longest = max(longest, since)
				}
				// A list that changes all the time has rounds that do not end, and turns that
				// nobody sees through. What must not be is a bias of more than a little.
				if ratio := float64(got) / due; ratio < 0.8 || ratio > 1.25 || longest > 8 {
					t.Errorf("every %d picks: got %d flows, %.0f were due; once it waited %.1f turns", every, got, due, longest)
				}
				releaseAll(p)
			}
		})
	}
}

// changeAround edits s[1:], or the weight of s[0] between two values.
func changeAround(rnd *rand.Rand, p *Pool, s []Spec, what string) {
	next := slices.Clone(s)
	switch what {
	case "own weight":
		next[0].Weight = 1 + rnd.IntN(4)
	case "weights", "both":
		for i := range next[1:] {
			next[1+i].Weight = 1 + rnd.IntN(20)
		}
	}
	if what == "members" || what == "both" {
		next = next[:2+rnd.IntN(len(next)-1)]
		rnd.Shuffle(len(next), func(i, j int) { next[i], next[j] = next[j], next[i] })
	}
	update(p, next)
}

// TestWRRPersistence: ten thousand flows that persistence sends take no more than the
// coming turn, so new flows go there at once afterwards.
func TestWRRPersistence(t *testing.T) {
	t.Parallel()
	p := newPool(t, "wrr", weighing(1, 1, 2))
	b := p.Backends()[0]
	for range 10_000 {
		if !p.AcquireSticky(b, AffinityPolicy{}) {
			t.Fatal("refused")
		}
	}
	before := b.Total()
	letters(p, 40)
	if got := b.Total() - before; got < 9 || got > 10 {
		t.Errorf("%d of 40 flows, want 9 or 10", got)
	}
}

// TestTurnsExact: any cycle gives each backend exactly its weight, and at no time is one
// two turns away from its share.
func TestTurnsExact(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	for _, scheduler := range []string{"wrr", "wlc"} {
		for _, n := range []int{1, 2, 3, 10, 100} {
			s, all := specs(n), 0
			for i := range s {
				s[i].Weight = 1 + rnd.IntN(100)
				all += s[i].Weight
			}
			p := newPool(t, scheduler, s)
			for k := range 3 * all {
				letters(p, 1)
				if exact := (k+1)%all == 0; exact || k%7 == 0 {
					for i, b := range p.Backends() {
						share := float64((k+1)*s[i].Weight) / float64(all)
						if off := math.Abs(share - float64(b.Total())); off >= 2 || exact && off > 1e-6 {
							t.Fatalf("%s, %d backends: after %d of %d flows one is %.2f turns away from its share", scheduler, n, k+1, all, off)
						}
					}
				}
			}
		}
	}
}

// TestTurnsComeBack: one that was away, full, or in use for hundreds of turns gets its share
// from now on, not what it missed.
func TestTurnsComeBack(t *testing.T) {
	t.Parallel()
	for _, weight := range []int{1, 3, 50} {
		for _, how := range []string{"wrr down", "wrr full", "wrr new", "wlc down", "wlc in use"} {
			s := weighing(weight, 2, 5)
			scheduler, how, _ := strings.Cut(how, " ")
			if how == "full" {
				s[0].Limits.Max = 1
			}
			p := newPool(t, scheduler, s)
			b := p.Backends()[0]
			switch how {
			case "down":
				setStatus(p, b, Down)
			case "new":
				update(p, s[1:])
			default:
				if !p.AcquireSticky(b, AffinityPolicy{}) {
					t.Fatal("no room to begin with")
				}
			}
			before := b.Total()
			letters(p, 703)
			if b.Total() != before {
				t.Errorf("%s, weight %d: %d flows while it was %s and others idle", scheduler, weight, b.Total()-before, how)
			}
			switch how {
			case "down":
				setStatus(p, b, Up)
			case "new":
				update(p, s)
				b = p.Backends()[0]
			default:
				p.Release(b)
			}
			before = b.Total()
			const cycles = 4
			letters(p, cycles*(weight+7))
			if got := int(b.Total() - before); got < (cycles-1)*weight || got > (cycles+1)*weight {
				t.Errorf("%s, weight %d, %s: %d flows in %d cycles", scheduler, weight, how, got, cycles)
			}
		}
	}
}

// TestTurnsFlapping: one that goes away and comes back between any two picks gets about its
// share of the picks for which it is there, and costs the others nothing.
func TestTurnsFlapping(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		scheduler string
		weights   []int
		off       float64 // of the others' shares
	}{
		{"rr", []int{1, 1, 1, 1}, .2}, {"wrr", []int{1, 3, 3, 4}, .03}, {"wrr", []int{4, 3, 3, 4}, .03}, {"wrr", []int{20, 3, 3, 4}, .03},
	} {
		p := newPool(t, tt.scheduler, weighing(tt.weights...))
		b, all := p.Backends()[0], 0
		for _, w := range tt.weights {
			all += w
		}
		const picks = 4000
		for i := range picks {
			setStatus(p, b, []Status{Down, Up}[i%2])
			letters(p, 1)
		}
		others := float64(picks - b.Total())
		if want := float64(picks*tt.weights[0]) / float64(2*all); tt.scheduler == "wrr" && (float64(b.Total()) < want*0.3 || float64(b.Total()) > want*1.7) {
			t.Errorf("%v: %d flows, %.0f were due", tt, b.Total(), want)
		}
		for i, x := range p.Backends()[1:] {
			if got, want := float64(x.Total()), others*float64(tt.weights[1+i])/float64(all-tt.weights[0]); math.Abs(got-want) > tt.off*want {
				t.Errorf("%v: another one got %.0f flows, want %.0f", tt, got, want)
			}
		}
	}
}

// TestHugeWeights: no product of flows, turns and weights overflows, with a slow start on
// either, which counts weights a hundredfold.
func TestHugeWeights(t *testing.T) {
	t.Parallel()
	for _, scheduler := range []string{"wrr", "wlc", "sed", "nq"} {
		p := poolOf(t, Options{Scheduler: scheduler, SlowStart: 100}, weighing(maxWeight, maxWeight/2, maxWeight, 1))
		advance(p, 1000)
		setStatus(p, p.Backends()[2], Down)
		setStatus(p, p.Backends()[2], Up) // at a twentieth of its weight
		picks(p, 3100)
		for i, want := range []int64{2000, 1000, 100, 0} {
			if got := p.Backends()[i].Active(); got < want-2 || got > want+2 {
				t.Errorf("%s: backend %d has %d of 3100 flows, want %d", scheduler, i, got, want)
			}
		}
		// And with as many flows as there can be.
		for _, b := range p.Backends() {
			b.flows.Add(uint64(oneFlow) * (maxFlows / 2))
		}
		advance(p, 10_000)
		if acquire(p, client(0), nil) == nil {
			t.Errorf("%s: none with many flows", scheduler)
		}
	}
}
