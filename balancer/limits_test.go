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
		if b.Active() != tt.begins || !b.Overloaded() {
			t.Errorf("%+v: stops at %d flows, overloaded %v; want %d", tt.limits, b.Active(), b.Overloaded(), tt.begins)
		}
		for b.Overloaded() && b.Active() > 0 {
			if acquire(p, client(0), nil) != nil {
				t.Fatalf("%+v: overloaded at %d flows, and took one", tt.limits, b.Active())
			}
			p.Release(b)
		}
		if b.Overloaded() || b.Active() != tt.end {
			t.Errorf("%+v: overloaded %v at %d flows, want it to end at %d", tt.limits, b.Overloaded(), b.Active(), tt.end)
		}
	}
}

func TestLimitsEdited(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		before, after Limits
		flows         int // held at the edit, as far as before allows
		over          bool
		room          bool
	}{
		{"upper comes at the count", Limits{}, Limits{Upper: 5}, 5, true, false},
		{"upper comes above the count", Limits{}, Limits{Upper: 6}, 5, false, true},
		{"upper raised, count not below lower", Limits{Upper: 5}, Limits{Upper: 6}, 5, true, false},
		{"upper raised, count below lower", Limits{Upper: 5}, Limits{Upper: 100}, 5, false, true},
		{"lower raised over the count", Limits{Upper: 5}, Limits{Upper: 9, Lower: 6}, 5, false, true},
		{"lower lowered", Limits{Upper: 5}, Limits{Upper: 9, Lower: 2}, 5, true, false},
		{"between new thresholds, from below", Limits{Upper: 9}, Limits{Upper: 6, Lower: 2}, 5, false, true},
		{"upper goes", Limits{Upper: 5}, Limits{}, 5, false, true},
		{"upper goes, a maximum comes", Limits{Upper: 5}, Limits{Max: 6}, 5, false, true},
		{"maximum lowered", Limits{Max: 9}, Limits{Max: 3}, 5, false, false},
		{"maximum raised", Limits{Max: 5}, Limits{Max: 6}, 5, false, true},
		{"maximum goes", Limits{Max: 5}, Limits{}, 5, false, true},
		{"wrong limits are none", Limits{Max: 5}, Limits{Max: -1}, 5, false, true},
		{"wrong limits are none", Limits{Upper: 5}, Limits{Upper: 3, Lower: 4}, 5, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			eachScheduler(t, func(t *testing.T, scheduler string) {
				p := newPool(t, scheduler, []Spec{{Endpoint: endpoint(0), Weight: 100, Limits: tt.before}})
				b := p.Backends()[0]
				for range tt.flows {
					acquire(p, client(0), nil)
				}
				p.Update([]Spec{{Endpoint: endpoint(0), Weight: 100, Limits: tt.after}})
				if b.Overloaded() != tt.over {
					t.Errorf("overloaded %v, want %v", b.Overloaded(), tt.over)
				}
				if got, busy := p.Acquire(client(1), nil); (got != nil) != tt.room || busy == tt.room {
					t.Errorf("gave %v, busy %v; want room: %v", got, busy, tt.room)
				}
				releaseAll(p)
				if b.Overloaded() || b.Active() != 0 {
					t.Errorf("without flows: overloaded %v, %d active", b.Overloaded(), b.Active())
				}
			})
		})
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
		p.Update(s)
		if seen[b.flows.Load()] {
			t.Fatalf("edit %d cannot be told from none", i)
		}
		if b.Active() != 1 || b.Overloaded() {
			t.Fatalf("edit %d: %d flows, overloaded %v", i, b.Active(), b.Overloaded())
		}
	}
	for range 1 << 17 { // more than there are bits for
		b.limit(Limits{Max: 5})
		b.limit(Limits{Max: 6})
	}
	p.Release(b)
	wantIdle(t, p.Backends())
}

// plainLimits is the rule of IPVS step by step.
type plainLimits struct {
	l    Limits
	n    int
	over bool
}

func (m *plainLimits) room(persistent bool) bool {
	if m.l.Max > 0 && m.n >= m.l.Max {
		return false
	}
	return persistent || !m.over
}

func (m *plainLimits) begin() {
	m.n++
	if m.l.Upper > 0 && m.n >= m.l.Upper {
		m.over = true
	}
}

