package balancer

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

// plainPool is a pool as a list that is scanned from end to end for each flow. Status,
// weights and limits it reads from the backends; the rest it keeps itself.
type plainPool struct {
	rule     plainRule
	pool     *Pool
	backends map[*Backend]*plainBackend
	members  []*plainBackend // in the order of the list
	picks    int
}

type plainBackend struct {
	*Backend
	active     int
	overloaded bool
	picked     int // the count of picks at the last one
	weight     int // as a member
	limits     Limits
	order      int
}

func (b *plainBackend) full() bool {
	return b.overloaded || b.limits.Max > 0 && b.active >= b.limits.Max
}

// plainRule is a scheduler that needs to do no more than be right.
type plainRule interface {
	// edit is told of each new list, also of one that is like the last one.
	edit(members []*plainBackend)
	// over adds to the limits of a backend.
	over(b *plainBackend) bool
	// choose picks from candidates, which are some of the members in their order.
	choose(candidates []*plainBackend) *plainBackend
	// chosen is told that b has one flow more, and settle that loads have changed.
	chosen(b *plainBackend)
	settle()
}

func (m *plainPool) room(b *plainBackend) bool { return !b.full() && !m.rule.over(b) }

func (m *plainPool) acquire(tried *Tried) (got *Backend, busy bool) {
	var candidates []*plainBackend
	for _, b := range m.members {
		if tried.Has(b.Backend) {
			continue
		}
		if m.room(b) {
			candidates = append(candidates, b)
		} else {
			busy = true
		}
	}
	b := m.rule.choose(candidates)
	if b == nil {
		return nil, busy
	}
	m.reserve(b)
	return b.Backend, false
}

func (m *plainPool) reserve(b *plainBackend) {
	m.picks++
	b.picked = m.picks
	m.rule.chosen(b)
	m.carry(b)
	m.rule.settle()
}

func (m *plainPool) carry(b *plainBackend) {
	b.active++
	if b.limits.Upper > 0 && b.active >= b.limits.Upper {
		b.overloaded = true
	}
}

func (m *plainPool) take(b *plainBackend, persistent bool) bool {
	member := slices.Contains(m.members, b)
	switch {
	case b.limits.Max > 0 && b.active >= b.limits.Max, !persistent && b.overloaded, !persistent && member && m.rule.over(b):
		return false
	case member:
		m.reserve(b)
		return true
	}
	m.carry(b) // the scheduler does not know it
	return true
}

func (m *plainPool) release(b *plainBackend) {
	b.active--
	if low := lowerOf(b.limits); b.active < low || b.limits.Upper == 0 {
		b.overloaded = false
	}
	m.rule.settle()
}

func lowerOf(l Limits) int {
	if l.Lower > 0 {
		return l.Lower
	}
	return l.Upper - l.Upper/4
}

// read takes over what the pool was told.
func (m *plainPool) read() {
	for i, b := range m.pool.Backends() {
		p := m.backends[b]
		if p == nil {
			p = &plainBackend{Backend: b}
			m.backends[b] = p
		}
		p.order = i
		if l := b.Limits(); l != p.limits {
			p.limits = l
			switch {
			case l.Upper > 0 && p.active >= l.Upper:
				p.overloaded = true
			case l.Upper == 0 || p.active < lowerOf(l):
				p.overloaded = false
			}
		}
	}
	m.members = nil
	for _, status := range []Status{Up, Unknown, Down} {
		for _, b := range m.pool.Backends() {
			if b.Status() == status && b.Weight() > 0 {
				p := m.backends[b]
				p.weight = b.Weight()
				m.members = append(m.members, p)
			}
		}
		if m.members != nil {
			break
		}
	}
	m.rule.edit(m.members)
	m.rule.settle()
}

// plainOrder is a rule that follows from the flows at present.
type plainOrder struct {
	compare func(a, b *plainBackend) int // equal ones: see ties
	ties    ties
	isOver  func(b *plainBackend) bool // nil: none is
}

func (plainOrder) edit([]*plainBackend) {}
func (plainOrder) chosen(*plainBackend) {}
func (plainOrder) settle()              {}

