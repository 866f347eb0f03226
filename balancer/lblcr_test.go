package balancer

import (
	"testing"
	"time"
)

// TestLBLCRSet follows one set as it grows and shrinks.
func TestLBLCRSet(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{nil, {IPVS}} {
		s := specs(4)
		for i := range s {
			s[i].Weight = 2
		}
		p := poolOf(t, Options{Scheduler: "lblcr", Flags: flags, Initial: Up}, s)
		now := time.Duration(0)
		seen := func(flows int) map[*Backend]int {
			count := make(map[*Backend]int)
			for range flows {
				count[acquire(p, toward(1, now), nil)]++
			}
			return count
		}
		// Three flows are more than weight 2 allows, so the fourth brings in another
		// one, and so on until none has less than half of its weight.
		for _, step := range []struct{ flows, want int }{{3, 1}, {1, 2}, {100, 4}} {
			if seen(step.flows); len(active(p)) != step.want {
				t.Errorf("%d backends have flows, want %d", len(active(p)), step.want)
			}
		}
		releaseAll(p)
		// When idle, each time that more than a day has gone since the last change one
		// leaves.
		set := &p.scheduler.(*lblcr).homes.oldest.value
		for want := 4; want >= 1; want-- {
			got := seen(want * 2) // up to their weight
			if len(got) != want {
				t.Errorf("%d backends, want %d", len(got), want)
			}
			releaseAll(p)
			for _, step := range []time.Duration{24*time.Hour - 1, 1} {
				now += step
				p.Release(acquire(p, toward(1, now), nil))
				if set.n != want {
					t.Errorf("%d backends in the set, want %d", set.n, want)
				}
			}
			now++
			p.Release(acquire(p, toward(1, now), nil))
			if after := max(want-1, 1); set.n != after {
				t.Errorf("%d backends in the set after a day, want %d", set.n, after)
			}
		}
	}
}

func active(p *Pool) []*Backend {
	var some []*Backend
	for _, b := range p.Backends() {
		if b.Active() > 0 {
			some = append(some, b)
		}
	}
	return some
}

// TestLBLCRSetIsBounded: one destination that all backends are not enough for.
func TestLBLCRSetIsBounded(t *testing.T) {
	t.Parallel()
	s := specs(200)
	for i := range s {
		s[i].Weight = 2
	}
	p := newPool(t, "lblcr", s)
	for range 10_000 {
		acquire(p, toward(1, 0), nil)
	}
	set := p.scheduler.(*lblcr).homes.oldest.value
	if set.n != serverSetMost || len(active(p)) != 200 {
		t.Errorf("the set has %d of %d backends", set.n, len(active(p)))
	}
	for i, b := range set.servers {
		if b == nil || has(set.servers[:i], b) {
			t.Errorf("%v is there twice", b)
		}
	}
}
