package balancer

import (
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestConcurrent lets flows come, be tried, come back and go while the set, limits,
// weights and statuses change. No backend exceeds its maximum by even one, none that is
// removed or drains gets a flow, and counts come out even.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	eachForm(t, func(t *testing.T, o Options) {
		const size, workers, flows, most = 20, 4, 300, 9
		seed := newRand(t).Uint64()
		change := func(rnd *rand.Rand) []Spec {
			s := randomSpecs(rnd, size)
			for i := range s {
				s[i].Backup = rnd.IntN(8) == 0
				s[i].Limits.Max = most
				if rnd.IntN(3) == 0 {
					s[i].Limits.Upper = 1 + rnd.IntN(most)
				}
			}
			return s
		}
		p := poolOf(t, o, change(rand.New(rand.NewPCG(seed, 0))))
		all := slices.Clone(p.Backends())
		var acquired atomic.Uint64
		count := func(b *Backend) {
			acquired.Add(1)
			if n := b.Active(); n > most {
				t.Errorf("%v has %d flows, at most %d allowed", b, n, most)
			}
		}
		var flowing, changing sync.WaitGroup
		for w := range workers {
			flowing.Go(func() {
				rnd := rand.New(rand.NewPCG(seed, uint64(1+w)))
				for _, b := range someFlows(t, rnd, p, flows, count) {
					p.Release(b)
				}
			})
		}
		var stop atomic.Bool
		changing.Go(func() { // health
			rnd := rand.New(rand.NewPCG(seed, 100))
			for !stop.Load() {
				if backends := p.Backends(); len(backends) > 0 {
					setStatus(p, backends[rnd.IntN(len(backends))], Status(rnd.IntN(3)))
				}
			}
		})
		changing.Go(func() { // discovery, and an operator
			rnd := rand.New(rand.NewPCG(seed, 200))
			for !stop.Load() {
				before := p.Backends()
				unwanted := update(p, change(rnd))
				for _, b := range p.Backends() {
					if !slices.Contains(before, b) {
						all = append(all, b)
					}
				}
				if backends := p.Backends(); len(backends) > 0 {
					unwanted = append(unwanted, backends[rnd.IntN(len(backends))])
					setAdmin(p, Drain, unwanted[len(unwanted)-1])
				}
				for i := range 20 {
					if b := acquire(p, visit(i), nil); b != nil {
						count(b)
						p.Release(b)
						if slices.Contains(unwanted, b) {
							t.Errorf("%v is removed or drains, and got a flow", b)
						}
					}
				}
				for _, b := range p.Backends() {
					if b.Status() == Draining {
						setAdmin(p, Ready, b)
					}
				}
			}
		})
		flowing.Wait()
		stop.Store(true)
		changing.Wait()

		var total uint64
		for _, b := range all {
			total += b.Total()
		}
		wantIdle(t, all)
		if total != acquired.Load() {
			t.Errorf("backends count %d flows, %d were acquired", total, acquired.Load())
		}

		// What the scheduler keeps has survived: every backend can be reached.
		update(p, specs(20))
		for _, b := range p.Backends() {
			setStatus(p, b, Up)
		}
		var tried Tried
		for range 20 {
			b := acquire(p, visit(1), &tried)
			if b == nil || tried.Has(b) {
				t.Fatalf("%v after %d of 20", b, tried.Len())
			}
			tried.Add(b)
		}
	})
}

// someFlows begins flows and ends most of them. It calls count for each and returns those
// that it still holds.
func someFlows(t *testing.T, rnd *rand.Rand, p *Pool, flows int, count func(*Backend)) (held []*Backend) {
	var tried Tried
	for i := range flows {
		tried.Reset()
		f := visit(rnd.IntN(100))
		f.Now = time.Duration(i) * time.Second
		for range 1 + rnd.IntN(3) {
			b := acquire(p, f, &tried)
			if b == nil {
				break
			}
			if count(b); tried.Has(b) {
				t.Errorf("%v again", b)
			}
			if tried.Add(b); rnd.IntN(10) == 0 {
				b.CountFailure(FailedOther)
			} else {
				b.ClearFailing()
				p.Observe(b, time.Duration(i), f.Now)
			}
			held = append(held, b)
			if rnd.IntN(4) == 0 && p.AcquireSticky(b, AffinityPolicy{Quiesced: true, Overloaded: true}) {
				count(b)
				held = append(held, b)
			}
		}
		for len(held) > rnd.IntN(40) {
			held = releaseOne(rnd, p, held)
		}
	}
	return held
}

