package balancer

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// weighing gives the first backends these weights.
func weighing(weights ...int) []Spec {
	s := specs(len(weights))
	for i, w := range weights {
		s[i].Weight = w
	}
	return s
}

// letters acquires and releases n times, and writes the backends as letters in the order
// in which they were added.
func letters(p *Pool, n int) string {
	s := ""
	for i := range n {
		b := acquire(p, client(i), nil)
		if b == nil {
			s += "-"
			continue
		}
		s += string(rune('A' + b.ID() - 1))
		p.Release(b)
	}
	return s
}

func TestWRROrder(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		weights []int
		want    string
	}{
		{[]int{1}, "AAA"},
		{[]int{1, 1, 1}, "ABCABC"},
		{[]int{7, 7, 7}, "ABCABCABCABC"},
		{[]int{2, 1}, "AABAAB"},
		{[]int{5, 1, 1}, "AAABACAAAABACA"},
		{[]int{4, 1, 1, 1, 1}, "AABCADAEAABCADAE"}, // the light ones lie among the heavy one's
		{[]int{maxWeight, maxWeight}, "ABABAB"},
	} {
		p := newPool(t, "wrr", weighing(tt.weights...))
		if got := letters(p, len(tt.want)); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.weights, got, tt.want)
		}
	}
}

// TestWRREqualWeightsGoOn is what round robin promises when the list changes.
func TestWRREqualWeightsGoOn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		after []int  // of A to E, two of which had their turn; others are new
		want  string // named by when they were added
	}{
		{"none gone", []int{0, 1, 2, 3, 4}, "CDEABCDE"},
		{"one inserted in front", []int{9, 0, 1, 2, 3, 4}, "CDEFABCDEFAB"},
		{"one at the end", []int{0, 1, 2, 3, 4, 9}, "CDEFABCDEF"},
		{"next gone", []int{0, 1, 3, 4}, "DEABDE"},
		{"one before gone", []int{1, 2, 3, 4}, "CDEBCDEB"},
	} {
		p := newPool(t, "wrr", specs(5))
		letters(p, 2)
		s := make([]Spec, len(tt.after))
		for i, n := range tt.after {
			s[i] = Spec{Endpoint: endpoint(n), Weight: 1}
		}
		p.Update(s)
		if got := letters(p, len(tt.want)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestWRRExact: any cycle gives each backend exactly its weight, and at no time is one
// two turns away from its share.
func TestWRRExact(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	for _, n := range []int{1, 2, 3, 10, 100} {
		weights := make([]int, n)
		all := 0
		for i := range weights {
			weights[i] = 1 + rnd.IntN(100)
			if n == 100 {
				weights[i] = i + 1
			}
			all += weights[i]
		}
		p := newPool(t, "wrr", weighing(weights...))
		for cycle := range 3 {
			worst := 0.0
			for k := range all {
				p.Release(acquire(p, client(k), nil))
				if k%7 > 0 {
					continue
				}
				for i, b := range p.Backends() {
					share := float64((cycle*all+k+1)*weights[i]) / float64(all)
					worst = max(worst, share-float64(b.Total()), float64(b.Total())-share)
				}
			}
			if worst >= 2 {
				t.Errorf("%d backends: one is %.2f turns away from its share", n, worst)
			}
			for i, b := range p.Backends() {
				if want := uint64((cycle + 1) * weights[i]); b.Total() != want {
					t.Errorf("%d backends, %d cycles: weight %d got %d flows, want %d", n, cycle+1, weights[i], b.Total(), want)
				}
			}
			letters(p, rnd.IntN(2)*all) // a whole cycle more or less
			for i, b := range p.Backends() {
				b.total.Store(uint64((cycle + 1) * weights[i]))
			}
		}
	}
}

// TestWRRNobodyStarves changes weights and members every few picks. One backend is left
// alone, and must get its share of what it lives through.
func TestWRRNobodyStarves(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"weights", "own weight", "members", "both"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			rnd := newRand(t)
			for _, every := range []int{1, 2, 3, 7} {
				const n, picks = 9, 5000
				s := specs(n)
				for i := range s {
					s[i].Weight = 1 + rnd.IntN(20)
				}
				p := newPool(t, "wrr", s)
				watched := p.Backends()[rnd.IntN(n)]
				for i, b := range p.Backends() {
					if b == watched {
						s[0], s[i] = s[i], s[0]
					}
				}
				due, got, since, longest := 0.0, 0, 0.0, 0.0
				for k := range picks {
					if k%every == 0 {
						changeAround(rnd, p, s, what)
					}
					all := 0
					for _, b := range p.Backends() {
						all += b.Weight()
					}
					share := float64(watched.Weight()) / float64(all)
					due += share
					since += share
					if b := acquire(p, client(k), nil); b == watched {
						got++
						since = 0
					}
					longest = max(longest, since)
				}
				// A list that changes all the time has rounds that do not end, and turns that
				// nobody sees through. What must not be is a bias of more than a little.
				if ratio := float64(got) / due; ratio < 0.8 || ratio > 1.25 || longest > 8 {
					t.Errorf("every %d picks: got %d flows, %.0f were due; once it waited %.1f turns", every, got, due, longest)
				}
				releaseAll(p)
			}
		})
	}
}

