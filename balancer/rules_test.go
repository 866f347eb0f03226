package balancer

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// held acquires n times without release, and writes the backends as letters.
func held(p *Pool, n int) string {
	s := ""
	for i := range n {
		if b := acquire(p, client(i), nil); b != nil {
			s += string(rune('A' + b.ID() - 1))
		} else {
			s += "-"
		}
	}
	return s
}

// TestRuleCorners has what each scheduler does where the others differ. Backends are A, B,
// C … in the order of the list; short flows end before the next begins, long ones stay.
func TestRuleCorners(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		scheduler      string
		weights        []int
		short, long    string
		ipvs, ipvsLong string
	}{
		// Ties: in turn; the kernel's newest first, whose idle newest gets everything.
		{"lc", []int{1, 1, 1}, "ABCABC", "ABCABC", "CCCCCC", "CBACBA"},
		{"lc", []int{9, 1, 1}, "ABCABC", "ABCABC", "CCCCCC", "CBACBA"},
		{"wlc", []int{1, 1, 1}, "ABCABC", "ABCABC", "CCCCCC", "CBACBA"},
		{"wlc", []int{4, 2, 1}, "ABAABACABAABAC", "ABCABAA", "CCCCCC", "CBAABAA"},
		{"sed", []int{4, 2, 1}, "AAAAAA", "ABAACBA", "AAAAAA", "ABAACBA"},
		{"sed", []int{1, 1}, "ABAB", "ABAB", "BBBB", "BABA"},
		{"nq", []int{4, 2, 1}, "ABCABC", "ABCAABA", "CCCCCC", "CBAAABA"},
		{"fo", []int{1, 3, 3}, "BBBB", "BBBB", "CCCC", "CCCC"},
		{"ovf", []int{1, 3, 2}, "BBBB", "BBBCCA--", "BBBB", "BBBBCCCAA--"},
		{"ovf", []int{2, 2}, "AAAA", "AABB--", "BBBB", "BBBAAA--"},
	} {
		for _, form := range []struct {
			flags       []string
			short, long string
		}{{nil, tt.short, tt.long}, {[]string{IPVS}, tt.ipvs, tt.ipvsLong}} {
			p := newForm(t, tt.scheduler, form.flags, weighing(tt.weights...))
			if got := letters(p, len(form.short)); got != form.short {
				t.Errorf("%s %v %v, short flows: %s, want %s", tt.scheduler, form.flags, tt.weights, got, form.short)
			}
			p = newForm(t, tt.scheduler, form.flags, weighing(tt.weights...))
			if got := held(p, len(form.long)); got != form.long {
				t.Errorf("%s %v %v, long flows: %s, want %s", tt.scheduler, form.flags, tt.weights, got, form.long)
			}
		}
	}
}

// TestShareByWeight: of long flows everybody holds its share to within one.
func TestShareByWeight(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{nil, {IPVS}} {
		for _, scheduler := range []string{"wlc", "sed", "nq"} {
			s := specs(100)
			all := 0
			for i := range s {
				s[i].Weight = i + 1
				all += i + 1
			}
			p := newForm(t, scheduler, flags, s)
			picks(p, 2*all)
			for i, b := range p.Backends() {
				if want := int64(2 * (i + 1)); b.Active() < want-1 || b.Active() > want+1 {
					t.Errorf("%s %v: weight %d holds %d flows, want %d", scheduler, flags, i+1, b.Active(), want)
				}
			}
		}
	}
}

// TestListedOrder: what the operator lists first goes first, also after another order.
func TestListedOrder(t *testing.T) {
	t.Parallel()
	for _, scheduler := range []string{"fo", "ovf"} {
		s := weighing(5, 5, 5)
		p := newPool(t, scheduler, s)
		if got := letters(p, 2); got != "AA" {
			t.Errorf("%s: %s, want AA", scheduler, got)
		}
		s[0], s[1], s[2] = s[1], s[2], s[0]
		p.Update(s)
		if got := letters(p, 2); got != "BB" {
			t.Errorf("%s in another order: %s, want BB", scheduler, got)
		}
		p.SetStatus(p.Backends()[0], Down)
		if got := letters(p, 2); got != "CC" {
			t.Errorf("%s with the first one down: %s, want CC", scheduler, got)
		}
	}
}

// TestOverflowAndPersistence: a flow that may not pass thresholds may not pass the weight.
func TestOverflowAndPersistence(t *testing.T) {
	t.Parallel()
	p := newPool(t, "ovf", weighing(2, 1))
	b := p.Backends()[0]
	if got := held(p, 2); got != "AA" {
		t.Fatal(got)
	}
	if p.Rejoin(b, Stickiness{}) {
		t.Error("a third flow for weight 2")
	}
	if !p.Rejoin(b, Stickiness{Overloaded: true}) {
		t.Error("persistence that may pass was refused")
	}
	if b, busy := p.Acquire(client(0), nil); b != p.Backends()[1] || busy {
		t.Errorf("%v, busy %v; want the other one", b, busy)
	}
	if b, busy := p.Acquire(client(0), nil); b != nil || !busy {
		t.Errorf("%v, busy %v; want none and busy", b, busy)
	}
}

