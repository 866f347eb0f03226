package balancer

import (
	"slices"
	"sync"
	"testing"
)

// plainRR keeps the list and whose turn it is.
type plainRR struct {
	list []*plainBackend
	turn int
}

func (r *plainRR) edit(members []*plainBackend) {
	turn := 0
	for i := range r.list {
		if at := slices.Index(members, r.list[(r.turn+i)%len(r.list)]); at >= 0 {
			turn = at
			break
		}
	}
	r.list, r.turn = members, turn
}

func (r *plainRR) choose(candidates []*plainBackend) *plainBackend {
	for i := range r.list {
		at := (r.turn + i) % len(r.list)
		if b := r.list[at]; slices.Contains(candidates, b) {
			r.turn = (at + 1) % len(r.list)
			return b
		}
	}
	if len(r.list) > 0 { // where it stands after a flow that nobody could take is of no account
		r.turn = (r.turn + 1 + maxTried) % len(r.list)
	}
	return nil
}

func (*plainRR) over(*plainBackend) bool { return false }
func (*plainRR) chosen(*plainBackend)    {}
func (*plainRR) settle()                 {}

func TestRoundRobinOrder(t *testing.T) {
	t.Parallel()
	p := newPool(t, "rr", specs(3))
	backends := p.Backends()
	for i := range 9 {
		if b := acquire(p, client(0), nil); b != backends[i%3] {
			t.Fatalf("pick %d is %v, want %v", i, b, backends[i%3])
		}
	}
}

// TestRoundRobinGoesOn changes the list in the middle of a round.
func TestRoundRobinGoesOn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		before int   // picks of a round of 0 1 2 3 4
		after  []int // the new list
		want   []int // the next picks
	}{
		{"none gone", 2, []int{0, 1, 2, 3, 4, 5}, []int{2, 3, 4, 5, 0}},
		{"one before gone", 2, []int{1, 2, 3, 4}, []int{2, 3, 4, 1}},
		{"next gone", 2, []int{0, 1, 3, 4}, []int{3, 4, 0, 1}},
		{"last gone when it is next", 4, []int{0, 1, 2, 3}, []int{0, 1, 2, 3}},
		{"all gone", 2, []int{7, 8}, []int{7, 8, 7}},
		{"one inserted in front", 2, []int{9, 0, 1, 2, 3, 4}, []int{2, 3, 4, 9, 0}},
	} {
		p := newPool(t, "rr", specs(5))
		picks(p, tt.before)
		s := make([]Spec, len(tt.after))
		for i, n := range tt.after {
			s[i] = Spec{Endpoint: endpoint(n), Weight: 1}
		}
		p.Update(s)
		for i, n := range tt.want {
			if b := acquire(p, client(0), nil); b.Endpoint() != endpoint(n) {
				t.Errorf("%s: pick %d is %v, want %v", tt.name, i, b, endpoint(n))
			}
		}
	}
}

// TestRoundRobinUnderFlapping takes a backend out and in between any two picks.
func TestRoundRobinUnderFlapping(t *testing.T) {
	t.Parallel()
	const n, rounds = 5, 200
	p := newPool(t, "rr", specs(n+1))
	backends := p.Backends()
	flapping := backends[2]
	for i := range n * rounds {
		p.SetStatus(flapping, []Status{Down, Up}[i%2])
		acquire(p, client(0), nil)
	}
	for _, b := range backends {
		if b == flapping {
			continue
		}
		if got := b.Total(); got < rounds*8/10 || got > rounds*12/10 {
			t.Errorf("%v got %d flows, want about %d", b, got, rounds)
		}
	}
}

// TestRoundRobinFairUnderFailure has one backend that refuses: its share must go to
// all others alike, not to the one after it.
func TestRoundRobinFairUnderFailure(t *testing.T) {
	t.Parallel()
	const n, rounds = 4, 300
	p := newPool(t, "rr", specs(n))
	dead := p.Backends()[1]
	rnd := newRand(t)
	var waiting []*Tried // flows whose connect to dead has not failed yet
	finish := func(i int) {
		tried := waiting[i]
		waiting = append(waiting[:i], waiting[i+1:]...)
		if b := acquire(p, client(0), tried); b == dead {
			t.Fatal("went to the dead backend again")
		}
	}
	for range n * rounds {
		if b := acquire(p, client(0), nil); b == dead {
			tried := new(Tried)
			tried.Add(b)
			p.Release(b)
			waiting = append(waiting, tried)
		}
		if len(waiting) > 0 && rnd.IntN(n) == 0 { // on any turn, the dead one's too
			finish(rnd.IntN(len(waiting)))
		}
	}
	for len(waiting) > 0 {
		finish(0)
	}
	want := uint64(n * rounds / (n - 1))
	for _, b := range p.Backends() {
		if b == dead {
			continue
		}
		if got := b.Total(); got < want*95/100 || got > want*105/100 {
			t.Errorf("%v got %d flows, want %d within 5 %%", b, got, want)
		}
	}
}

// TestRoundRobinFairInParallel is exact: no turn is lost or given twice.
func TestRoundRobinFairInParallel(t *testing.T) {
	t.Parallel()
	const n, flows, workers = 7, 1000, 8
	p := newPool(t, "rr", specs(n))
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() { picks(p, n*flows) })
	}
	wg.Wait()
	for _, b := range p.Backends() {
		if b.Active() != flows*workers {
			t.Errorf("%v got %d flows, want %d", b, b.Active(), flows*workers)
		}
	}
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

// TestRoundRobinPastManyFull has more full backends in a row than a flow takes turns for:
// the one behind them must not get more than the others.
func TestRoundRobinPastManyFull(t *testing.T) {
	t.Parallel()
	const n, full, rounds = 4, 3 * maxTried, 50
	s := specs(full + n)
	for i := range s[:full] {
		s[i].Limits.Max = 1
	}
	p := newPool(t, "rr", s)
	picks(p, full)
	for range n * rounds {
		acquire(p, client(0), nil)
	}
	for _, b := range p.Backends()[full:] {
		if b.Active() != rounds {
			t.Errorf("%v got %d flows, want %d", b, b.Active(), rounds)
		}
	}
}
