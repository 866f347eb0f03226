package balancer

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestConfigure changes the options at random while flows come and go. Backends keep their flows and counters, and the
// scheduler chooses as one does that has never been another.
func TestConfigure(t *testing.T) {
	t.Parallel()
	ofOneGoroutine(t)
	rnd := newRand(t)
	all := append(forms(), Options{Scheduler: "mh", HashKey: HashKey{Of: LocalAddr}}, Options{Scheduler: "wlc", SlowStart: time.Minute},
		Options{Scheduler: "lc", FailClosed: true}, Options{Scheduler: "rr", Panic: 50})
	for range 4 {
		p := poolOf(t, Options{}, limitedSpecs(rnd, 12))
		var held []*Backend
		active, total := make(map[*Backend]int64), make(map[*Backend]uint64)
		add := func(b *Backend) {
			held = append(held, b)
			active[b]++
			total[b]++
		}
		for step := range 60 {
			o := all[rnd.IntN(len(all))]
			o.Random = rnd.Uint64
			if err := p.Configure(o); err != nil {
				t.Fatal(err)
			}
			a, _ := Lookup(o.Scheduler)
			if p.ObservesLatency() != a.ObservesLatency || p.UsesDestination() != (a.Destination || o.HashKey.Of >= LocalAddr) {
				t.Errorf("step %d, %s: observes latency %v, uses destination %v", step, formOf(o), p.ObservesLatency(), p.UsesDestination())
			}
			alike := twin(t, p, o)
			for i := range 20 {
				got, want := acquire(p, visit(i), nil), acquire(alike, visit(i), nil)
				if !choosesLike(o, got, want) {
					t.Fatalf("step %d, %s: %v, want %v", step, formOf(o), got, want)
				}
				if got != nil {
					add(got)
				}
			}
			for len(held) > 15 {
				held = releaseOne(rnd, p, held, func(b *Backend) { active[b]-- })
			}
			for b := range active {
				if b.Active() != active[b] || b.Total() != total[b] {
					t.Fatalf("step %d, %s: %v has %d flows of %d, want %d of %d", step, formOf(o), b, b.Active(), b.Total(), active[b], total[b])
				}
			}
			want := int64(0)
			for b, n := range active {
				if load(b.flows.Load()).counted() {
					want += n
				}
			}
			if n := counted(p); n != want {
				t.Fatalf("step %d, %s: %d flows count, want %d", step, formOf(o), n, want)
			}
			if rnd.IntN(3) == 0 {
				randomEdit(rnd, p, 12)
			}
		}
		for len(held) > 0 {
			held = releaseOne(rnd, p, held)
		}
		if n := counted(p); n != 0 {
			t.Errorf("with all released, %d flows count", n)
		}
	}
}

// counted is the number of flows that a bound is of.
func counted(p *Pool) int64 {
	if p.count == nil {
		return 0
	}
	return p.count.flows.Load()
}

// twin returns a new pool of the same backends with the same flows.
func twin(t *testing.T, p *Pool, o Options) *Pool {
	t.Helper()
	o.Random = rand.Uint64
	alike, err := NewPool(o)
	if err != nil {
		t.Fatal(err)
	}
	var specs []Spec
	for _, b := range p.Backends() {
		specs = append(specs, specOf(b))
	}
	alike.Update(specs, 0)
	for i, b := range alike.Backends() {
		is := load(p.Backends()[i].flows.Load()) &^ countedBit
		b.flows.Store(uint64(is | load(b.flows.Load())&countedBit))
		if h := alike.chooser.Load().heap; h != nil {
			h.touch(b)
		}
	}
	if o.Balance > 0 {
		alike.count.flows.Store(counted(p)) // those of backends that are gone are in it
	}
	return alike
}

// choosesLike reports whether got may be chosen where a pool without a past chooses want.
func choosesLike(o Options, got, want *Backend) bool {
	switch {
	case len(o.Flags) > 0: // the kernel's choice depends on the order in which they came, and on weights of the past
		return true
	case got == nil || want == nil:
		return got == nil && want == nil
	case o.Scheduler == "lc": // both have the new flow
		return got.Active() == want.Active()
	case slices.Contains([]string{"mh", "sh", "dh", "ring", "hrw", "fo", "ovf"}, o.Scheduler):
		return got.endpoint == want.endpoint
	}
	return true
}

