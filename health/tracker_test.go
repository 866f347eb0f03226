package health

import (
	"slices"
	"testing"
)

func TestTracker(t *testing.T) {
	t.Parallel()
	// Results are + (good) and - (bad). U and D are changes, u and d are not.
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
			tracker := tracker{rise: tt.rise, fall: tt.fall}
			got := make([]byte, 0, len(tt.results))
			for _, r := range tt.results {
				changed := tracker.observe(r == '+')
				got = append(got, letter(tracker.isUp, changed))
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

// FuzzTracker compares a tracker with a model that keeps all results and looks at the
// last ones each time.
func FuzzTracker(f *testing.F) {
	f.Add(uint8(2), uint8(3), []byte{0b1000_0101, 0b0111_0001})
	f.Add(uint8(1), uint8(1), []byte{0xaa, 0xff, 0x00})
	f.Add(uint8(4), uint8(2), []byte{0x0f, 0xf3, 0x3c, 0xc0, 0x71})
	f.Fuzz(func(t *testing.T, rise, fall uint8, results []byte) {
		tracker := tracker{rise: max(int(rise), 1), fall: max(int(fall), 1)}
		var history []bool
		isUp := false
		for bit := range min(8*len(results), 4096) {
			ok := results[bit/8]>>(bit%8)&1 == 1
			history = append(history, ok)
			need := tracker.rise
			if isUp {
				need = tracker.fall
			}
			wantChange := bit == 0 || len(history) >= need && !slices.Contains(history[len(history)-need:], isUp)
			if bit == 0 || wantChange {
				isUp = ok
			}
			if changed := tracker.observe(ok); changed != wantChange || tracker.isUp != isUp || tracker.opposed > 0 != (ok != isUp) {
				t.Fatalf("rise %d, fall %d, after %v: %+v, changed %t; want up %t, changed %t", rise, fall, history, tracker, changed, isUp, wantChange)
			}
		}
	})
}
