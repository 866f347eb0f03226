package app

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestErrand: when rounds begin, each of which takes a second.
func TestErrand(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, tt := range []struct {
		name  string
		first bool
		tells []time.Duration
		again []time.Duration // what the rounds ask for, in order; 0: nothing
		want  []time.Duration
	}{
		{"nobody tells", false, nil, nil, nil},
		{"first", true, nil, nil, []time.Duration{0}},
		{"told", false, []time.Duration{3 * s}, nil, []time.Duration{3 * s}},
		{"told during a round", false, []time.Duration{3 * s, 3*s + s/3, 3*s + s/2}, nil, []time.Duration{3 * s, 13 * s}},
		{"told in a rest", false, []time.Duration{3 * s, 5 * s, 6 * s}, nil, []time.Duration{3 * s, 13 * s}},
		{"told after a rest", false, []time.Duration{3 * s, 20 * s}, nil, []time.Duration{3 * s, 20 * s}},
		{"again", true, nil, []time.Duration{30 * s, 1}, []time.Duration{0, 31 * s, 41 * s}},
		{"told before", true, []time.Duration{20 * s}, []time.Duration{30 * s}, []time.Duration{0, 20 * s}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin, again := time.Now(), tt.again
				var got []time.Duration
				e := newErrand(tt.first, func() (next time.Duration, ok bool) {
					got = append(got, time.Since(begin))
					time.Sleep(s)
					if len(again) > 0 {
						next, again = again[0], again[1:]
					}
					return next, next > 0
				})
				for _, at := range tt.tells {
					time.Sleep(time.Until(begin.Add(at)))
					e.tell()
				}
				time.Sleep(time.Hour)
				e.close()
				e.close()
				e.tell()
				synctest.Wait()
				if !slices.Equal(got, tt.want) {
					t.Errorf("rounds at %v, want %v", got, tt.want)
				}
			})
		})
	}
}

// TestErrandEnds: with the round that is under way, and not with the rest after it.
func TestErrandEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin, rounds := time.Now(), 0
		e := newErrand(true, func() (time.Duration, bool) {
			rounds++
			time.Sleep(time.Minute)
			return 0, true
		})
		time.Sleep(time.Second)
		e.tell()
		e.close()
		if took := time.Since(begin); took != time.Minute || rounds != 1 {
			t.Errorf("closed after %v and %d rounds", took, rounds)
		}
	})
}
