package balancer

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestFairShares(t *testing.T) {
	t.Parallel()
	const no = math.MaxUint64
	for _, test := range []struct {
		name  string
		loads []sharing // flows, weight, most
		want  []uint64
	}{
		{"none", nil, []uint64{}},
		{"even", []sharing{{10, 1, no}, {0, 1, no}}, []uint64{5, 5}},
		{"rounded up", []sharing{{3, 1, no}, {0, 1, no}}, []uint64{2, 2}},
		{"by weight", []sharing{{0, 3, no}, {8, 1, no}}, []uint64{6, 2}},
		{"one is full", []sharing{{0, 1, 2}, {10, 1, no}}, []uint64{2, 8}},
		{"two are full", []sharing{{0, 1, no}, {12, 1, 1}, {0, 2, 3}}, []uint64{8, 1, 3}},
		{"all are full", []sharing{{10, 1, 3}, {10, 1, 4}}, []uint64{3, 4}},
		{"quiesced", []sharing{{4, 0, no}, {4, 1, no}}, []uint64{0, 8}},
		{"heavy", []sharing{{1 << 40, topWeight, no}, {0, topWeight, no}}, []uint64{1 << 39, 1 << 39}},
	} {
		if got := fairShares(test.loads); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// TestFairSharesHoldAll: whatever the weights and limits, there is room for every flow that
// the limits allow, and nobody has more than its part of what the limited ones leave.
func TestFairSharesHoldAll(t *testing.T) {
	t.Parallel()
	random := newRand(t)
	for range 20_000 {
		loads := make([]sharing, 1+random.IntN(8))
		flows, room := uint64(0), uint64(0)
		for i := range loads {
			l := &loads[i]
			*l = sharing{random.Uint64N(100), 1 + random.Uint64N(9), 1000}
			if random.IntN(2) == 0 {
				l.most = random.Uint64N(50)
			}
			flows += l.flows
			room += l.most
		}
		shares := fairShares(loads)
		sum, least := uint64(0), uint64(math.MaxUint64) // the least a unit of weight gets
		for i, s := range shares {
			if s > loads[i].most {
				t.Fatalf("%+v: share %d is %d", loads, i, s)
			}
			if sum += s; s < loads[i].most {
				least = min(least, (s+loads[i].weight-1)/loads[i].weight)
			}
		}
		if sum < min(flows, room) || sum > flows+uint64(len(loads)) {
			t.Fatalf("%+v: %d of %d flows are shared out: %v", loads, sum, flows, shares)
		}
		for i, s := range shares {
			if s > loads[i].weight*least {
				t.Fatalf("%+v: share %d of %v is more than by weight", loads, i, shares)
			}
		}
	}
}

func TestSurplus(t *testing.T) {
	t.Parallel()
	for _, a := range Algorithms() {
		o := Options{Scheduler: a.Name, Random: rand.Uint64}
		p, err := NewPool(o)
		if err != nil {
			t.Fatal(err)
		}
		all := specs(4)
		for i := range all {
			all[i].Weight, all[i].Check = 1, Up
		}
		all[0].Weight, all[3].Admin = 3, Drain
		only := slices.Clone(all)
		for i := range only {
			only[i].Admin = Maint
		}
		only[1].Admin = Ready
		p.Update(only, 0)
		for range 10 {
			p.Acquire(Flow{}, nil)
		}
		p.Update(all, 0)
		surplus, err := p.Surplus()
		switch hasShares := !a.Hashes && !a.Destination && a.Name != "fo" && a.Name != "ovf"; {
		case !hasShares:
			if err == nil || !strings.HasPrefix(err.Error(), "scheduler "+a.Name) {
				t.Errorf("%s: %v, %v", a.Name, surplus, err)
			}
		case a.Weighs:
			if len(surplus) != 1 || surplus[0] != (Surplus{p.Backends()[1], 8}) || err != nil {
				t.Errorf("%s: %v, %v; want 8 of 10 too many for weight 1 of 5", a.Name, surplus, err)
			}
		default:
			if len(surplus) != 1 || surplus[0] != (Surplus{p.Backends()[1], 6}) || err != nil {
				t.Errorf("%s: %v, %v; want 6 of 10 too many for one of 3", a.Name, surplus, err)
			}
		}
	}
}
