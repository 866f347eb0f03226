package balancer

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
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
			update(q, s)
			setStatus(q, q.Backends()[7], Down)
			setStatus(q, q.Backends()[7], Up)

			var tried1, tried2 Tried
			for i := range 2000 {
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

// TestHashingSlowStart: while one backend starts slowly, its clients come to it and no
// others move.
func TestHashingSlowStart(t *testing.T) {
	t.Parallel()
	ofOneGoroutine(t)
	for _, scheduler := range []string{"ring", "hrw"} {
		p, err := NewPool(Options{Scheduler: scheduler, SlowStart: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		s := specs(10)
		for i := range s {
			s[i].Weight = 1 + i
		}
		update(p, s)
		now := time.Duration(0)
		advance(p, now)
		now += 20 * time.Second
		advance(p, now)
		whole, slow := placeOf(p, 3_000), p.Backends()[6]
		setStatus(p, slow, Down)
		before := placeOf(p, 3_000)
		setStatus(p, slow, Up)
		advance(p, now)
		for range 11 {
			after := placeOf(p, 3_000)
			for i := range after {
				if after[i] != before[i] && after[i] != slow {
					t.Fatalf("%s: a client moves from %v to %v", scheduler, before[i], after[i])
				}
			}
			before = after
			now += time.Second
			advance(p, now)
		}
		if !slices.Equal(before, whole) {
			t.Errorf("%s: after the slow start, clients are elsewhere than before", scheduler)
		}
	}
}

// TestHashingKeepsTable: limits do not make a new table, weights do.
func TestHashingKeepsTable(t *testing.T) {
	t.Parallel()
	s := specs(3)
	p := newPool(t, "mh", s)
	table := &schedulerOf(p).(*hashing).table
	before := table.Load()
	s[1].Limits.Max = 1
	update(p, s)
	if table.Load() != before {
		t.Error("a new limit builds a table")
	}
	s[1].Weight = 2
	update(p, s)
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

// TestHashingIsFixed fails when a table or the hash of a client changes. That moves every
// client at the moment when one of two instances is upgraded.
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
	if got, want := xxhash.Sum64String(strings.Join(table(newPool(t, "mh", s)), " ")), uint64(0xe02cbea3c308adf9); got != want {
		t.Errorf("hash of the table of mh %#x, want %#x", got, want)
	}
}

// TestHashingDisruption takes backends away, brings them back and changes weights. In
// ring and hrw no client moves but those from a backend that has less, or to one that has
// more. In mh few do, also when the heaviest goes.
func TestHashingDisruption(t *testing.T) {
	t.Parallel()
	for scheduler, most := range map[string]float64{"ring": 0, "hrw": 0, "mh": 0.05, "sh": 0.05, "dh": 0.05} {
		t.Run(scheduler, func(t *testing.T) {
			t.Parallel()
			const clients = 10_000
			rnd := newRand(t)
			s := specs(30)
			for i := range s {
				s[i].Weight = 1 + rnd.IntN(20)
			}
			s[7].Weight = 37
			p := newPool(t, scheduler, s)
			whole := placeOf(p, clients)
			before := whole
			for round := range 8 {
				changed := p.Backends()[rnd.IntN(len(s))]
				if round == 0 {
					changed = p.Backends()[7]
				}
				less, more := true, false
				switch w := changed.Weight(); {
				case changed.Status() == Down:
					setStatus(p, changed, Up)
					less, more = false, true
				case round%2 == 0:
					setStatus(p, changed, Down)
				default:
					other := 1 + rnd.IntN(20)
					editOne(p, changed, func(s *Spec) { s.Weight = other })
					less, more = other < w, other > w
				}
				after, moved := placeOf(p, clients), 0
				for i, b := range after {
					if from := before[i]; b != from && !(less && from == changed) && !(more && b == changed) {
						moved++
					}
				}
				if share := float64(moved) / clients; share > most {
					t.Fatalf("%v has another weight or status, and %.2f %% of other clients move", changed, 100*share)
				}
				before = after
			}
			update(p, s)
			for _, b := range p.Backends() {
				setStatus(p, b, Up)
			}
			if !slices.Equal(placeOf(p, clients), whole) {
				t.Error("with all as it was, some clients stay elsewhere")
			}
			// The tables of a backend that is down and of one that is not there are the same.
			setStatus(p, p.Backends()[7], Down)
			down := table(p)
			update(p, slices.Delete(s, 7, 8))
			if !slices.Equal(table(p), down) {
				t.Error("a removed backend gives another table than one that is down")
			}
		})
	}
}

// TestMaglevDisruption: one of 100 equal backends that goes moves under 2 % of the clients
// of others.
func TestMaglevDisruption(t *testing.T) {
	t.Parallel()
	ofOneGoroutine(t)
	const n, clients = 100, 10_000
	p := newPool(t, "mh", specs(n))
	before := placeOf(p, clients)
	for i := 0; i < n; i += 25 {
		gone, moved := p.Backends()[i], 0
		setStatus(p, gone, Down)
		for k, b := range placeOf(p, clients) {
			if before[k] != gone && b != before[k] {
				moved++
			}
		}
		if moved >= clients*2/100 {
			t.Errorf("%d of %d clients move", moved, clients)
		}
		setStatus(p, gone, Up)
	}
}

// TestHashingSpreadsRetries: the clients of a dead backend go to all others by weight.
func TestHashingSpreadsRetries(t *testing.T) {
	t.Parallel()
	for _, scheduler := range []string{"mh", "hrw"} {
		const n, clients = 10, 60_000
		s, others := specs(n), 0
		for i := range s {
			s[i].Weight = 1 + i%3
			others += s[i].Weight
		}
		others -= s[4].Weight
		s[4].Weight = others // so that a walk often meets it again
		p := newPool(t, scheduler, s)
		dead, retried := p.Backends()[4], 0
		for i := range clients {
			b := acquire(p, client(i), nil)
			p.Release(b)
			if b == dead {
				var tried Tried
				tried.Add(b)
				acquire(p, client(i), &tried)
				retried++
			}
		}
		for _, b := range p.Backends() {
			share := float64(b.Active()) / float64(retried) * float64(others) / float64(b.Weight())
			if b != dead && (share < 0.8 || share > 1.2) {
				t.Errorf("%s: %v got %.2f of its share of the dead backend's clients", scheduler, b, share)
			}
		}
	}
}

// TestHashingSpreadsClients checks the hash of clients that differ in little by chi-square.
func TestHashingSpreadsClients(t *testing.T) {
	t.Parallel()
	const n, clients = 20, 40_000
	p := newPool(t, "mh", specs(n))
	for name, flow := range map[string]func(i int) Flow{
		"neighbours": client,
		"v6 prefixes": func(i int) Flow {
			a := netip.MustParseAddr("2001:db8::1").As16()
			a[6], a[7] = byte(i>>8), byte(i)
			return Flow{Client: netip.AddrPortFrom(netip.AddrFrom16(a), 1)}
		},
	} {
		chi := 0.0
		count := make(map[*Backend]int)
		for i := range clients {
			count[acquire(p, flow(i), nil)]++
		}
		for _, b := range p.Backends() {
			d := float64(count[b]) - clients/n
			chi += d * d / (clients / n)
		}
		if chi > 43.8 { // 19 degrees of freedom, p = 0.001; flows are the same in each run
			t.Errorf("%s: chi-square %.1f over %d backends, want at most 43.8", name, chi, n)
		}
	}
}

func TestBoundMost(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	for range 10_000 {
		b := bound{percent: 101 + rnd.Uint64N(maxBalance-100)}
		flows, weight := 1+rnd.IntN(1<<rnd.IntN(26)), 1+rnd.IntN(1<<rnd.IntN(38))
		all := weight + rnd.IntN(1<<rnd.IntN(50))
		if got, want := b.most(int64(flows), uint64(weight), uint64(all)), exactBound(int(b.percent), flows, weight, all); got != want {
			t.Fatalf("%d %% of %d flows for %d of %d: %d, want %d", b.percent, flows, weight, all, got, want)
		}
	}
	// A sum that has wrapped around is no bound, and no panic.
	b := bound{percent: maxBalance}
	for _, all := range []uint64{0, 1, 100} {
		if got := b.most(1<<40, 1<<38, all); got != maxFlows {
			t.Errorf("weight of more than all: bound %d", got)
		}
	}
}

// TestBoundUneven: a backend with next to no weight gets its one flow, no more.
func TestBoundUneven(t *testing.T) {
	t.Parallel()
	p := poolOf(t, Options{Scheduler: "hrw", Balance: 101}, weighing(math.MaxInt32, 1))
	for range 1000 {
		acquire(p, client(3), nil)
	}
	if n := p.Backends()[1].Active(); n > 1 {
		t.Errorf("weight 1 of 2^31 has %d of 1000 flows", n)
	}
}