// TestConfigureAmidFlows changes the options while flows come and go on other goroutines. No flow is refused while a
// backend has room, none goes beyond a maximum, and in the end every scheduler knows that all have room.
func TestConfigureAmidFlows(t *testing.T) {
	t.Parallel()
	var all []Options
	for _, o := range forms() {
		if len(o.Flags) == 0 && o.Scheduler != "ovf" { // those refuse where others have room
			o.Random = rand.Uint64
			all = append(all, o)
		}
	}
	const size, most, workers, each = 10, 3, 4, 6 // 24 flows at the most where there is room for 30
	seed := newRand(t).Uint64()
	s := specs(size)
	for i := range s {
		s[i].Limits.Max, s[i].Weight = most, 1+i%3
	}
	p := poolOf(t, Options{}, s)
	var flowing sync.WaitGroup
	var stop atomic.Bool
	for w := range workers {
		flowing.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(w)))
			var held []*Backend
			for !stop.Load() || len(held) > 0 {
				if stop.Load() || len(held) == each || rnd.IntN(2) == 0 {
					held = releaseOne(rnd, p, held)
					continue
				}
				b := acquire(p, visit(rnd.IntN(100)), nil)
				if b == nil {
					t.Error("refused while there is room")
					stop.Store(true)
					continue
				}
				if n := b.Active(); n > most {
					t.Errorf("%v has %d flows", b, n)
				}
				held = append(held, b)
			}
		})
	}
	rnd := rand.New(rand.NewPCG(seed, workers))
	var names []string
	for range edits(400) {
		o := all[rnd.IntN(len(all))]
		if names = append(names, formOf(o)); p.Configure(o) != nil {
			t.Error("not configured")
		}
	}
	stop.Store(true)
	flowing.Wait()
	wantIdle(t, p.Backends())
	if got := len(picks(p, size*most)); got != size {
		t.Errorf("after %s: %d of %d backends can be reached", strings.Join(names[max(0, len(names)-3):], ", "), got, size)
	}
	if n := counted(p); p.counts && n != size*most || !p.counts && n != 0 {
		t.Errorf("%d flows count, counting is %v", n, p.counts)
	}
}

// TestConfigureSlowStart: a slow start that is on goes on from where it is, at another pace.
func TestConfigureSlowStart(t *testing.T) {
	t.Parallel()
	p := poolOf(t, Options{Scheduler: "wlc", SlowStart: 10 * time.Second}, weighing(1, 1))
	for _, step := range []struct {
		at    time.Duration
		whole time.Duration
		want  int
	}{{0, 10, 5}, {5, 10, 55}, {5, 20, 55}, {7, 20, 55}, {8, 20, 65}, {8, 100, 65}, {10, 100, 65}, {20, 100, 75}, {20, 0, 100}, {20, 10, 100}} {
		if err := p.Configure(Options{Scheduler: "wlc", SlowStart: step.whole * time.Second}); err != nil {
			t.Fatal(err)
		}
		advance(p, step.at*time.Second)
		if got := int(p.Backends()[0].ramp.share); got != step.want {
			t.Errorf("%d s with a slow start of %d s: %d %%, want %d", step.at, step.whole, got, step.want)
		}
	}
}

// lateScheduler has flows end late, after others have changed the options.
type lateScheduler struct {
	roundRobin
	entered, gate chan struct{}
}

func (s *lateScheduler) release(b *Backend) {
	s.entered <- struct{}{}
	<-s.gate
	s.roundRobin.release(b)
}

// TestFlowThatEndsLate: a flow that ends by the scheduler before is known to the one that has taken over meanwhile.
func TestFlowThatEndsLate(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"lc", "wrr", "lblc"} {
		s := specs(1)
		s[0].Limits.Max = 1
		p := poolOf(t, Options{}, s)
		late := &lateScheduler{entered: make(chan struct{}), gate: make(chan struct{})}
		late.update(p.members)
		p.chooser.Store(&chooser{scheduler: late})
		b := acquire(p, client(1), nil)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			p.Release(b)
		}()
		<-late.entered
		if err := p.Configure(Options{Scheduler: name}); err != nil {
			t.Fatal(err)
		}
		if got, busy := p.Acquire(client(1), nil); got != nil || !busy {
			t.Errorf("%s: %v although it is full", name, got)
		}
		close(late.gate)
		<-ended
		if acquire(p, client(1), nil) != b {
			t.Errorf("%s: no room after the flow has ended", name)
		}
	}
}

// TestRoomWhileUnsettled: room that came to be before the keys of the moment are known is found.
func TestRoomWhileUnsettled(t *testing.T) {
	t.Parallel()
	p := newPool(t, "lc", specs(3))
	h := p.chooser.Load().heap
	for _, b := range p.Backends() {
		b.limit(Limits{Max: 1})
		p.Acquire(client(1), nil)
	}
	last := p.Backends()[2]
	h.reorder(h.keyer, h.fair)
	last.release() // by another scheduler
	if got := acquire(p, client(1), nil); got != last {
		t.Errorf("got %v, want %v", got, last)
	}
}