// changeAround edits s[1:], or the weight of s[0] between two values.
func changeAround(rnd *rand.Rand, p *Pool, s []Spec, what string) {
	next := slices.Clone(s)
	switch what {
	case "own weight":
		next[0].Weight = 1 + rnd.IntN(4)
	case "weights", "both":
		for i := range next[1:] {
			next[1+i].Weight = 1 + rnd.IntN(20)
		}
	}
	if what == "members" || what == "both" {
		next = next[:2+rnd.IntN(len(next)-1)]
		rnd.Shuffle(len(next), func(i, j int) { next[i], next[j] = next[j], next[i] })
	}
	p.Update(next)
}

// TestWRRComesBack: one that was away, or was full, for a hundred rounds gets its share from
// now on, not what it missed.
func TestWRRComesBack(t *testing.T) {
	t.Parallel()
	for _, weight := range []int{1, 3, 50} {
		for _, how := range []string{"down", "full", "new"} {
			s := weighing(weight, 2, 5)
			s[0].Limits.Max = 1
			p := newPool(t, "wrr", s)
			b := p.Backends()[0]
			var held *Backend
			switch how {
			case "down":
				p.SetStatus(b, Down)
			case "new":
				p.Update(s[1:])
			case "full":
				if !p.Rejoin(b, Stickiness{}) {
					t.Fatal("no room to begin with")
				}
				held = b
			}
			if got := letters(p, 703); len(got) != 703 {
				t.Fatal(got)
			}
			switch how {
			case "down":
				p.SetStatus(b, Up)
			case "new":
				p.Update(s)
				b = p.Backends()[0]
			case "full":
				p.Release(held)
			}
			before := b.Total()
			cycles := 4
			letters(p, cycles*(weight+7))
			if got := int(b.Total() - before); got < (cycles-1)*weight || got > (cycles+1)*weight {
				t.Errorf("weight %d, %s: %d flows in %d cycles", weight, how, got, cycles)
			}
		}
	}
}

// TestWRRFlapping: one that goes away and comes back between any two picks gets about its
// share of the picks for which it is there, and costs the others nothing.
func TestWRRFlapping(t *testing.T) {
	t.Parallel()
	for _, weight := range []int{1, 4, 20} {
		p := newPool(t, "wrr", weighing(weight, 3, 3, 4))
		b := p.Backends()[0]
		const picks = 4000
		for i := range picks {
			p.SetStatus(b, []Status{Down, Up}[i%2])
			letters(p, 1)
		}
		others := uint64(picks) - b.Total()
		if want := float64(picks) / 2 * float64(weight) / float64(weight+10); float64(b.Total()) < want*0.3 || float64(b.Total()) > want*1.7 {
			t.Errorf("weight %d: %d flows, %.0f were due", weight, b.Total(), want)
		}
		for i, x := range p.Backends()[1:] {
			if got, want := float64(x.Total()), float64(others)*[]float64{.3, .3, .4}[i]; got < want*0.97 || got > want*1.03 {
				t.Errorf("weight %d: another one got %.0f flows, want %.0f", weight, got, want)
			}
		}
	}
}

