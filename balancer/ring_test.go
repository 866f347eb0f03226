package balancer

import (
	"cmp"
	"slices"
	"strings"
	"testing"
)

// plainRing is the ring as a sorted list of points, searched in line.
type plainRing []struct {
	place uint32
	name  string
}

func newPlainRing(s []Spec, halvings int) plainRing {
	var r plainRing
	for _, spec := range s {
		name := spec.Endpoint.String()
		for k := range uint64(max(spec.Weight*128>>halvings, 1)) {
			r = append(r, struct {
				place uint32
				name  string
			}{uint32(draw(hashName(name, 3), k) >> 32), name})
		}
	}
	slices.SortFunc(r, func(x, y struct {
		place uint32
		name  string
	}) int {
		return cmp.Or(cmp.Compare(x.place, y.place), strings.Compare(x.name, y.name))
	})
	return r
}

func (r plainRing) at(h uint64) string {
	for _, p := range r {
		if p.place >= uint32(h>>32) {
			return p.name
		}
	}
	return r[0].name
}

func TestRingEqualsList(t *testing.T) {
	t.Parallel()
	ofOneGoroutine(t)
	rnd := newRand(t)
	for _, n := range []int{1, 2, 7, 60} {
		s := specs(n)
		for i := range s {
			s[i].Weight = 1 + rnd.IntN(5)
		}
		plain := newPlainRing(s, 0)
		ring := schedulerOf(newPool(t, "ring", s)).(*hashing).table.Load()
		hashes := []uint64{0, 1, 1<<32 - 1, 1 << 32, 1<<64 - 1}
		for _, p := range plain {
			hashes = append(hashes, uint64(p.place)<<32, uint64(p.place+1)<<32, uint64(p.place)<<32-1)
		}
		for range 500 {
			hashes = append(hashes, rnd.Uint64())
		}
		for range min(len(hashes), 2000) {
			h := hashes[rnd.IntN(len(hashes))]
			if got, want := ring.backends[ring.slots[ring.slot(h)]].String(), plain.at(h); got != want {
				t.Fatalf("%d backends: %#x belongs to %s, want %s", n, h, got, want)
			}
		}
	}
}

// TestRingSuccessor: a flow that has tried its backend goes where it would go without it.
func TestRingSuccessor(t *testing.T) {
	t.Parallel()
	p, q := newPool(t, "ring", specs(20)), newPool(t, "ring", specs(20))
	setStatus(q, q.Backends()[5], Down)
	var tried Tried
	tried.Add(p.Backends()[5])
	for i := range 5000 {
		if a, b := acquire(p, client(i), &tried), acquire(q, client(i), nil); a.String() != b.String() {
			t.Fatalf("client %d goes on to %v, and to %v when its backend is down", i, a, b)
		}
	}
}

// TestRingBound: many points are halved until they fit.
func TestRingBound(t *testing.T) {
	t.Parallel()
	ofOneGoroutine(t)
	for _, weights := range [][]int{
		{1}, {8192}, {8193}, {maxWeight, 1, 1}, {100, 5000, 3000, 2000},
	} {
		s := weighing(weights...)
		total := 0
		for _, w := range weights {
			total += w * ringPoints
		}
		halvings := 0
		for total>>halvings > ringMax {
			halvings++
		}
		table := schedulerOf(newPool(t, "ring", s)).(*hashing).table.Load()
		counts := make([]int, len(weights))
		for _, i := range table.slots {
			counts[i]++
		}
		for i, w := range weights {
			if want := max(w*ringPoints>>halvings, 1); counts[i] != want { // specs are in order of name
				t.Errorf("weights %v: the %d-th has %d points, want %d", weights, i, counts[i], want)
			}
		}
		if len(table.slots) > ringMax+len(weights) {
			t.Errorf("weights %v: %d points", weights, len(table.slots))
		}
		if !slices.IsSorted(table.ring.places) {
			t.Errorf("weights %v: points are not in order", weights)
		}
	}
}
