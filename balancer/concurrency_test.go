package balancer

import (
	"iter"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestConcurrent lets many flows come and go while the set, the weights and the status
// change all the time.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	eachScheduler(t, func(t *testing.T, scheduler string) {
		const size, workers, flows = 40, 8, 2000
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
						b := acquire(p, client(i), &tried)
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
					if again := acquire(p, client(rnd.IntN(1000)), nil); again == b {
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
					if other := acquire(p, client(i), nil); other != nil {
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
			b := acquire(p, client(1), &tried)
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
		const workers, flows, swaps = 2, 20_000, 10
		sets := [][]Spec{specs(20)[:10], specs(20)[10:]}
		p := newPool(t, scheduler, sets[0])
		var wg sync.WaitGroup
		var flowed, swapped atomic.Int64
		for range workers {
			wg.Go(func() {
				defer flowed.Add(1)
				for i := 0; i < flows || swapped.Load() < swaps; i++ {
					b := acquire(p, client(i), nil)
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

// edits counts up to most, and stops earlier where each edit builds a large table.
func edits(most int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, start := 0, time.Now(); i < most && (i < 20 || time.Since(start) < 200*time.Millisecond); i++ {
			if !yield(i) {
				return
			}
		}
	}
}

// flowsWithin lets workers acquire and rejoin until stop, tells begun and ended of each
// flow that it holds, and releases all in the end.
func flowsWithin(p *Pool, seed uint64, stop *atomic.Bool, begun, ended func(*Backend)) (wait func()) {
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(w)))
			var held []*Backend
			var last *Backend
			for i := 0; !stop.Load() || len(held) > 0; i++ {
				var b *Backend
				if last != nil && rnd.IntN(3) == 0 {
					if p.Rejoin(last, Stickiness{Quiesced: true, Overloaded: rnd.IntN(2) == 0}) {
						b = last
					}
				} else {
					f := client(rnd.IntN(100))
					f.Local, f.Now = client(rnd.IntN(100)).Client, time.Duration(i)*time.Millisecond
					b = acquire(p, f, nil)
				}
				if b != nil {
					begun(b)
					last, held = b, append(held, b)
				}
				for len(held) > rnd.IntN(8) || stop.Load() && len(held) > 0 {
					k := rnd.IntN(len(held))
					ended(held[k])
					p.Release(held[k])
					held[k] = held[len(held)-1]
					held = held[:len(held)-1]
				}
			}
		})
	}
	return wg.Wait
}

// TestConcurrentMax holds more flows ready than fit. Each one counts itself after it has
// begun and before it ends, so a count never shows more flows than there are: one above
// the maximum is a flow that should not be. Everything else is edited meanwhile.
func TestConcurrentMax(t *testing.T) {
	t.Parallel()
	eachScheduler(t, func(t *testing.T, scheduler string) {
		const size = 5
		rnd := newRand(t)
		s := specs(size)
		for i := range s {
			s[i].Limits.Max = i + 1
		}
		p := newPool(t, scheduler, s)
		var count [size + 1]atomic.Int64 // by ID
		var stop atomic.Bool
		wait := flowsWithin(p, rnd.Uint64(), &stop, func(b *Backend) {
			if n := count[b.ID()].Add(1); n > int64(b.ID()) {
				t.Errorf("%v has %d flows, at most %d allowed", b, n, b.ID())
			}
		}, func(b *Backend) { count[b.ID()].Add(-1) })
		backends := p.Backends()
		for range edits(300) {
			for i := range s {
				s[i].Weight = rnd.IntN(4)
				s[i].Backup = rnd.IntN(4) == 0
				s[i].Limits = Limits{Max: i + 1}
				if rnd.IntN(2) == 0 {
					s[i].Limits.Upper = 1 + rnd.IntN(i+1)
				}
			}
			p.Update(s)
			b := backends[rnd.IntN(size)]
			p.SetStatus(b, Status(rnd.IntN(5)))
			p.Resume(backends[rnd.IntN(size)])
		}
		stop.Store(true)
		wait()
		wantIdle(t, backends)
	})
}

// TestConcurrentLimits edits limits while flows come and go. Once an edit is made, the
// number of flows never rises above the new maximum, whatever flows were looking at.
func TestConcurrentLimits(t *testing.T) {
	t.Parallel()
	eachScheduler(t, func(t *testing.T, scheduler string) {
		const size, looks = 3, 300
		rnd := newRand(t)
		s := specs(size)
		for i := range s {
			s[i].Weight = 100
		}
		p := newPool(t, scheduler, s)
		backends := p.Backends()
		var stop atomic.Bool
		wait := flowsWithin(p, rnd.Uint64(), &stop, func(*Backend) {}, func(*Backend) {})
		for range edits(300) {
			k := rnd.IntN(size)
			b, l := backends[k], Limits{Max: 1 + rnd.IntN(4)}
			s[k].Limits = Limits{}
			if rnd.IntN(2) == 0 {
				s[k].Limits = Limits{Max: 10, Upper: 1 + rnd.IntN(10)}
			}
			p.Update(s)
			s[k].Limits = l
			p.Update(s)
			most := max(b.Active(), int64(l.Max))
			for range looks {
				n := b.Active()
				if n > most {
					t.Errorf("%v rose to %d flows under a maximum of %d", b, n, l.Max)
				}
				most = min(most, max(n, int64(l.Max)))
			}
			if b.Overloaded() {
				t.Errorf("%v is overloaded without a threshold", b)
			}
		}
		stop.Store(true)
		wait()
		wantIdle(t, backends)
		for i := range s {
			s[i].Limits = Limits{Upper: 3}
		}
		p.Update(s)
		if acquire(p, client(0), nil) == nil {
			t.Error("nobody has room, without any flow")
		}
		releaseAll(p)
	})
}

// wantIdle is what is left when all flows have ended.
func wantIdle(t *testing.T, backends []*Backend) {
	t.Helper()
	for _, b := range backends {
		if b.Active() != 0 || b.Overloaded() {
			t.Errorf("%v ends with %d flows, overloaded %v", b, b.Active(), b.Overloaded())
		}
	}
}

// TestEditRefusesNobody edits limits of one backend while another one has room for all: a
// flow that meets the edit halfway goes there.
func TestEditRefusesNobody(t *testing.T) {
	t.Parallel()
	eachScheduler(t, func(t *testing.T, scheduler string) {
		s := specs(2)
		for i := range s {
			s[i].Weight = 100
		}
		p := newPool(t, scheduler, s)
		var stop atomic.Bool
		var wg sync.WaitGroup
		for w := range 2 {
			wg.Go(func() {
				for i := 0; !stop.Load(); i++ {
					f := client(i*2 + w)
					f.Local = f.Client
					b, busy := p.Acquire(f, nil)
					if b == nil {
						t.Errorf("refused, busy %v", busy)
						return
					}
					p.Release(b)
				}
			})
		}
		for i := range edits(500) {
			s[0].Limits = Limits{}
			if i%2 == 0 {
				s[0].Limits = Limits{Max: 1 + i%3, Upper: 1}
			}
			p.Update(s)
		}
		stop.Store(true)
		wg.Wait()
		wantIdle(t, p.Backends())
	})
}
