package balancer

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// TestConcurrent lets many flows come and go while the set, the weights and the status
// change all the time.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	eachScheduler(t, func(t *testing.T, scheduler string) {
		const size, workers, flows = 40, 8, 4000
		seed := newRand(t).Uint64()
		p := newPool(t, scheduler, specs(size))
		all := append([]*Backend(nil), p.Backends()...)

		var acquired atomic.Uint64
		var flowing, changing sync.WaitGroup
		for w := range workers {
			flowing.Go(func() {
				rnd := rand.New(rand.NewPCG(seed, uint64(w)))
				var held []*Backend
				var tried Tried
				for i := range flows {
					tried.Reset()
					for range 1 + rnd.IntN(3) {
						b := p.Acquire(client(i), &tried)
						if b == nil {
							break
						}
						acquired.Add(1)
						if tried.Has(b) {
							t.Errorf("%v again", b)
						}
						tried.Add(b)
						held = append(held, b)
					}
					for len(held) > rnd.IntN(50) {
						k := rnd.IntN(len(held))
						p.Release(held[k])
						held[k] = held[len(held)-1]
						held = held[:len(held)-1]
					}
				}
				for _, b := range held {
					p.Release(b)
				}
			})
		}

		var stop atomic.Bool
		for c := range 2 { // health
			changing.Go(func() {
				rnd := rand.New(rand.NewPCG(seed, 100+uint64(c)))
				for !stop.Load() {
					if backends := p.Backends(); len(backends) > 0 {
						p.SetStatus(backends[rnd.IntN(len(backends))], Status(rnd.IntN(3)))
					}
				}
			})
		}
		changing.Go(func() { // discovery, and an operator
			rnd := rand.New(rand.NewPCG(seed, 200))
			for !stop.Load() {
				added, removed := p.Update(randomSpecs(rnd, size))
				all = append(all, added...)
				for _, b := range removed {
					if again := p.Acquire(client(rnd.IntN(1000)), nil); again == b {
						t.Errorf("%v was removed and got a flow", b)
						p.Release(again)
					} else if again != nil {
						acquired.Add(1)
						p.Release(again)
					}
				}
				backends := p.Backends()
				if len(backends) == 0 {
					continue
				}
				b := backends[rnd.IntN(len(backends))]
				p.SetStatus(b, Drain)
				for i := range 20 {
					if other := p.Acquire(client(i), nil); other != nil {
						acquired.Add(1)
						p.Release(other)
						if other == b {
							t.Errorf("%v drains and got a flow", b)
						}
					}
				}
				p.Resume(b)
			}
		})
		flowing.Wait()
		stop.Store(true)
		changing.Wait()

		var total uint64
		for _, b := range all {
			total += b.Total()
			if b.Active() != 0 {
				t.Errorf("%v ends with %d active flows", b, b.Active())
			}
		}
		if total != acquired.Load() {
			t.Errorf("backends count %d flows, %d were acquired", total, acquired.Load())
		}

		// What the scheduler keeps has survived: every backend can be reached.
		p.Update(specs(20))
		for _, b := range p.Backends() {
			p.SetStatus(b, Up)
		}
		var tried Tried
		for range 20 {
			b := p.Acquire(client(1), &tried)
			if b == nil || tried.Has(b) {
				t.Fatalf("%v after %d of 20", b, tried.Len())
			}
			tried.Add(b)
		}
		releaseAll(p)
	})
}

// TestConcurrentReplacement swaps the whole set for another one: between two sets that
// are not empty, no flow finds none.
func TestConcurrentReplacement(t *testing.T) {
	t.Parallel()
	eachScheduler(t, func(t *testing.T, scheduler string) {
		const workers, flows, swaps = 2, 100_000, 10
		sets := [][]Spec{specs(20)[:10], specs(20)[10:]}
		p := newPool(t, scheduler, sets[0])
		var wg sync.WaitGroup
		var flowed, swapped atomic.Int64
		for range workers {
			wg.Go(func() {
				defer flowed.Add(1)
				for i := 0; i < flows || swapped.Load() < swaps; i++ {
					b := p.Acquire(client(i), nil)
					if b == nil {
						t.Error("no backend")
						return
					}
					p.Release(b)
				}
			})
		}
		for flowed.Load() < workers {
			p.Update(sets[swapped.Add(1)%2])
		}
		wg.Wait()
	})
}
