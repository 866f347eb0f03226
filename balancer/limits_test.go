package balancer

import (
	"strings"
	"testing"
)

func TestLimitsCheck(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		l    Limits
		want string // in the error; empty: none
	}{
		{Limits{}, ""},
		{Limits{Max: 1}, ""},
		{Limits{Upper: 1}, ""},
		{Limits{Upper: 70000, Lower: 70000}, ""},
		{Limits{Max: 10, Upper: 10, Lower: 1}, ""},
		{Limits{Max: -1}, "maximum of -1"},
		{Limits{Upper: -2}, "upper threshold -2"},
		{Limits{Upper: 3, Lower: -3}, "lower threshold -3"},
		{Limits{Lower: 4}, "lower threshold 4 without an upper one"},
		{Limits{Max: 9, Lower: 4}, "lower threshold 4 without an upper one"},
		{Limits{Upper: 4, Lower: 5}, "lower threshold 5 over the upper one, 4"},
		{Limits{Max: 10, Upper: 11}, "upper threshold 11 over the maximum of 10"},
	} {
		err := tt.l.Check()
		p := newPool(t, "rr", []Spec{{Endpoint: endpoint(0), Weight: 1, Limits: tt.l}})
		if got := p.Backends()[0].Limits(); got != tt.l && err == nil || got != (Limits{}) && err != nil {
			t.Errorf("%+v count as %+v, error %v", tt.l, got, err)
		}
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%+v: %v", tt.l, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n")):
			t.Errorf("%+v: error %v, want one line with %q", tt.l, err, tt.want)
		}
	}
}

// TestThresholds walks the number of flows up and down: the overload begins at Upper and
// ends below Lower.
func TestThresholds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		limits      Limits
		begins, end int64 // counts at which the overload comes and goes
	}{
		{Limits{Upper: 1}, 1, 0},
		{Limits{Upper: 2}, 2, 1},
		{Limits{Upper: 3}, 3, 2},
		{Limits{Upper: 4}, 4, 2},
		{Limits{Upper: 5}, 5, 3},
		{Limits{Upper: 100}, 100, 74},
		{Limits{Upper: 4, Lower: 1}, 4, 0},
		{Limits{Upper: 4, Lower: 4}, 4, 3},
		{Limits{Max: 4, Upper: 4, Lower: 2}, 4, 1},
	} {
		p := newPool(t, "rr", []Spec{{Endpoint: endpoint(0), Weight: 1, Limits: tt.limits}})
		b := p.Backends()[0]
		for acquire(p, client(0), nil) != nil {
		}
		if b.Active() != tt.begins || !overloaded(b) {
			t.Errorf("%+v: stops at %d flows, overloaded %v; want %d", tt.limits, b.Active(), overloaded(b), tt.begins)
		}
		for overloaded(b) && b.Active() > 0 {
			if acquire(p, client(0), nil) != nil {
				t.Fatalf("%+v: overloaded at %d flows, and took one", tt.limits, b.Active())
			}
			p.Release(b)
		}
		if overloaded(b) || b.Active() != tt.end {
			t.Errorf("%+v: overloaded %v at %d flows, want it to end at %d", tt.limits, overloaded(b), b.Active(), tt.end)
		}
	}
}

// TestEditIsSeen holds what a flow looks at before it begins or ends: after an edit it is
// no longer the same, even if neither the flows nor the overload are others, so the flow
// looks again. No stress test is sure to meet that moment.
func TestEditIsSeen(t *testing.T) {
	t.Parallel()
	p := newPool(t, "rr", specs(1))
	b := p.Backends()[0]
	acquire(p, client(0), nil)
	s := specs(1)
	seen := make(map[uint64]bool)
	for i := range 1000 {
		seen[b.flows.Load()] = true
		s[0].Limits = Limits{}
		if i%2 == 0 {
			s[0].Limits.Max = 5
		}
		update(p, s)
		if seen[b.flows.Load()] {
			t.Fatalf("edit %d cannot be told from none", i)
		}
		if b.Active() != 1 || overloaded(b) {
			t.Fatalf("edit %d: %d flows, overloaded %v", i, b.Active(), overloaded(b))
		}
	}
	for range 1 << 17 { // more than there are bits for
		b.limit(Limits{Max: 5})
		b.limit(Limits{Max: 6})
	}
	p.Release(b)
	wantIdle(t, p.Backends())
}

// TestLimitsLoweredUnderFlows: between new limits and the new list a choice finds that the
// first one is full. It must go on to the next.
func TestLimitsLoweredUnderFlows(t *testing.T) {
	t.Parallel()
	eachForm(t, func(t *testing.T, o Options) {
		if a, _ := lookup(o.Scheduler); len(o.Flags) > 0 && (a.Hashes || a.Name == "dh") {
			return // clients of a full one are refused
		}
		p := poolOf(t, o, weighing(9, 9, 9))
		held(p, 6)
		for _, b := range p.Backends()[:2] {
			b.limit(Limits{Max: 1})
		}
		for i := range 3 {
			b, busy := p.Acquire(client(i), nil)
			if b == nil || busy {
				t.Fatalf("%v, busy %v; want one with room", b, busy)
			}
			if l := b.Limits(); l.Max > 0 && b.Active() > int64(l.Max) {
				t.Errorf("%v has %d flows, at most %d allowed", b, b.Active(), l.Max)
			}
		}
	})
}