// TestNoStampede has many flows start at once: if picking and reserving were two steps,
// several would see the same backend idle. No turn is lost or given twice, and nobody is
// above the bound.
func TestNoStampede(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{
		{Scheduler: "rr"}, {Scheduler: "wrr"}, {Scheduler: "lc"}, {Scheduler: "wlc"}, {Scheduler: "sed"}, {Scheduler: "nq"},
		{Scheduler: "rr", Flags: []string{IPVS}}, {Scheduler: "wrr", Flags: []string{IPVS}}, {Scheduler: "lc", Flags: []string{IPVS}},
		{Scheduler: "mh", Balance: 120}, {Scheduler: "ring", Balance: 120}, {Scheduler: "hrw", Balance: 120},
	} {
		t.Run(formOf(o), func(t *testing.T) {
			t.Parallel()
			const n, flows, workers = 10, 100, 8
			p := poolOf(t, o, specs(n))
			var wg sync.WaitGroup
			for range workers {
				wg.Go(func() {
					for range n * flows {
						acquire(p, client(1), nil)
					}
				})
			}
			wg.Wait()
			for _, b := range p.Backends() {
				if got, want := b.Active(), int64(flows*workers); got > want && o.Balance == 0 || got*100 > want*120 || o.Balance == 0 && got < want {
					t.Errorf("%v has %d flows, fair are %d", b, got, want)
				}
			}
		})
	}
}

// TestConcurrentReplacement swaps the whole set for another one: between two sets that
// are not empty, no flow finds none.
func TestConcurrentReplacement(t *testing.T) {
	t.Parallel()
	eachScheduler(t, func(t *testing.T, scheduler string) {
		const workers, flows, swaps = 2, 2000, 5
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
			update(p, sets[swapped.Add(1)%2])
		}
		wg.Wait()
	})
}

// edits counts up to most, and stops earlier where each edit builds a large table.
func edits(most int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, start := 0, time.Now(); i < most && (i < 20 || time.Since(start) < 50*time.Millisecond); i++ {
			if !yield(i) {
				return
			}
		}
	}
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
		seed := rnd.Uint64()
		var flowing sync.WaitGroup
		for w := range 3 {
			flowing.Go(func() {
				rnd := rand.New(rand.NewPCG(seed, uint64(w)))
				for !stop.Load() {
					for _, b := range someFlows(t, rnd, p, 20, func(*Backend) {}) {
						p.Release(b)
					}
				}
			})
		}
		for range edits(300) {
			k := rnd.IntN(size)
			b, l := backends[k], Limits{Max: 1 + rnd.IntN(4)}
			s[k].Limits = Limits{}
			if rnd.IntN(2) == 0 {
				s[k].Limits = Limits{Max: 10, Upper: 1 + rnd.IntN(10)}
			}
			update(p, s)
			s[k].Limits = l
			update(p, s)
			most := max(b.Active(), int64(l.Max))
			for range looks {
				n := b.Active()
				if n > most {
					t.Errorf("%v rose to %d flows under a maximum of %d", b, n, l.Max)
				}
				most = min(most, max(n, int64(l.Max)))
			}
			if overloaded(b) {
				t.Errorf("%v is overloaded without a threshold", b)
			}
		}
		stop.Store(true)
		flowing.Wait()
		wantIdle(t, backends)
		for i := range s {
			s[i].Limits = Limits{Upper: 3}
		}
		update(p, s)
		if acquire(p, client(0), nil) == nil {
			t.Error("nobody has room, without any flow")
		}
		releaseAll(p)
	})
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
			update(p, s)
		}
		stop.Store(true)
		wg.Wait()
		wantIdle(t, p.Backends())
	})
}

// TestRoundRobinAlwaysFindsTheLast: while others take turns, those that a flow gets may
// all be of backends that it has tried.
func TestRoundRobinAlwaysFindsTheLast(t *testing.T) {
	t.Parallel()
	const n, flows, workers = 4, 25_000, 4
	p := newPool(t, "rr", specs(n))
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			var tried Tried
			last := p.Backends()[w%n]
			for _, b := range p.Backends() {
				if b != last {
					tried.Add(b)
				}
			}
			for range flows {
				if b := acquire(p, client(w), &tried); b != last {
					t.Errorf("%v instead of the only one left", b)
					return
				}
			}
		})
	}
	wg.Wait()
}
