package balancer

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

// recorder keeps the lists that the pool makes.
type recorder struct {
	roundRobin
	members []member
	updates int
}

func (s *recorder) update(members []member) {
	s.members = members
	s.updates++
	s.roundRobin.update(members)
}

// weights are what counts for each backend of the list, by the place in the pool; -1:
// not a member.
func (s *recorder) weights(p *Pool) []int {
	w := slices.Repeat([]int{-1}, len(p.Backends()))
	for i, b := range p.Backends() {
		for _, m := range s.members {
			if m.Backend == b {
				w[i] = m.weight
			}
		}
	}
	return w
}

// newRamping returns a pool of n unknown backends of the weights 1, 2, … that start slowly.
func newRamping(t *testing.T, whole time.Duration, n int) (*Pool, *recorder) {
	t.Helper()
	p, err := NewPool(Options{Scheduler: "mh", SlowStart: whole})
	if err != nil {
		t.Fatal(err)
	}
	r := new(recorder)
	r.update(nil)
	p.chooser.Store(&chooser{scheduler: r})
	s := specs(n)
	for i := range s {
		s[i].Weight = i + 1
	}
	p.Update(s, 0)
	return p, r
}

// TestSlowStart follows tables of what happens and which weights count afterwards. The
// time of each line is that of its updates.
func TestSlowStart(t *testing.T) {
	t.Parallel()
	type line struct {
		at      int // seconds
		do      func(p *Pool, b []*Backend)
		weights string
		next    int // seconds; 0: nothing is on
	}
	up := func(i int) func(p *Pool, b []*Backend) {
		return func(p *Pool, b []*Backend) { setStatus(p, b[i], Up) }
	}
	down := func(i int) func(p *Pool, b []*Backend) {
		return func(p *Pool, b []*Backend) { setStatus(p, b[i], Down) }
	}
	warm := []line{{0, up(0), "[1 -1]", 10}, {100, nil, "[1 -1]", 0}}
	for _, tt := range []struct {
		name  string
		lines []line
	}{
		{"steps", append(slices.Clip(warm),
			line{200, up(1), "[100 10]", 210},
			line{209, nil, "[100 10]", 210},
			line{210, nil, "[100 30]", 220},
			line{225, nil, "[100 50]", 230},
			line{290, nil, "[100 190]", 300},
			line{300, nil, "[1 2]", 0},
			line{900, nil, "[1 2]", 0},
		)},
		{"a first step that begins between two moments lasts longer", append(slices.Clip(warm),
			line{203, up(1), "[100 10]", 210},
			line{210, nil, "[100 10]", 220},
			line{220, nil, "[100 30]", 230},
			line{309, nil, "[100 190]", 310},
			line{310, nil, "[1 2]", 0},
		)},
		{"a late call makes up for those left out", append(slices.Clip(warm),
			line{200, up(1), "[100 10]", 210},
			line{777, nil, "[1 2]", 0},
		)},
		{"nobody to spare them", []line{
			{0, func(p *Pool, b []*Backend) { up(0)(p, b); up(1)(p, b) }, "[1 2]", 10},
			{50, nil, "[1 2]", 60},
			{100, nil, "[1 2]", 0},
		}},
		{"one is further than the other", []line{
			{0, up(0), "[1 -1]", 10},
			{50, up(1), "[55 10]", 60},
			{90, nil, "[95 90]", 100},
			{100, nil, "[100 110]", 110},
			{150, nil, "[1 2]", 0},
		}},
		{"a flap begins again", append(slices.Clip(warm),
			line{200, up(1), "[100 10]", 210},
			line{250, nil, "[100 110]", 260},
			line{251, down(1), "[1 -1]", 0},
			line{260, up(1), "[100 10]", 270},
			line{270, nil, "[100 30]", 280},
			line{360, nil, "[1 2]", 0},
		)},
		{"a flap between two calls begins again", append(slices.Clip(warm),
			line{200, up(1), "[100 10]", 210},
			line{250, nil, "[100 110]", 260},
			line{260, func(p *Pool, b []*Backend) { down(1)(p, b); up(1)(p, b) }, "[100 10]", 270},
		)},
		{"so do the end of a maintenance and the end of ejection", append(slices.Clip(warm),
			line{200, up(1), "[100 10]", 210},
			line{400, nil, "[1 2]", 0},
			line{400, func(p *Pool, b []*Backend) { setAdmin(p, Maint, b[1]); setAdmin(p, Ready, b[1]) }, "[100 10]", 410},
			line{600, nil, "[1 2]", 0},
			line{600, func(p *Pool, b []*Backend) { eject(p, true, b[0]); eject(p, false, b[0]) }, "[5 200]", 610},
		)},
		{"a finding that is no news does not", append(slices.Clip(warm),
			line{200, up(1), "[100 10]", 210},
			line{250, up(1), "[100 110]", 260},
		)},
		{"weights change meanwhile", append(slices.Clip(warm),
			line{200, up(1), "[100 10]", 210},
			line{210, func(p *Pool, b []*Backend) {
				update(p, []Spec{{Endpoint: endpoint(0), Weight: 7}, {Endpoint: endpoint(1), Weight: maxWeight}})
			}, fmt.Sprintf("[700 %d]", min(15*maxWeight, math.MaxInt)), 220},
			line{220, func(p *Pool, b []*Backend) {
				update(p, []Spec{{Endpoint: endpoint(0), Weight: 7}, {Endpoint: endpoint(1), Weight: 0}})
			}, "[7 -1]", 230},
			line{230, func(p *Pool, b []*Backend) {
				update(p, []Spec{{Endpoint: endpoint(0), Weight: 7}, {Endpoint: endpoint(1), Weight: 1}})
			}, "[700 35]", 240},
		)},
		{"an earlier time counts as the latest", append(slices.Clip(warm),
			line{200, up(1), "[100 10]", 210},
			line{250, nil, "[100 110]", 260},
			line{220, nil, "[100 110]", 260},
			line{0, nil, "[100 110]", 260},
			line{-1, nil, "[100 110]", 260},
		)},
		{"a share counts as well", append(slices.Clip(warm),
			line{200, func(p *Pool, b []*Backend) { up(1)(p, b); editOne(p, b[0], func(s *Spec) { s.Share = 50 }) }, "[50 10]", 210},
			line{300, nil, "[50 200]", 0},
		)},
		{"one that goes down is not spared", []line{
			{0, up(0), "[1 -1]", 10},
			{20, func(p *Pool, b []*Backend) { down(0)(p, b); down(1)(p, b) }, "[1 2]", 0},
		}},
		{"one that leaves takes its slow start along", append(slices.Clip(warm),
			line{200, up(1), "[100 10]", 210},
			line{210, func(p *Pool, b []*Backend) { update(p, specs(1)) }, "[1]", 0},
		)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, r := newRamping(t, 100*time.Second, 2)
			for _, l := range tt.lines {
				now := time.Duration(l.at) * time.Second
				advance(p, now)
				if l.do != nil {
					l.do(p, p.Backends())
				}
				next := advance(p, now)
				if got := fmt.Sprint(r.weights(p)); got != l.weights {
					t.Errorf("at %d s: weights %s, want %s", l.at, got, l.weights)
				}
				if want := time.Duration(l.next) * time.Second; next != want {
					t.Errorf("at %d s: next %v, want %v", l.at, next, want)
				}
			}
		})
	}
}

