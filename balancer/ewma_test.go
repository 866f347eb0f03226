package balancer

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

const tick = latencyTick * time.Nanosecond

func near(got, want, share float64) bool { return math.Abs(got-want) <= share*want }

func TestLatencySamples(t *testing.T) {
	t.Parallel()
	type sample struct {
		took, now time.Duration
	}
	const ms, memory = time.Millisecond, latencyMemory
	for _, tt := range []struct {
		name    string
		samples []sample
		want    time.Duration
	}{
		{"none", nil, 0},
		{"one", []sample{{5 * ms, 0}}, 5 * ms},
		{"of no time", []sample{{0, 0}}, 1},
		{"of negative time", []sample{{-5, -7}}, 1},
		{"a peak at once", []sample{{5 * ms, 0}, {900 * ms, 0}}, 900 * ms},
		{"one below, no time later", []sample{{900 * ms, 0}, {5 * ms, 0}}, 900 * ms},
		{"one below, 10 s later", []sample{{900 * ms, 0}, {100 * ms, memory}}, 100*ms + 800*ms*1000/2718},
		{"one below, long after", []sample{{900 * ms, 0}, {5 * ms, 100 * memory}}, 5 * ms},
		{"an earlier clock", []sample{{900 * ms, memory}, {5 * ms, 0}, {100 * ms, 2 * memory}}, 100*ms + 800*ms*1000/2718},
		{"the largest", []sample{{math.MaxInt64, math.MaxInt64}}, math.MaxInt64},
	} {
		var l latency
		for _, s := range tt.samples {
			l.observe(s.took, s.now)
		}
		if got := l.load().mean; !near(got, float64(tt.want), .003) {
			t.Errorf("%s: %v, want %v", tt.name, time.Duration(got), tt.want)
		}
	}
}

// TestLatencyRate: samples of one level give the same mean however many there are.
func TestLatencyRate(t *testing.T) {
	t.Parallel()
	for _, every := range []time.Duration{time.Microsecond * 100, time.Millisecond, tick, 100 * time.Millisecond, time.Second} {
		var l latency
		l.observe(time.Second, 0)
		for now := time.Duration(0); now <= 10*time.Second; now += every {
			l.observe(time.Millisecond, now)
		}
		if got, want := l.load().mean, 1e6+999e6/math.E; !near(got, want, .02) {
			t.Errorf("every %v: %v, want %v", every, time.Duration(got), time.Duration(want))
		}
	}
}

func TestEstimatePacks(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	for range 10_000 {
		e := estimate{mean: math.Exp(rnd.Float64() * 43), at: time.Duration(rnd.Int64())}
		got := unpackEstimate(e.pack())
		if !near(got.mean, e.mean, 1./130_000) || got.at != e.at-e.at%latencyTick {
			t.Errorf("%+v unpacks as %+v", e, got)
		}
		if got.pack() != e.pack() {
			t.Errorf("%+v does not pack as before", got)
		}
	}
}

// TestLatencyConcurrent: whoever wins, a peak is not lost.
func TestLatencyConcurrent(t *testing.T) {
	t.Parallel()
	var l latency
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 10_000 {
				l.observe(time.Duration(1+i%100)*time.Microsecond, time.Duration(i+w))
			}
		})
	}
	wg.Wait()
	if got := l.load().mean; !near(got, 1e5, .001) {
		t.Errorf("%v, want 100µs", time.Duration(got))
	}
}

func TestEWMACompares(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, tt := range []struct {
		name string
		x, y estimate
		want float64 // x for y
	}{
		{"no samples", estimate{}, estimate{}, 1},
		{"none of x", estimate{}, estimate{5000, s}, 1},
		{"none of y", estimate{5000, s}, estimate{}, 1},
		{"as old", estimate{6000, s}, estimate{3000, s}, 2},
		{"hardly apart", estimate{1100, s}, estimate{1000, s}, 1},
		{"x older and slower", estimate{1001e3, 0}, estimate{1e3, 10 * s}, 1 + 1000/math.E},
		{"x older and faster", estimate{1e3, 0}, estimate{1001e3, 10 * s}, (1001 - 1000/math.E) / 1001},
		{"x too old", estimate{1e6, 0}, estimate{1e3, 91 * s}, 1},
		{"x not yet too old", estimate{1e6, 0}, estimate{1e3, 89 * s}, 1 + 999*math.Exp(-8.9)},
		{"x twice as slow, old", estimate{2000, 0}, estimate{1000, 21 * s}, 1},
		{"y older and slower", estimate{1e3, 10 * s}, estimate{1001e3, 0}, 1 / (1 + 1000/math.E)},
	} {
		for _, part := range []func(b *Backend) *latency{
			func(b *Backend) *latency { return &b.accepting },
			func(b *Backend) *latency { return &b.answering },
		} {
			x, y := new(Backend), new(Backend)
			for b, e := range map[*Backend]estimate{x: tt.x, y: tt.y} {
				if e.mean > 0 {
					part(b).word.Store(e.pack())
				}
			}
			lx, ly := compared(x, y)
			if !near(lx/ly, tt.want, .003) {
				t.Errorf("%s: %v, want %v", tt.name, lx/ly, tt.want)
			}
		}
	}
}

