package balancer

import (
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// table returns the backend of each slot by name.
func table(p *Pool) []string {
	t := schedulerOf(p).(*hashing).table.Load()
	names := make([]string, len(t.slots))
	for i, at := range t.slots {
		names[i] = t.backends[at].String()
	}
	return names
}

func TestMaglevBalance(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	for _, tt := range []struct {
		n      int
		weight func() int
	}{
		{1, nil},
		{3, nil},
		{100, nil},
		{1000, nil},
		{10, func() int { return 1 + rnd.IntN(100) }},
		{100, func() int { return 1 + rnd.IntN(100) }},
		{2, func() int { return 1 + rnd.IntN(maxWeight) }},
	} {
		s, total := specs(tt.n), 0
		for i := range s {
			if tt.weight != nil {
				s[i].Weight = tt.weight()
			}
			total += s[i].Weight
		}
		slots := map[string]int{}
		for _, name := range table(newPool(t, "mh", s)) {
			slots[name]++
		}
		for _, spec := range s {
			// A backend's last turn can be one early or late; the first one of each
			// is free, which costs the others at most one slot in n.
			got := slots[spec.Endpoint.String()]
			want := float64(maglevSize) * float64(spec.Weight) / float64(total)
			slack := 1 + float64(tt.n)*float64(spec.Weight)/float64(total)
			if d := float64(got) - want; d > slack || d < -slack {
				t.Errorf("%d backends: weight %d of %d has %d slots, want %.1f", tt.n, spec.Weight, total, got, want)
			}
		}
	}
}

// TestMaglevMoreBackendsThanSlots must still serve every client.
func TestMaglevMoreBackendsThanSlots(t *testing.T) {
	t.Parallel()
	ofOneGoroutine(t)
	p := newPool(t, "mh", specs(maglevSize+100))
	if got := picks(p, 1000)[nil]; got != 0 {
		t.Errorf("%d of 1000 clients got no backend", got)
	}
}

// paperMaglev fills the table as the pseudocode of the paper does, from whole
// permutations. Names are in order. A scan finds whose turn it is by weight.
func paperMaglev(names []string, weights []int) []string {
	const m = 65537
	permutations := make([][]int, len(names))
	for i, name := range names {
		h1, h2 := xxhash.NewWithSeed(1), xxhash.NewWithSeed(2)
		h1.WriteString(name)
		h2.WriteString(name)
		offset, skip := h1.Sum64()%m, h2.Sum64()%(m-1)+1
		permutations[i] = make([]int, m)
		for j := range permutations[i] {
			permutations[i][j] = int((offset + uint64(j)*skip) % m)
		}
	}
	next, taken := make([]int, len(names)), make([]int, len(names))
	entry := make([]string, m)
	for range m {
		i := 0
		for k := range names {
			due, least := taken[k]*weights[i], taken[i]*weights[k]
			if due < least || due == least && weights[k] > weights[i] {
				i = k
			}
		}
		for entry[permutations[i][next[i]]] != "" {
			next[i]++
		}
		entry[permutations[i][next[i]]] = names[i]
		taken[i]++
	}
	return entry
}

// TestMaglevEqualsPaper with equal weights, which is the plain round, and with others.
func TestMaglevEqualsPaper(t *testing.T) {
	t.Parallel()
	ofOneGoroutine(t)
	rnd := newRand(t)
	for _, most := range []int{1, 100} {
		for _, n := range []int{1, 2, 3 + rnd.IntN(10), 20} {
			s := specs(n)
			for i := range s {
				s[i].Weight = 1 + rnd.IntN(most)
			}
			p := newPool(t, "mh", s)
			slices.SortFunc(s, func(a, b Spec) int { return strings.Compare(a.Endpoint.String(), b.Endpoint.String()) })
			var names []string
			var weights []int
			for _, spec := range s {
				names, weights = append(names, spec.Endpoint.String()), append(weights, spec.Weight)
			}
			if !slices.Equal(table(p), paperMaglev(names, weights)) {
				t.Errorf("table of weights %v is not the paper's", weights)
			}
		}
	}
}