// TestLimitsLoweredUnderFlows: between new limits and the new list a choice finds that the
// first one is full. It must go on to the next.
func TestLimitsLoweredUnderFlows(t *testing.T) {
	t.Parallel()
	eachForm(t, scanned, func(t *testing.T, scheduler string, flags ...string) {
		p := newForm(t, scheduler, flags, weighing(9, 9, 9))
		held(p, 6)
		for _, b := range p.Backends()[:2] {
			b.limit(Limits{Max: 1})
		}
		for i := range 3 {
			b, busy := p.Acquire(client(i), nil)
			if b == nil || busy {
				t.Fatalf("%v, busy %v; want one with room", b, busy)
			}
			if l := b.Limits(); l.Max > 0 && b.Active() > int64(l.Max) {
				t.Errorf("%v has %d flows, at most %d allowed", b, b.Active(), l.Max)
			}
		}
	})
}

// TestHugeWeights: products of flows and weights do not overflow, with a slow start on
// either, which counts weights a hundredfold.
func TestHugeWeights(t *testing.T) {
	t.Parallel()
	for _, scheduler := range []string{"wlc", "sed", "nq"} {
		p, err := NewPool(Options{Scheduler: scheduler, SlowStart: 100})
		if err != nil {
			t.Fatal(err)
		}
		p.Update(weighing(maxWeight, maxWeight/2, maxWeight))
		for _, b := range p.Backends() {
			p.SetStatus(b, Up)
		}
		p.Advance(0)
		p.Advance(100)
		p.SetStatus(p.Backends()[2], Down)
		p.SetStatus(p.Backends()[2], Up) // at a twentieth of its weight
		picks(p, 3100)
		for i, want := range []int64{2000, 1000, 100} {
			if got := p.Backends()[i].Active(); got < want-2 || got > want+2 {
				t.Errorf("%s: backend %d has %d of 3100 flows, want %d", scheduler, i, got, want)
			}
		}
		// And with as many flows as there can be.
		for _, b := range p.Backends() {
			b.flows.Add(uint64(oneFlow) * (maxFlows / 2))
		}
		p.Advance(1000)
		if acquire(p, client(0), nil) == nil {
			t.Errorf("%s: none with many flows", scheduler)
		}
	}
}

// TestFormsConcurrent: many flows at once, of those that persistence sends too, while
// weights and status change. No backend exceeds its maximum by even one.
func TestFormsConcurrent(t *testing.T) {
	t.Parallel()
	eachForm(t, scanned, func(t *testing.T, scheduler string, flags ...string) {
		const n, workers, flows, most = 12, 4, 1500, 3
		seed := newRand(t).Uint64()
		s := specs(n)
		for i := range s {
			s[i].Weight, s[i].Limits.Max = 1+i, most
		}
		p := newForm(t, scheduler, flags, s)
		var flowing, changing sync.WaitGroup
		for w := range workers {
			flowing.Go(func() {
				rnd := rand.New(rand.NewPCG(seed, uint64(w)))
				var mine []*Backend
				for i := range flows {
					b := acquire(p, client(i), nil)
					if rnd.IntN(4) == 0 {
						if other := p.Backends()[rnd.IntN(n)]; p.Rejoin(other, Stickiness{Quiesced: true, Overloaded: true}) {
							mine = append(mine, other)
						}
					}
					if b != nil {
						mine = append(mine, b)
					}
					for _, b := range mine {
						if got := b.Active(); got > most {
							t.Errorf("%v has %d flows, at most %d allowed", b, got, most)
						}
					}
					for len(mine) > rnd.IntN(12) {
						p.Release(mine[0])
						mine = mine[1:]
					}
				}
				for _, b := range mine {
					p.Release(b)
				}
			})
		}
		var stop atomic.Bool
		changing.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, 100))
			for !stop.Load() {
				p.SetStatus(p.Backends()[rnd.IntN(n)], Status(rnd.IntN(3)))
				s[rnd.IntN(n)].Weight = rnd.IntN(20)
				p.Update(s)
			}
		})
		flowing.Wait()
		stop.Store(true)
		changing.Wait()
		for _, b := range p.Backends() {
			if b.Active() != 0 {
				t.Errorf("%v ends with %d flows", b, b.Active())
			}
		}
	})
}

// TestRulesDoNotAllocate is not parallel: AllocsPerRun counts the whole process.
func TestRulesDoNotAllocate(t *testing.T) {
	for _, scheduler := range scanned {
		p := newForm(t, scheduler, []string{IPVS}, specs(100))
		tried := new(Tried)
		tried.Add(p.Backends()[97])
		if got := testing.AllocsPerRun(1000, func() {
			p.Release(acquire(p, client(1), tried))
			if p.Rejoin(p.Backends()[0], Stickiness{}) {
				p.Release(p.Backends()[0])
			}
		}); got != 0 {
			t.Errorf("%s ipvs: %v allocations", scheduler, got)
		}
	}
}
