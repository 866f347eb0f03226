package balancer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
)

// consistent are the schedulers whose tables do not depend on the order of backends.
var consistent = []string{"mh", "ring", "hrw", "sh", "dh"}

// visit returns a flow whose client and destination are both the i-th of many.
func visit(i int) Flow {
	f := client(i)
	f.Local = f.Client
	return f
}

func placeOf(p *Pool, clients int) []*Backend {
	at := make([]*Backend, clients)
	for i := range at {
		at[i] = acquire(p, visit(i*7919), nil)
		p.Release(at[i])
	}
	return at
}

func TestHashingAgreesInAnyOrder(t *testing.T) {
	t.Parallel()
	for _, scheduler := range consistent {
		t.Run(scheduler, func(t *testing.T) {
			t.Parallel()
			rnd := newRand(t)
			s := specs(50)
			for i := range s {
				s[i].Weight = 1 + rnd.IntN(100)
			}
			p := newPool(t, scheduler, s)
			rnd.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
			// The other instance has seen more: backends that came and went, and health.
			q := newPool(t, scheduler, specs(70)[40:])
			q.Update(s)
			q.SetStatus(q.Backends()[7], Down)
			q.SetStatus(q.Backends()[7], Up)

			var tried1, tried2 Tried
			for i := range 5000 {
				f := visit(int(rnd.Uint32()))
				tried1.Reset()
				tried2.Reset()
				for range 1 + i%4 { // agree on the next choice too
					a, b := acquire(p, f, &tried1), acquire(q, f, &tried2)
					if a.String() != b.String() {
						t.Fatalf("%v, try %d: %v here, %v there", f.Client, tried1.Len(), a, b)
					}
					tried1.Add(a)
					tried2.Add(b)
				}
			}
		})
	}
}

// TestHashingIsFixed fails when a table changes that other instances have as well.
func TestHashingIsFixed(t *testing.T) {
	t.Parallel()
	s := specs(10)
	s[3].Weight = 5
	for scheduler, want := range map[string]uint64{
		"mh": 0xdc78985c86896486, "ring": 0x4a69782f30205a77, "hrw": 0x6bbe75f40e9b8a07,
	} {
		d := xxhash.New()
		for i, b := range placeOf(newPool(t, scheduler, s), 10_000) {
			fmt.Fprint(d, i, b)
		}
		if got := d.Sum64(); got != want {
			t.Errorf("%s: hash of what 10000 clients get %#x, want %#x", scheduler, got, want)
		}
	}
}

// TestHashingDisruption takes backends away, brings them back and changes weights. In
// ring and hrw no client moves but those from a backend that has less, or to one that
// has more.
func TestHashingDisruption(t *testing.T) {
	t.Parallel()
	for _, scheduler := range []string{"ring", "hrw"} {
		t.Run(scheduler, func(t *testing.T) {
			t.Parallel()
			rnd := newRand(t)
			s := specs(30)
			for i := range s {
				s[i].Weight = 1 + rnd.IntN(20)
			}
			p := newPool(t, scheduler, s)
			before := placeOf(p, 10_000)
			for range 8 {
				changed := p.Backends()[rnd.IntN(len(s))]
				less, more := true, false
				switch w := changed.Weight(); {
				case changed.Status() == Down:
					p.SetStatus(changed, Up)
					less, more = false, true
				case rnd.IntN(2) == 0:
					p.SetStatus(changed, Down)
				default:
					i := slices.Index(p.Backends(), changed)
					s[i].Weight = 1 + rnd.IntN(20)
					p.Update(s)
					less, more = s[i].Weight < w, s[i].Weight > w
				}
				after := placeOf(p, 10_000)
				for i, b := range after {
					from := before[i]
					if b != from && !(less && from == changed) && !(more && b == changed) {
						t.Fatalf("%v has another weight or status, and a client moves from %v to %v", changed, from, b)
					}
				}
				before = after
			}
		})
	}
}