// TestSlowStartTimes tries lengths and moments at the edge: the next call is always
// later than this one, and calls at those times bring every slow start to an end.
func TestSlowStartTimes(t *testing.T) {
	t.Parallel()
	for _, whole := range []time.Duration{1, 3, 9, 10, 11, 99, time.Second - 1, time.Hour, math.MaxInt64 / 2, math.MaxInt64} {
		for _, start := range []time.Duration{0, 1, 7, time.Minute + 1, math.MaxInt64 / 16} {
			p, r := newRamping(t, whole, 2)
			now, calls := start, 0
			advance(p, now)
			setStatus(p, p.Backends()[0], Up)
			for {
				next := advance(p, now)
				if next == 0 {
					break
				}
				if next <= now {
					if whole > math.MaxInt64/16 {
						break // ends beyond the end of time
					}
					t.Fatalf("slow start of %v: at %v, next at %v", whole, now, next)
				}
				if calls++; calls > rampSteps+1 {
					t.Fatalf("slow start of %v is still on after %d calls", whole, calls)
				}
				now = next
			}
			if got, least := now-start, whole-rampSteps; whole < math.MaxInt64/16 && (got < least || got > whole+whole/rampSteps+rampSteps) {
				t.Errorf("slow start of %v from %v took %v", whole, start, got)
			}
			if len(r.members) != 1 || r.members[0].weight != 1 {
				t.Errorf("slow start of %v: members %v", whole, r.weights(p))
			}
		}
	}
}

// TestSlowStartBuilds has many backends come up one by one: the tables that their
// slow starts need are bounded by time, not by their number.
func TestSlowStartBuilds(t *testing.T) {
	t.Parallel()
	const n, whole = 200, 100 * time.Second
	p, r := newRamping(t, whole, n)
	own := 0 // builds that time alone caused
	now := time.Duration(0)
	for _, b := range p.Backends() {
		before := r.updates
		advance(p, now)
		own += r.updates - before
		setStatus(p, b, Up)
		now += whole / n
	}
	for {
		before := r.updates
		next := advance(p, now)
		own += r.updates - before
		if next == 0 {
			break
		}
		now = next
	}
	if own > 2*rampSteps+2 {
		t.Errorf("%d backends took %d builds to start slowly in twice %v", n, own, whole)
	}
	for i, w := range r.weights(p) {
		if w != i+1 {
			t.Fatalf("backend %d ends with weight %d", i, w)
		}
	}
}