func (m *plainLimits) end() {
	m.n--
	m.below()
}

func (m *plainLimits) edit(l Limits) {
	m.l = l
	if l.Upper > 0 && m.n >= l.Upper {
		m.over = true
		return
	}
	m.below()
}

func (m *plainLimits) below() {
	lower := m.l.Lower
	if lower == 0 {
		lower = m.l.Upper - m.l.Upper/4
	}
	if m.l.Upper == 0 || m.n < lower {
		m.over = false
	}
}

// TestLimitsEqualPlain does the same at random to a backend and to the model.
func TestLimitsEqualPlain(t *testing.T) {
	t.Parallel()
	eachScheduler(t, func(t *testing.T, scheduler string) {
		rnd := newRand(t)
		spec := Spec{Endpoint: endpoint(0), Weight: maxWeight}
		p := newPool(t, scheduler, []Spec{spec})
		b := p.Backends()[0]
		var m plainLimits
		flows := 2 // how likely a flow begins, of 4
		for step := range 6000 {
			switch k := rnd.IntN(100); {
			case k < 2:
				spec.Limits = Limits{Max: rnd.IntN(12), Upper: rnd.IntN(12), Lower: rnd.IntN(12)}
				if spec.Limits.Check() != nil {
					spec.Limits = Limits{}
				}
				p.Update([]Spec{spec})
				m.edit(spec.Limits)
				flows = 1 + rnd.IntN(3)
			case k%4 < flows && k%7 == 0:
				want := m.room(true)
				if got := p.Rejoin(b, Stickiness{Overloaded: true}); got != want {
					t.Fatalf("step %d, %+v: Rejoin %v", step, m, got)
				}
				if want {
					m.begin()
				}
			case k%4 < flows:
				want := m.room(false)
				if got, busy := p.Acquire(client(step), nil); (got != nil) != want || busy == want {
					t.Fatalf("step %d, %+v: Acquire %v, busy %v", step, m, got, busy)
				}
				if want {
					m.begin()
				}
			case m.n > 0:
				p.Release(b)
				m.end()
			}
			if b.Active() != int64(m.n) || b.Overloaded() != m.over || b.busy() == m.room(false) {
				t.Fatalf("step %d: active %d, overloaded %v, busy %v; want %+v", step, b.Active(), b.Overloaded(), b.busy(), m)
			}
		}
	})
}

// TestBusy compares with the plain rule: a flow is refused when no untried backend has
// room, and busy then says whether one of them lacks only that.
func TestBusy(t *testing.T) {
	t.Parallel()
	eachScheduler(t, func(t *testing.T, scheduler string) {
		const size = 6
		rnd := newRand(t)
		s := specs(size)
		for i := range s {
			s[i].Weight = 100
		}
		p := newPool(t, scheduler, s)
		var held []*Backend
		for step := range 2000 {
			if rnd.IntN(60) == 0 {
				for i := range s {
					s[i].Limits = Limits{Max: rnd.IntN(4)}
					if rnd.IntN(3) == 0 {
						s[i].Limits = Limits{Upper: rnd.IntN(4)}
					}
				}
				p.Update(s)
				b := p.Backends()[rnd.IntN(size)]
				p.SetStatus(b, []Status{Up, Up, Drain}[rnd.IntN(3)])
				p.Resume(p.Backends()[rnd.IntN(size)])
			}
			var tried Tried
			for range rnd.IntN(size + 1) {
				tried.Add(p.Backends()[rnd.IntN(size)])
			}
			free, full := 0, 0
			for _, b := range p.Backends() {
				switch {
				case tried.Has(b) || b.Status() != Up:
				case b.busy():
					full++
				default:
					free++
				}
			}
			b, busy := p.Acquire(client(rnd.IntN(50)), &tried)
			if (b != nil) != (free > 0) || busy != (free == 0 && full > 0) {
				t.Fatalf("step %d: %d untried have room and %d have not: got %v, busy %v", step, free, full, b, busy)
			}
			if b != nil {
				held = append(held, b)
			}
			for len(held) > rnd.IntN(20) {
				k := rnd.IntN(len(held))
				p.Release(held[k])
				held[k] = held[len(held)-1]
				held = held[:len(held)-1]
			}
		}
	})
}
