package balancer

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// model is a pool as a list that is scanned from end to end for each flow. It reads
// specs from the backends, and keeps flows, limits and picks itself.
type model struct {
	pool     *Pool
	rule     modelRule
	retries  modelRule // nil: rule
	backends map[*Backend]*modelBackend
	members  []*modelBackend // in the order of the list
	picks    int
}

type modelBackend struct {
	*Backend
	active     int
	overloaded bool
	picked     int // the count of picks at the last one
	weight     int // as a member
	limits     Limits
	order      int
}

func (b *modelBackend) full() bool {
	return b.overloaded || b.limits.Max > 0 && b.active >= b.limits.Max
}

// choice is what a rule chooses from.
type choice struct {
	flow       Flow
	tried      *Tried
	members    []*modelBackend
	candidates []*modelBackend // members that are untried and have room, in their order
	busy       bool            // an untried member has none
	flows      int             // of all backends
}

// modelRule is a scheduler that needs to do no more than be right.
type modelRule interface {
	// edit comes with each new list, also one that is like the last one.
	edit(members []*modelBackend)
	// over adds to the limits of a backend.
	over(b *modelBackend) bool
	// choose returns all picks that are right, or none and whether waiting may help.
	choose(c choice) (right []*modelBackend, busy bool)
	// chosen comes before b has one flow more, settle after loads have changed.
	chosen(b *modelBackend)
	settle()
}

// noState is the part of a rule that keeps nothing.
type noState struct{}

func (noState) edit([]*modelBackend)    {}
func (noState) over(*modelBackend) bool { return false }
func (noState) chosen(*modelBackend)    {}
func (noState) settle()                 {}

// only makes the answer of a rule with one right pick.
func only(b *modelBackend, c choice) ([]*modelBackend, bool) {
	if b == nil {
		return nil, c.busy
	}
	return []*modelBackend{b}, false
}

func (m *model) acquire(f Flow, tried *Tried) (right []*modelBackend, busy bool) {
	c := choice{flow: f, tried: tried, members: m.members}
	for _, b := range m.backends {
		c.flows += b.active
	}
	for _, b := range m.members {
		switch {
		case tried.Has(b.Backend):
		case b.full() || m.rule.over(b):
			c.busy = true
		default:
			c.candidates = append(c.candidates, b)
		}
	}
	if tried.Len() > 0 && m.retries != nil {
		return m.retries.choose(c)
	}
	return m.rule.choose(c)
}

func (m *model) reserve(b *modelBackend) {
	m.picks++
	b.picked = m.picks
	m.rule.chosen(b)
	m.carry(b)
	m.rule.settle()
}

func (m *model) carry(b *modelBackend) {
	b.active++
	if b.limits.Upper > 0 && b.active >= b.limits.Upper {
		b.overloaded = true
	}
}