// TestWRRPersistence: ten thousand flows that persistence sends take no more than the
// coming turn, so new flows go there at once afterwards.
func TestWRRPersistence(t *testing.T) {
	t.Parallel()
	p := newPool(t, "wrr", weighing(1, 1, 2))
	b := p.Backends()[0]
	for range 10_000 {
		if !p.Rejoin(b, Stickiness{}) {
			t.Fatal("refused")
		}
	}
	before := b.Total()
	letters(p, 40)
	if got := b.Total() - before; got < 9 || got > 10 {
		t.Errorf("%d of 40 flows, want 9 or 10", got)
	}
}

// TestWRRFairUnderFailure has one backend that refuses: its share goes to the others by
// their weights.
func TestWRRFairUnderFailure(t *testing.T) {
	t.Parallel()
	weights := []int{5, 8, 1, 2, 3}
	p := newPool(t, "wrr", weighing(weights...))
	dead := p.Backends()[1]
	const rounds = 1000
	for range 11 * rounds {
		tried := new(Tried)
		b := acquire(p, client(0), tried)
		p.Release(b)
		if b == dead {
			tried.Add(b)
			p.Release(acquire(p, client(0), tried))
		}
	}
	for i, b := range p.Backends() {
		if want := float64(weights[i] * rounds); b != dead && (float64(b.Total()) < want*0.97 || float64(b.Total()) > want*1.03) {
			t.Errorf("weight %d got %d flows, want %.0f", weights[i], b.Total(), want)
		}
	}
}

// TestWRRHugeWeights: no product overflows, with a slow start on either.
func TestWRRHugeWeights(t *testing.T) {
	t.Parallel()
	p, err := NewPool(Options{Scheduler: "wrr", SlowStart: 100})
	if err != nil {
		t.Fatal(err)
	}
	p.Update(weighing(maxWeight, maxWeight/2, maxWeight, 1))
	for _, b := range p.Backends()[:3] {
		p.SetStatus(b, Up)
	}
	p.SetStatus(p.Backends()[3], Up)
	p.Advance(0)
	p.Advance(100)
	p.SetStatus(p.Backends()[2], Down)
	p.SetStatus(p.Backends()[2], Up) // at a twentieth of its weight, and the others count a hundredfold
	for _, tt := range []struct {
		now  int64
		want [4]int
	}{
		{1000, [4]int{2000, 1000, 100, 0}},
		{1100, [4]int{2000, 1000, 2000, 0}},
	} {
		p.Advance(time.Duration(tt.now))
		all := 0
		for _, n := range tt.want {
			all += n
		}
		count := picks(p, all)
		for i, b := range p.Backends() {
			if got := count[b]; got < tt.want[i]-2 || got > tt.want[i]+2 {
				t.Errorf("at %d: backend %d got %d of %d flows, want %d", tt.now, i, got, all, tt.want[i])
			}
		}
	}
}

// TestWRRDistribution has backends of weights 1 to 100 join, leave, drain and change:
// from then on everybody gets its weight in each cycle, to within two turns in all, and
// after eight cycles exactly.
func TestWRRDistribution(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	const n = 30
	s := specs(n)
	for i := range s {
		s[i].Weight = 1 + rnd.IntN(100)
	}
	p := newPool(t, "wrr", s)
	for range 8 {
		rnd.Shuffle(n, func(i, j int) { s[i], s[j] = s[j], s[i] })
		s[0].Weight = 1 + rnd.IntN(100)
		p.Update(s[:1+rnd.IntN(n)])
		for _, b := range p.Backends() {
			if rnd.IntN(3) == 0 {
				p.SetStatus(b, Drain)
			} else {
				p.Resume(b)
			}
		}
		all := 0
		for _, b := range p.Backends() {
			if b.Status() == Up {
				all += b.Weight()
			}
		}
		letters(p, rnd.IntN(50))
		for k, cycles := range []int{1, 8, 1} {
			count := picks(p, cycles*all)
			for _, b := range p.Backends() {
				want, off := cycles*b.Weight(), 0
				switch {
				case b.Status() != Up:
					want = 0
				case k < 2:
					off = 2
				}
				if got := count[b]; got < want-off || got > want+off {
					t.Errorf("%v of weight %d, %v: %d flows in %d cycles, want %d", b, b.Weight(), b.Status(), got, cycles, want)
				}
			}
			releaseAll(p)
		}
	}
}
