package balancer

import (
	"math"
	"slices"
	"testing"
)

// plainRendezvous has each backend go through all slots of each block to the end, and
// each slot go to the one with the least time. It returns the times as well.
func plainRendezvous(names []string, weights []int) (winners []int, times []float64) {
	winners, times = make([]int, hashSlots), make([]float64, hashSlots)
	for block := range 64 {
		first, end := block*hashSlots/64, (block+1)*hashSlots/64
		for i, name := range names {
			at := make([]float64, end-first)
			seed, now := draw(hashName(name, 4), uint64(block)), 0.0
			for k, left := uint64(0), end-first; left > 0; k++ {
				x := draw(seed, k)
				now += -math.Log((float64(x&math.MaxUint32)+0.5)/(1<<32)) / float64(weights[i])
				if slot := int(x >> 32 * uint64(end-first) >> 32); at[slot] == 0 {
					at[slot] = now
					left--
				}
			}
			for slot, now := range at {
				if slot += first; i == 0 || now < times[slot] {
					winners[slot], times[slot] = i, now
				}
			}
		}
	}
	return winners, times
}

func TestRendezvousEqualsScan(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	for _, n := range []int{1, 2, 7} {
		s := specs(n)
		slices.Reverse(s)
		var names []string
		var weights []int
		for i := range s {
			s[i].Weight = 1 + rnd.IntN(100)
			names = append(names, s[i].Endpoint.String())
			weights = append(weights, s[i].Weight)
		}
		want, times := plainRendezvous(names, weights)
		for slot, name := range table(newPool(t, "hrw", s)) {
			if name != names[want[slot]] {
				t.Fatalf("weights %v: slot %d belongs to %s, want %s, at %v", weights, slot, name, names[want[slot]], times[slot])
			}
		}
	}
}

// TestRendezvousExtremes: weights as far apart as can be, and more backends than a block
// has slots.
func TestRendezvousExtremes(t *testing.T) {
	t.Parallel()
	for _, s := range [][]Spec{weighing(maxWeight, 1), weighing(maxWeight, maxWeight, 1), specs(3000)} {
		for _, name := range table(newPool(t, "hrw", s)) {
			if name == "" {
				t.Fatal("a slot without a backend")
			}
		}
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	logs := newLogTable()
	check := func(x uint32) {
		got, want := logs.pause(x), -math.Log((float64(x)+0.5)/(1<<32))
		if math.Abs(got-want) > 1e-10*max(want, 1) || got <= 0 {
			t.Fatalf("pause of %#x is %v, want %v", x, got, want)
		}
	}
	for shift := range 32 {
		check(1 << shift)
		check(1<<shift - 1)
		check(math.MaxUint32 - 1<<shift + 1)
	}
	for range 100_000 {
		check(rnd.Uint32())
	}
}
