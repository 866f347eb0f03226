package health_test

import (
	"math/rand/v2"
	"testing"

	"usher/health"
)

func TestTracker(t *testing.T) {
	t.Parallel()
	// In results, + is a good one and - a bad one. In want, U and D are news,
	// u and d the state unchanged.
	for _, tt := range []struct {
		name          string
		rise, fall    int
		results, want string
	}{
		{"first good decides", 2, 3, "+", "U"},
		{"first bad decides", 2, 3, "-", "D"},
		{"falls at the third in a row", 2, 3, "+----", "UuuDd"},
		{"rises at the second in a row", 2, 3, "-+++", "DdUu"},
		{"scattered failures never add up", 2, 3, "+--+--+--+", "Uuuuuuuuuu"},
		{"scattered successes never add up", 2, 3, "-+-+-+-", "Ddddddd"},
		{"a new run starts from nothing", 2, 3, "+---+-++", "UuuDdddU"},
		{"a long run of good ones saves nothing up", 2, 3, "+++++++---", "UuuuuuuuuD"},
		{"nor one of bad ones", 3, 1, "------+++", "DdddddddU"},
		{"falls while flapping downwards", 2, 3, "+--+---+-", "UuuuuuDdd"},
		{"rises while flapping upwards", 2, 3, "-+-++-+--+---", "DdddUuuuuuuuD"},
		{"a change begins the other run from nothing", 3, 3, "+---++-+++---", "UuuDdddddUuuD"},
		{"rise alone", 5, 1, "+-++++-+++++-", "UDdddddddddUD"},
		{"one is enough", 1, 1, "+-+--+", "UDUDdU"},
		{"thresholds below one are one", 0, -5, "-+-", "DUD"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tracker := health.NewTracker(tt.rise, tt.fall)
			if tracker.Known() || tracker.Up() || tracker.Changing() {
				t.Error("it has a state before the first result")
			}
			got := make([]byte, 0, len(tt.results))
			for _, r := range tt.results {
				up, changed := tracker.Observe(r == '+')
				got = append(got, letter(up, changed))
			}
			if string(got) != tt.want {
				t.Errorf("results %s: got %s, want %s", tt.results, got, tt.want)
			}
		})
	}
}

func letter(up, changed bool) byte {
	switch {
	case up && changed:
		return 'U'
	case up:
		return 'u'
	case changed:
		return 'D'
	}
	return 'd'
}

// model remembers everything and looks at the last results each time.
type model struct {
	rise, fall int
	history    []bool
	up         bool
}

func (m *model) observe(ok bool) (up, changed bool) {
	m.history = append(m.history, ok)
	if len(m.history) == 1 {
		m.up = ok
		return ok, true
	}
	need := m.rise
	if m.up {
		need = m.fall
	}
	if len(m.history) < need {
		return m.up, false
	}
	for _, past := range m.history[len(m.history)-need:] {
		if past == m.up {
			return m.up, false
		}
	}
	m.up = ok
	return m.up, true
}

func compareWithModel(t *testing.T, rise, fall int, results func() (ok, more bool)) {
	t.Helper()
	tracker, slow := health.NewTracker(rise, fall), model{rise: rise, fall: fall}
	for ok, more := results(); more; ok, more = results() {
		up, changed := tracker.Observe(ok)
		wantUp, wantChanged := slow.observe(ok)
		last := slow.history[len(slow.history)-1]
		if !tracker.Known() || tracker.Up() != wantUp || tracker.Changing() != (last != wantUp) {
			t.Fatalf("rise %d, fall %d, after %v: known %t, up %t, changing %t", rise, fall, slow.history,
				tracker.Known(), tracker.Up(), tracker.Changing())
		}
		if up != wantUp || changed != wantChanged {
			t.Fatalf("rise %d, fall %d, after %v: up %t, changed %t; want %t, %t",
				rise, fall, slow.history, up, changed, wantUp, wantChanged)
		}
	}
}

func TestTrackerSimulation(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 500 {
		rise, fall := 1+random.IntN(6), 1+random.IntN(6)
		good, left := random.Float64(), 200
		compareWithModel(t, rise, fall, func() (ok, more bool) {
			left--
			return random.Float64() < good, left >= 0
		})
	}
}

func FuzzTracker(f *testing.F) {
	f.Add(uint8(2), uint8(3), []byte{0b1000_0101, 0b0111_0001})
	f.Add(uint8(1), uint8(1), []byte{0xaa, 0xff, 0x00})
	f.Fuzz(func(t *testing.T, rise, fall uint8, results []byte) {
		bit := -1
		compareWithModel(t, max(int(rise), 1), max(int(fall), 1), func() (ok, more bool) {
			bit++
			if bit >= min(8*len(results), 4096) {
				return false, false
			}
			return results[bit/8]>>(bit%8)&1 == 1, true
		})
	})
}
