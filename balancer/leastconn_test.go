package balancer

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// plainLeastConn is the rule of lc as a scan over all backends of a pool.
type plainLeastConn struct {
	active, picked map[*Backend]int
	picks          int
}

func (m *plainLeastConn) acquire(p *Pool, tried *Tried) *Backend {
	var best *Backend
	for _, status := range []Status{Up, Unknown, Down} {
		for _, b := range p.Backends() {
			if b.Status() != status || b.Weight() == 0 || tried.Has(b) {
				continue
			}
			if best == nil || m.before(b, best) {
				best = b
			}
		}
		if best != nil || m.anyIn(p, status) {
			break
		}
	}
	if best != nil {
		m.active[best]++
		m.picks++
		m.picked[best] = m.picks
	}
	return best
}

func (m *plainLeastConn) before(a, b *Backend) bool {
	if m.active[a] != m.active[b] {
		return m.active[a] < m.active[b]
	}
	if m.picked[a] != m.picked[b] {
		return m.picked[a] < m.picked[b]
	}
	return a.ID() < b.ID()
}

// anyIn tells whether the status has members, tried or not: tiers are not mixed.
func (m *plainLeastConn) anyIn(p *Pool, s Status) bool {
	for _, b := range p.Backends() {
		if b.Status() == s && b.Weight() > 0 {
			return true
		}
	}
	return false
}

// TestLeastConnEqualsScan drives lc and the scan with the same random operations.
func TestLeastConnEqualsScan(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	for range 20 {
		size := 1 + rnd.IntN(60)
		p := newPool(t, "lc", specs(size))
		model := &plainLeastConn{active: map[*Backend]int{}, picked: map[*Backend]int{}}
		var held []*Backend
		for step := range 3000 {
			switch op := rnd.IntN(100); {
			case op < 50:
				tried := randomTried(rnd, p)
				want := model.acquire(p, tried)
				got := p.Acquire(client(step), tried)
				if got != want {
					t.Fatalf("step %d, %d tried: picked %v, want %v", step, tried.Len(), got, want)
				}
				if got != nil {
					held = append(held, got)
				}
			case op < 90:
				if len(held) == 0 {
					continue
				}
				i := rnd.IntN(len(held))
				b := held[i]
				held[i] = held[len(held)-1]
				held = held[:len(held)-1]
				p.Release(b)
				model.active[b]--
			case op < 98:
				all := p.Backends()
				if len(all) > 0 {
					p.SetStatus(all[rnd.IntN(len(all))], []Status{Unknown, Up, Up, Down}[rnd.IntN(4)])
				}
			default:
				p.Update(randomSpecs(rnd, size))
			}
		}
		for _, b := range held {
			p.Release(b)
			model.active[b]--
		}
		for b, n := range model.active {
			if n != 0 || b.Active() != 0 {
				t.Errorf("%v ends with %d active flows, the model with %d", b, b.Active(), n)
			}
		}
	}
}

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
		b := p.Acquire(client(i), nil)
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
	const n, flows, workers = 2, 100_000, 4
	p := newPool(t, "lc", specs(n))
	var flowing, flapping sync.WaitGroup
	var stop atomic.Bool
	for w := range workers {
		flowing.Go(func() {
			for i := range flows {
				if b := p.Acquire(client(i+w), nil); b != nil {
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