func (m *model) take(b *modelBackend, persistent bool) bool {
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

func (m *model) release(b *modelBackend) {
	b.active--
	if b.active < lowerOf(b.limits) || b.limits.Upper == 0 {
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

// read takes over the specs of the pool.
func (m *model) read(t *testing.T) {
	for i, b := range m.pool.Backends() {
		p := m.backends[b]
		if p == nil {
			p = &modelBackend{Backend: b}
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
	for _, x := range membersOf(m.pool) {
		p := m.backends[x.Backend]
		p.weight = x.weight
		m.members = append(m.members, p)
	}
	m.rule.edit(m.members)
	if m.retries != nil {
		m.retries.edit(m.members)
	}
	m.rule.settle()
	if got, want := m.pool.AllDown(), len(m.members) == 0 || m.members[0].Status() == Down; got != want {
		t.Fatalf("all down is %v, want %v", got, want)
	}
}

// membersOf is the pool's rule for who is a member, without backups, panic and slow start.
func membersOf(p *Pool) []member {
	for _, status := range []Status{Up, Unknown, Down} {
		var members []member
		for _, b := range p.Backends() {
			if b.Status() == status && b.Weight() > 0 {
				members = append(members, member{Backend: b, weight: b.Weight()})
			}
		}
		if members != nil {
			return members
		}
	}
	return nil
}

// modelOf returns a model of the pool. random is a twin of the pool's own.
func modelOf(p *Pool, o Options, random *rand.Rand) *model {
	m := &model{pool: p, backends: map[*Backend]*modelBackend{}}
	name := o.Scheduler
	ipvs := slices.Contains(o.Flags, IPVS)
	if ipvs {
		name += " ipvs"
	}
	switch s := schedulerOf(p).(type) {
	case *hashing:
		m.rule = &hashRule{s: s, percent: o.Balance}
	case *ipvsHash:
		m.rule = &ipvsHashRule{m: m, s: s, mh: o.Scheduler == "mh"}
	case *twoChoices:
		m.rule = &drawRule{ipvs: ipvs, distinct: s.distinct, random: random}
	case *ewma:
		m.rule = &drawRule{distinct: true, random: random, samples: map[*Backend]*[2]estimate{}}
	case *locality[*Backend]:
		m.rule = newLocalityRule(p, false, ipvs)
	case *locality[serverSet]:
		m.rule = newLocalityRule(p, true, ipvs)
	case *roundRobin, *ipvsRR, *ipvsWRR:
		m.rule, m.retries = modelRules[name](), modelRules[name]()
	default:
		m.rule = modelRules[name]()
	}
	return m
}

// TestEqualsModel drives each scheduler in each form and its rule with the same random
// operations.
func TestEqualsModel(t *testing.T) {
	t.Parallel()
	ofOneGoroutine(t)
	eachForm(t, func(t *testing.T, o Options) {
		rnd := newRand(t)
		runs, edits := 6, 15
		if a, _ := lookup(o.Scheduler); a.Hashes || a.Name == "dh" {
			runs, edits = 2, 2 // each edit builds a table
		}
		kept, moved, largest := 0, 0, 0
		for run := range runs {
			seed := rnd.Uint64()
			o.Random = rand.New(rand.NewPCG(seed, 1)).Uint64
			m := driveModel(t, rnd, o, rand.New(rand.NewPCG(seed, 1)), run, 1+rnd.IntN(edits))
			if r, ok := m.rule.(*localityRule); ok {
				kept, moved = kept+r.kept, moved+r.moved
				for _, entry := range r.entries {
					largest = max(largest, len(entry.servers))
				}
			}
		}
		if a, _ := lookup(o.Scheduler); a.Destination && a.Name != "dh" && (kept < 250 || moved < 250 || a.Name == "lblcr" && largest < 3) {
			t.Errorf("%d flows stayed, %d moved, a set had up to %d: this tests little", kept, moved, largest)
		}
	})
}

// driveModel has one run of so many edits in a hundred operations.
func driveModel(t *testing.T, rnd *rand.Rand, o Options, twin *rand.Rand, run, edits int) *model {
	size := 1 + rnd.IntN(50)
	p := poolOf(t, o, limitedSpecs(rnd, size))
	m := modelOf(p, o, twin)
	m.read(t)
	var held []*Backend
	now, to, most := time.Duration(0), 1+rnd.IntN(30), 1+rnd.IntN(8*size)
	for step := range 1500 {
		now += time.Duration(rnd.Int64N(int64(time.Minute)))
		if rnd.IntN(200) == 0 {
			now += time.Duration(rnd.Int64N(int64(40 * time.Hour)))
		}
		switch op := rnd.IntN(100); {
		case op < edits:
			randomEdit(rnd, p, size)
			m.read(t)
		case op < edits+3 && len(m.backends) > 0:
			b, persistent := randomKnown(rnd, m), rnd.IntN(2) > 0
			got, want := schedulerOf(p).take(b.Backend, persistent), m.take(b, persistent)
			if got != want {
				t.Fatalf("run %d step %d: took %v, persistent %v: %v, want %v", run, step, b, persistent, got, want)
			}
			if got {
				held = append(held, b.Backend)
			}
		case op < edits+38 && len(held) > 0 || len(held) > most:
			held = releaseOne(rnd, p, held, func(b *Backend) { m.release(m.backends[b]) })
		default:
			f, tried := visit(rnd.IntN(to)), randomTried(rnd, p)
			f.Now = now
			right, wantBusy := m.acquire(f, tried)
			got, busy := schedulerOf(p).acquire(f, tried)
			if busy != wantBusy || (got == nil) != (len(right) == 0) || got != nil && !slices.Contains(right, m.backends[got]) {
				t.Fatalf("run %d step %d, %d members, %d tried: picked %v, busy %v; want one of %v, busy %v",
					run, step, len(m.members), tried.Len(), got, busy, right, wantBusy)
			}
			if got == nil {
				break
			}
			m.reserve(m.backends[got])
			held = append(held, got)
			if r, ok := m.rule.(*drawRule); ok {
				r.observe(p, got, rnd.IntN(2), time.Duration(1+rnd.Int64N(int64(time.Second)>>rnd.IntN(20))), now)
			}
		}
		for b, x := range m.backends {
			if step%10 > 0 && step > 100 {
				break
			}
			if b.Active() != int64(x.active) || overloaded(b) != x.overloaded || b.busy() != x.full() {
				t.Fatalf("run %d step %d: %v has %d flows, overloaded %v; want %d, %v", run, step, b, b.Active(), overloaded(b), x.active, x.overloaded)
			}
		}
	}
	for len(held) > 0 {
		held = releaseOne(rnd, p, held, func(*Backend) {})
	}
	for b := range m.backends {
		wantIdle(t, []*Backend{b})
	}
	if s, ok := schedulerOf(p).(*hashing); ok && s.bound.percent > 0 && s.bound.count.flows.Load() != 0 {
		t.Errorf("with all released, %d flows count", s.bound.count.flows.Load())
	}
	return m
}

// randomEdit changes a status, one backend, or everything.
func randomEdit(rnd *rand.Rand, p *Pool, size int) {
	all := p.Backends()
	if len(all) == 0 || rnd.IntN(10) == 0 {
		update(p, limitedSpecs(rnd, size))
		return
	}
	b := all[rnd.IntN(len(all))]
	if rnd.IntN(2) == 0 {
		if s := Status(rnd.IntN(8)); s > InMaint {
			setAdmin(p, Ready, b)
		} else {
			setStatus(p, b, s)
		}
		return
	}
	editOne(p, b, func(s *Spec) {
		other := limitedSpecs(rnd, 2)
		if len(other) == 0 {
			other = specs(1)
		}
		s.Weight, s.Limits = other[0].Weight, other[0].Limits
	})
}

// randomKnown is one that is or was in the pool.
func randomKnown(rnd *rand.Rand, m *model) *modelBackend {
	all := make([]*modelBackend, 0, len(m.backends))
	for _, b := range m.backends {
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b *modelBackend) int { return cmp.Compare(a.id, b.id) })
	return all[rnd.IntN(len(all))]
}
