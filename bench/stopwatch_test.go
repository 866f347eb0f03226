package main

import (
	"context"
	"io"
	"math"
	"slices"
	"testing"
	"time"
)

// TestPerOperation has a clock that only operations move on, by what they cost.
func TestPerOperation(t *testing.T) {
	t.Parallel()
	for _, cost := range []time.Duration{1, 70, 5 * time.Microsecond, 3 * time.Millisecond, time.Second} {
		var now time.Duration
		w := stopwatch{1, 10 * time.Millisecond, func() time.Duration { return now }}
		var last int
		got := w.perOperation(func(n int) {
			last = n
			now += time.Duration(n) * cost
		})
		if got != float64(cost) {
			t.Errorf("%v: measured %v ns", cost, got)
		}
		if slot := time.Duration(last) * cost; cost <= w.slot && (slot > w.slot || slot < w.slot-cost) || cost > w.slot && last != 1 {
			t.Errorf("%v: measured %d times in %v, want a slot of %v", cost, last, slot, w.slot)
		}
	}
}

func TestStopwatch(t *testing.T) {
	t.Parallel()
	var now time.Duration
	var order []string
	subjectOf := func(name string, size int, cost func() time.Duration) subject {
		return subject{name, size, func(n int) {
			if !slices.Contains(order, name) {
				order = append(order, name)
			}
			now += time.Duration(n) * cost()
		}}
	}
	rounds := 0.0
	slower := func() time.Duration { return time.Duration(100 * math.Ceil(rounds+1)) }
	w := stopwatch{3, time.Millisecond, func() time.Duration { return now }}
	got, err := w.measure(t.Context(), []subject{
		subjectOf("a", 1, slower),
		subjectOf("b", 1, func() time.Duration { return 2 * slower() }),
		subjectOf("b", 5, slower),
	}, writerFunc(func() { rounds++ }))
	if err != nil {
		t.Fatal(err)
	}
	if want := []float64{100, 200, 300}; !slices.Equal(got.of("a", 1), want) || !slices.Equal(got.of("b", 5), want) {
		t.Errorf("times %v and %v, want %v", got.of("a", 1), got.of("b", 5), want)
	}
	if ratios := got.over("b", 1, "a", 1); !slices.Equal(ratios, []float64{2, 2, 2}) {
		t.Errorf("ratios %v, want 2 in each round", ratios)
	}
	if ratios := got.over("b", 1, "c", 1); len(ratios) != 0 {
		t.Errorf("ratios to nothing: %v", ratios)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.measure(ctx, []subject{subjectOf("a", 1, slower)}, io.Discard); err == nil {
		t.Error("it does not end")
	}
}

// writerFunc is called once for each write.
type writerFunc func()

func (f writerFunc) Write(b []byte) (int, error) {
	f()
	return len(b), nil
}