func (r plainOrder) over(b *plainBackend) bool { return r.isOver != nil && r.isOver(b) }

func (r plainOrder) choose(candidates []*plainBackend) *plainBackend {
	var best *plainBackend
	for _, b := range candidates {
		if best == nil || r.before(b, best) {
			best = b
		}
	}
	return best
}

func (r plainOrder) before(a, b *plainBackend) bool {
	if c := r.compare(a, b); c != 0 {
		return c < 0
	}
	switch r.ties {
	case newestFirst:
		return a.id > b.id
	case firstListed:
		return a.order < b.order
	}
	if a.picked != b.picked {
		return a.picked < b.picked
	}
	return a.id < b.id
}

func byFlows(a, b *plainBackend) int { return cmp.Compare(a.active, b.active) }
func byShare(a, b *plainBackend) int { return cmp.Compare(a.active*b.weight, b.active*a.weight) }
func byDelay(a, b *plainBackend) int {
	return cmp.Compare((a.active+1)*b.weight, (b.active+1)*a.weight)
}
func byWeight(a, b *plainBackend) int { return cmp.Compare(b.weight, a.weight) }
func byIdle(a, b *plainBackend) int {
	switch {
	case a.active == 0 && b.active == 0:
		return 0
	case a.active == 0:
		return -1
	case b.active == 0:
		return 1
	}
	return byDelay(a, b)
}

// plainRules are those that must equal a scheduler, by its name and its flag.
var plainRules = map[string]func() plainRule{
	"rr":       func() plainRule { return new(plainRR) },
	"rr ipvs":  func() plainRule { return new(plainIPVSRR) },
	"wrr":      func() plainRule { return newPlainWRR() },
	"wrr ipvs": func() plainRule { return &plainIPVSWRR{last: -1} },
	"lc":       func() plainRule { return plainOrder{compare: byFlows} },
	"lc ipvs":  func() plainRule { return plainOrder{compare: byFlows, ties: newestFirst} },
	"wlc":      func() plainRule { return newPlainWLC() },
	"wlc ipvs": func() plainRule { return plainOrder{compare: byShare, ties: newestFirst} },
	"sed":      func() plainRule { return plainOrder{compare: byDelay} },
	"sed ipvs": func() plainRule { return plainOrder{compare: byDelay, ties: newestFirst} },
	"nq":       func() plainRule { return plainOrder{compare: byIdle} },
	"nq ipvs":  func() plainRule { return plainOrder{compare: byIdle, ties: newestFirst} },
	"fo":       func() plainRule { return plainOrder{compare: byWeight, ties: firstListed} },
	"fo ipvs":  func() plainRule { return plainOrder{compare: byWeight, ties: newestFirst} },
	"ovf": func() plainRule {
		return plainOrder{byWeight, firstListed, func(b *plainBackend) bool { return b.active >= b.weight }}
	},
	"ovf ipvs": func() plainRule {
		return plainOrder{byWeight, newestFirst, func(b *plainBackend) bool { return b.active > b.weight }}
	},
}

// eachForm runs a test for each of some schedulers, plain and with ipvs.
func eachForm(t *testing.T, names []string, test func(t *testing.T, scheduler string, flags ...string)) {
	t.Helper()
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, name)
		})
		t.Run(name+" ipvs", func(t *testing.T) {
			t.Parallel()
			test(t, name, IPVS)
		})
	}
}

// scanned are the schedulers that plainRules knows.
var scanned = []string{"rr", "wrr", "lc", "wlc", "sed", "nq", "fo", "ovf"}

// newForm is newPool with flags.
func newForm(tb testing.TB, scheduler string, flags []string, s []Spec) *Pool {
	tb.Helper()
	p, err := NewPool(Options{Scheduler: scheduler, Flags: flags, Initial: Up})
	if err != nil {
		tb.Fatal(err)
	}
	p.Update(s)
	return p
}

