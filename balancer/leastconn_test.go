package balancer

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// randomTried is nil, or names a random number of the backends.
func randomTried(rnd *rand.Rand, p *Pool) *Tried {
	if rnd.IntN(3) > 0 {
		return nil
	}
	tried, all := new(Tried), p.Backends()
	for range rnd.IntN(maxTried + 1) {
		if len(all) > 0 {
			tried.Add(all[rnd.IntN(len(all))])
		}
	}
	return tried
}

// randomSpecs is a random part of specs(n) in random order, some of weight 0.
func randomSpecs(rnd *rand.Rand, n int) []Spec {
	s := specs(n)
	rnd.Shuffle(n, func(i, j int) { s[i], s[j] = s[j], s[i] })
	s = s[:rnd.IntN(n+1)]
	for i := range s {
		s[i].Weight = rnd.IntN(10)
	}
	return s
}

// TestLeastConnDoesNotStampede has many flows start at once: if picking and reserving
// were two steps, several would see the same backend idle.
func TestLeastConnDoesNotStampede(t *testing.T) {
	t.Parallel()
	const n, flows, workers = 10, 500, 8
	p := newPool(t, "lc", specs(n))
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() { picks(p, n*flows) })
	}
	wg.Wait()
	for _, b := range p.Backends() {
		if b.Active() != flows*workers {
			t.Errorf("%v has %d flows, want %d", b, b.Active(), flows*workers)
		}
	}
}

// TestLeastConnIdleTakeTurns: short flows, one at a time, must not all go to one.
func TestLeastConnIdleTakeTurns(t *testing.T) {
	t.Parallel()
	p := newPool(t, "lc", specs(4))
	for i := range 40 {
		b := acquire(p, client(i), nil)
		if want := p.Backends()[i%4]; b != want {
			t.Fatalf("pick %d is %v, want %v", i, b, want)
		}
		p.Release(b)
	}
}

// TestLeastConnCountsThroughFlapping: a backend that leaves and comes back while its flows
// end must come back with the right load.
func TestLeastConnCountsThroughFlapping(t *testing.T) {
	t.Parallel()
	const n, flows, workers = 2, 25_000, 4
	p := newPool(t, "lc", specs(n))
	var flowing, flapping sync.WaitGroup
	var stop atomic.Bool
	for w := range workers {
		flowing.Go(func() {
			for i := range flows {
				if b := acquire(p, client(i+w), nil); b != nil {
					p.Release(b)
				}
			}
		})
	}
	flapping.Go(func() {
		for i := 0; !stop.Load(); i++ {
			b := p.Backends()[i%n]
			p.SetStatus(b, Drain)
			p.Resume(b)
		}
	})
	flowing.Wait()
	stop.Store(true)
	flapping.Wait()
	for b, got := range picks(p, 100*n) {
		if got != 100 {
			t.Errorf("%v got %d of %d flows, want 100", b, got, 100*n)
		}
	}
}