// TestHashingSlowStart: while one backend starts slowly, its clients come to it and no
// others move.
func TestHashingSlowStart(t *testing.T) {
	t.Parallel()
	for _, scheduler := range []string{"ring", "hrw"} {
		p, err := NewPool(Options{Scheduler: scheduler, Initial: Up, SlowStart: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		s := specs(10)
		for i := range s {
			s[i].Weight = 1 + i
		}
		p.Update(s)
		now := time.Duration(0)
		p.Advance(now)
		now += 20 * time.Second
		p.Advance(now)
		whole, slow := placeOf(p, 10_000), p.Backends()[6]
		p.SetStatus(slow, Down)
		before := placeOf(p, 10_000)
		p.SetStatus(slow, Up)
		p.Advance(now)
		for range 11 {
			after := placeOf(p, 10_000)
			for i := range after {
				if after[i] != before[i] && after[i] != slow {
					t.Fatalf("%s: a client moves from %v to %v", scheduler, before[i], after[i])
				}
			}
			before = after
			now += time.Second
			p.Advance(now)
		}
		if !slices.Equal(before, whole) {
			t.Errorf("%s: after the slow start, clients are elsewhere than before", scheduler)
		}
	}
}

// TestHashingQuiesce sets a weight to 0 and back.
func TestHashingQuiesce(t *testing.T) {
	t.Parallel()
	for _, scheduler := range consistent {
		s := specs(20)
		p := newPool(t, scheduler, s)
		before := placeOf(p, 2000)
		s[4].Weight = 0
		p.Update(s)
		moved := 0
		for i, b := range placeOf(p, 2000) {
			if b == p.Backends()[4] {
				t.Fatalf("%s: weight 0 gets flows", scheduler)
			}
			if b != before[i] && before[i] != p.Backends()[4] {
				moved++
			}
		}
		if moved > 100 {
			t.Errorf("%s: %d of 2000 clients of others move", scheduler, moved)
		}
		s[4].Weight = 1
		p.Update(s)
		if !slices.Equal(placeOf(p, 2000), before) {
			t.Errorf("%s: clients stay elsewhere", scheduler)
		}
	}
}

// TestHashWalkMeetsAll: whatever the hash is, in the end each backend was there.
func TestHashWalkMeetsAll(t *testing.T) {
	t.Parallel()
	for _, scheduler := range bounding {
		s := specs(10)
		s[3].Weight = maxWeight
		table := newPool(t, scheduler, s).scheduler.(*hashing).table.Load()
		for _, h := range []uint64{0, 1, 1<<63 + 5, 1<<64 - 3, 1<<64 - 1} {
			met := make([]bool, len(s))
			w := table.walk(h, table.slot(h), 8)
			looks := 0
			for i := w.next(); i >= 0 && looks < 100; i = w.next() {
				met[i] = true
				looks++
			}
			if slices.Contains(met, false) || looks != 8+len(s) {
				t.Errorf("%s, hash %#x: met %v in %d looks", scheduler, h, met, looks)
			}
		}
	}
}

// TestHashingKeepsTable: limits do not make a new table, weights do.
func TestHashingKeepsTable(t *testing.T) {
	t.Parallel()
	s := specs(3)
	p := newPool(t, "mh", s)
	table := &p.scheduler.(*hashing).table
	before := table.Load()
	s[1].Limits.Max = 1
	p.Update(s)
	if table.Load() != before {
		t.Error("a new limit builds a table")
	}
	s[1].Weight = 2
	p.Update(s)
	if table.Load() == before {
		t.Error("a new weight builds no table")
	}
}

// chiSquareLimit is a value that a chi-square of so many degrees of freedom passes less
// than once in ten million times (Wilson and Hilferty, at 5.2 standard deviations).
func chiSquareLimit(freedom int) float64 {
	f := 2 / (9 * float64(freedom))
	c := 1 - f + 5.2*math.Sqrt(f)
	return float64(freedom) * c * c * c
}

// TestHashingShares checks that flows follow weights, by keys drawn at random.
func TestHashingShares(t *testing.T) {
	t.Parallel()
	for _, scheduler := range consistent {
		t.Run(scheduler, func(t *testing.T) {
			t.Parallel()
			const n, flows = 40, 100_000
			rnd := newRand(t)
			s, total := specs(n), 0
			for i := range s {
				s[i].Weight = 1 + rnd.IntN(100)
				total += s[i].Weight
			}
			p := newPool(t, scheduler, s)
			for range flows {
				acquire(p, visit(int(rnd.Uint32())), nil)
			}
			chi := 0.0
			for i, b := range p.Backends() {
				share := float64(s[i].Weight) / float64(total)
				want := flows * share
				// Flows are drawn, and so are the slots of hrw and the points of a ring.
				variance := want
				switch scheduler {
				case "hrw":
					variance += want * want / (hashSlots * share)
				case "ring":
					table := p.scheduler.(*hashing).table.Load()
					variance += want * want / (float64(len(table.slots)) * share)
				default:
					variance += want * want / (hashSlots * share) / (hashSlots * share) // a slot more or less
				}
				d := float64(b.Active()) - want
				chi += d * d / variance
			}
			if limit := chiSquareLimit(n); chi > limit {
				t.Errorf("chi-square %.1f over %d backends, want at most %.1f", chi, n, limit)
			}
		})
	}
}

// churn runs flows and changes of the specs at once, and checks that counts end at
// zero. change is called with specs of weight 1.
func churn(t *testing.T, p *Pool, change func(rnd *rand.Rand, s []Spec)) {
	t.Helper()
	seed := newRand(t).Uint64()
	n := len(p.Backends())
	var flowing, changing sync.WaitGroup
	var stop atomic.Bool
	for w := range 4 {
		flowing.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(w)))
			var held []*Backend
			var tried Tried
			for range 2000 {
				tried.Reset()
				f := visit(rnd.IntN(100))
				for range 1 + rnd.IntN(3) {
					b := acquire(p, f, &tried)
					if b == nil {
						break
					}
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
	backends := slices.Clone(p.Backends())
	changing.Go(func() {
		rnd := rand.New(rand.NewPCG(seed, 100))
		for !stop.Load() {
			s := specs(n)
			change(rnd, s)
			p.Update(s)
			b := p.Backends()[rnd.IntN(n)]
			p.SetStatus(b, Status(rnd.IntN(3)))
			if p.Rejoin(b, Stickiness{true, true}) {
				p.Release(b)
			}
		}
	})
	flowing.Wait()
	stop.Store(true)
	changing.Wait()
	for _, b := range backends {
		if b.Active() != 0 {
			t.Errorf("%v ends with %d active flows", b, b.Active())
		}
	}
}

// plainHash is a hash of a key with the definition of its bytes spelt out.
func plainHash(a netip.Addr, port int) uint64 {
	bytes := a.As16()
	if port < 0 {
		return xxhash.Sum64(bytes[:])
	}
	return xxhash.Sum64(append(bytes[:], byte(port>>8), byte(port)))
}