// TestEWMACountsBothParts: the time to accept is no sample of the time to answer.
func TestEWMACountsBothParts(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, tt := range []struct {
		name                               string
		acceptX, answerX, acceptY, answerY time.Duration // 0: no sample
		want                               float64
	}{
		{"both of both", 1 * ms, 9 * ms, 2 * ms, 3 * ms, 2},
		{"x has not answered yet", 1 * ms, 0, 1 * ms, 100 * ms, 1},
		{"x took long to accept, and has not answered yet", 101 * ms, 0, 1 * ms, 100 * ms, 201. / 101},
		{"nobody answers", 3 * ms, 0, 1 * ms, 0, 3},
		{"y was never asked to accept", 5 * ms, 10 * ms, 0, 5 * ms, 1.5},
	} {
		p := newPool(t, "ewma", specs(2))
		x, y := p.Backends()[0], p.Backends()[1]
		for _, sample := range []struct {
			observe func(*Backend, time.Duration, time.Duration)
			b       *Backend
			took    time.Duration
		}{{p.ObserveConnect, x, tt.acceptX}, {p.Observe, x, tt.answerX}, {p.ObserveConnect, y, tt.acceptY}, {p.Observe, y, tt.answerY}} {
			if sample.took > 0 {
				sample.observe(sample.b, sample.took, time.Minute)
			}
		}
		if lx, ly := compared(x, y); !near(lx/ly, tt.want, .003) {
			t.Errorf("%s: %v, want %v", tt.name, lx/ly, tt.want)
		}
	}
}

// TestEWMAKeepsToTheFaster, which has a tenth of the other's latency.
func TestEWMAKeepsToTheFaster(t *testing.T) {
	t.Parallel()
	s := newTiming(t, specs(2))
	fast, slow := s.p.Backends()[0], s.p.Backends()[1]
	s.takes[fast], s.takes[slow] = 10*time.Millisecond, 100*time.Millisecond
	s.run(200*time.Second, 100)
	if got := float64(slow.Total()) / float64(fast.Total()); got > .1 {
		t.Errorf("the slow one has %.2f of the fast one's flows", got)
	}
	if slow.Total() < 2 {
		t.Errorf("the slow one was tried %d times", slow.Total())
	}
}

// TestEWMAReturns to a backend that has recovered, soon and for good.
func TestEWMAReturns(t *testing.T) {
	t.Parallel()
	for _, weights := range [][2]int{{1, 1}, {1, 10}, {10, 1}} {
		specs := specs(2)
		specs[0].Weight, specs[1].Weight = weights[0], weights[1]
		s := newTiming(t, specs)
		steady, sick := s.p.Backends()[0], s.p.Backends()[1]
		s.takes[steady], s.takes[sick] = time.Millisecond, time.Second
		s.run(20*time.Second, 20)
		s.takes[sick] = time.Millisecond
		before := sick.Total()
		s.run(80*time.Second, 20)
		if tried := sick.Total() - before; tried > 400 {
			t.Errorf("weights %v: %d flows to the backend that was slow", weights, tried)
		}
		s.run(30*time.Second, 20)
		a, b := steady.Total(), sick.Total()
		s.run(1000*time.Second, 20)
		got := float64(sick.Total()-b) / float64(steady.Total()-a)
		if want := float64(weights[1]) / float64(weights[0]); !near(got, want, .25) {
			t.Errorf("weights %v: after it recovered it has %.2f of the other's flows, want %.2f", weights, got, want)
		}
	}
}

// TestEWMADoesNotFlood a new backend while its first flows are under way.
func TestEWMADoesNotFlood(t *testing.T) {
	t.Parallel()
	for _, old := range []time.Duration{time.Microsecond, time.Second} {
		p := newPool(t, "ewma", specs(10))
		for _, b := range p.Backends() {
			p.Observe(b, old, time.Minute)
		}
		picks(p, 10*20)
		update(p, specs(11))
		added := p.Backends()[10]
		picks(p, 500)
		most := int64(0)
		for _, b := range p.Backends()[:10] {
			most = max(most, b.Active())
		}
		if n := added.Active(); n > most+1 || n < 20 {
			t.Errorf("%v: the new one has %d flows, the others up to %d", old, n, most)
		}
		// One slow answer is enough.
		p.Observe(added, 100*old, time.Minute)
		before := added.Active()
		picks(p, 100)
		if n := added.Active() - before; n > 0 {
			t.Errorf("%v: it got %d flows after it was slow", old, n)
		}
	}
}

// timing simulates flows that each take as long as their backend says. They come one
// after another, so that a backend has more than one only if it is slow.
type timing struct {
	p     *Pool
	rnd   *rand.Rand
	now   time.Duration
	takes map[*Backend]time.Duration
	ends  map[*Backend][]time.Duration // in order
}

func newTiming(t *testing.T, s []Spec) *timing {
	rnd := newRand(t)
	p := poolOf(t, Options{Scheduler: "ewma", Random: rnd.Uint64}, s)
	return &timing{p: p, rnd: rnd, takes: map[*Backend]time.Duration{}, ends: map[*Backend][]time.Duration{}}
}

// run goes on for some time with so many flows a second. Each takes up to 5 % more than
// its backend does.
func (s *timing) run(some time.Duration, rate int) {
	for end := s.now + some; s.now < end; s.now += time.Second / time.Duration(rate) {
		for b := range s.ends {
			for len(s.ends[b]) > 0 && s.ends[b][0] <= s.now {
				s.p.Observe(b, s.takes[b]+time.Duration(s.rnd.Int64N(int64(s.takes[b]/20))), s.ends[b][0])
				s.p.Release(b)
				s.ends[b] = s.ends[b][1:]
			}
		}
		b := acquire(s.p, Flow{Now: s.now}, nil)
		s.ends[b] = append(s.ends[b], s.now+s.takes[b])
	}
}