// TestEqualsScan drives each scheduler and its plain rule with the same random
// operations.
func TestEqualsScan(t *testing.T) {
	t.Parallel()
	eachForm(t, scanned, func(t *testing.T, scheduler string, flags ...string) {
		rnd := newRand(t)
		rule := scheduler
		if len(flags) > 0 {
			rule += " ipvs"
		}
		for run := range 20 {
			size := 1 + rnd.IntN(50)
			p := newForm(t, scheduler, flags, limitedSpecs(rnd, size))
			m := &plainPool{rule: plainRules[rule](), pool: p, backends: map[*Backend]*plainBackend{}}
			m.read()
			edits := 1 + rnd.IntN(20) // in percent of the operations
			var held []*Backend
			for step := range 1500 {
				switch op := rnd.IntN(100); {
				case op < edits:
					randomEdit(rnd, p, size)
					m.read()
				case op < edits+5 && len(m.backends) > 0:
					b := randomKnown(rnd, m)
					persistent := rnd.IntN(2) > 0
					got, want := p.scheduler.take(b.Backend, persistent), m.take(b, persistent)
					if got != want {
						t.Fatalf("run %d step %d: took %v, persistent %v: %v, want %v", run, step, b, persistent, got, want)
					}
					if got {
						held = append(held, b.Backend)
					}
				case op < edits+42 && len(held) > 0:
					i := rnd.IntN(len(held))
					b := held[i]
					held[i] = held[len(held)-1]
					held = held[:len(held)-1]
					p.Release(b)
					m.release(m.backends[b])
				default:
					tried := randomTried(rnd, p)
					got, busy := p.Acquire(client(step), tried)
					want, wantBusy := m.acquire(tried)
					if got != want || busy != wantBusy {
						t.Fatalf("run %d step %d, %d members, %d tried: picked %v, busy %v; want %v, %v",
							run, step, len(m.members), tried.Len(), got, busy, want, wantBusy)
					}
					if got != nil {
						held = append(held, got)
					}
				}
			}
			for _, b := range held {
				p.Release(b)
				m.release(m.backends[b])
			}
			for b, plain := range m.backends {
				if plain.active != 0 || b.Active() != 0 || b.Overloaded() {
					t.Errorf("%v ends with %d flows, overloaded %v; the plain one with %d", b, b.Active(), b.Overloaded(), plain.active)
				}
			}
		}
	})
}

// limitedSpecs are random ones of which half have limits.
func limitedSpecs(rnd *rand.Rand, size int) []Spec {
	s := randomSpecs(rnd, size)
	for i := range s {
		l := &s[i].Limits
		switch rnd.IntN(6) {
		case 0:
			l.Max = 1 + rnd.IntN(5)
		case 1:
			l.Upper = 1 + rnd.IntN(8)
			l.Lower = rnd.IntN(l.Upper + 1)
		case 2:
			l.Max, l.Upper = 1+rnd.IntN(9), 1+rnd.IntN(8)
		}
	}
	return s
}

// randomEdit changes a status, one backend, or everything.
func randomEdit(rnd *rand.Rand, p *Pool, size int) {
	all := p.Backends()
	if len(all) == 0 || rnd.IntN(10) == 0 {
		p.Update(limitedSpecs(rnd, size))
		return
	}
	b := all[rnd.IntN(len(all))]
	if rnd.IntN(2) == 0 {
		if s := Status(rnd.IntN(8)); s > Maint {
			p.Resume(b)
		} else {
			p.SetStatus(b, s)
		}
		return
	}
	s := make([]Spec, len(all))
	for i, x := range all {
		s[i] = Spec{Endpoint: x.Endpoint(), Weight: x.Weight(), Limits: x.Limits()}
		if x == b {
			other := limitedSpecs(rnd, 2)
			if len(other) == 0 {
				other = specs(1)
			}
			s[i].Weight, s[i].Limits = other[0].Weight, other[0].Limits
		}
	}
	p.Update(s)
}

// randomKnown is one that is or was in the pool.
func randomKnown(rnd *rand.Rand, m *plainPool) *plainBackend {
	all := slices.Collect(func(yield func(*plainBackend) bool) {
		for _, b := range m.backends {
			if !yield(b) {
				return
			}
		}
	})
	slices.SortFunc(all, func(a, b *plainBackend) int { return cmp.Compare(a.id, b.id) })
	return all[rnd.IntN(len(all))]
}
