package balancer

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"testing"
)

// membersOfWeights makes members of the weights, the first one the oldest.
func membersOfWeights(weights ...int) []member {
	members := make([]member, len(weights))
	for i, w := range weights {
		members[i] = member{Backend: &Backend{id: uint32(i + 1)}, weight: w}
	}
	return members
}

func randomWeights(rnd *rand.Rand, most int) []int {
	weights := make([]int, 1+rnd.IntN(60))
	for i := range weights {
		weights[i] = 1 + rnd.IntN(most)
	}
	return weights
}

// checkCells adds up all cells of the table: each column is total high.
func checkCells(t *testing.T, members []member) {
	t.Helper()
	table := newAliasTable(members)
	got := make([]uint64, len(members))
	for i, l := range table.columns {
		if l.backend != members[i].Backend || l.cut > table.total {
			t.Fatalf("row %d is %+v, of total %d", i, l, table.total)
		}
		got[i] += l.cut
		got[l.alias] += table.total - l.cut
	}
	for i, m := range members {
		if want := uint64(m.weight) * uint64(len(members)); got[i] != want {
			t.Errorf("weight %d of %d has %d cells, want %d", m.weight, table.total, got[i], want)
		}
	}
}

func TestAliasCells(t *testing.T) {
	t.Parallel()
	const most = min(maxWeight*fullShare, math.MaxInt)
	for _, weights := range [][]int{
		{1}, {7}, {1, 1}, {1, 2}, {3, 1}, {1, 2, 3}, {5, 5, 5, 5}, {1, 1, 1, 97},
		{most}, {most, 1}, {1, most, most}, {most, most, most, most - 1},
	} {
		checkCells(t, membersOfWeights(weights...))
	}
	rnd := newRand(t)
	for range 500 {
		checkCells(t, membersOfWeights(randomWeights(rnd, []int{2, 100, most}[rnd.IntN(3)])...))
	}
}

// TestAliasDraw draws the number in the middle of every cell once.
func TestAliasDraw(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	for range 50 {
		members := membersOfWeights(randomWeights(rnd, 20)...)
		table := newAliasTable(members)
		n := uint64(len(members))
		cells := n * table.total
		got := make(map[*Backend]int)
		for cell := range cells {
			r, _ := bits.Div64(cell, 1<<63, cells) // (cell + 1/2) / cells * 2^64
			got[table.draw(r).backend]++
		}
		for _, m := range members {
			if got[m.Backend] != m.weight*int(n) {
				t.Errorf("weight %d of %d was drawn %d times in %d", m.weight, table.total, got[m.Backend], cells)
			}
		}
	}
	for _, r := range []uint64{0, 1, 1 << 63, ^uint64(0)} {
		newAliasTable(membersOfWeights(1, min(maxWeight*fullShare, math.MaxInt), 3)).draw(r)
		newCumulativeTable(membersOfWeights(1, maxWeight, 3)).draw(r)
	}
}

// kernelWalk is the kernel's loop over its list, which begins with the newest.
func kernelWalk(members []member, draw int) *Backend {
	for i := len(members) - 1; i >= 0; i-- {
		if draw -= members[i].weight; draw <= 0 {
			return members[i].Backend
		}
	}
	return nil
}

// TestKernelDrawEqualsWalk goes through all numbers that the kernel can draw, by the
// first and the last of the 64-bit numbers that stand for each.
func TestKernelDrawEqualsWalk(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	for range 100 {
		members := membersOfWeights(randomWeights(rnd, 50)...)
		shuffled := append([]member(nil), members...)
		rnd.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		table := newCumulativeTable(shuffled)
		count := make(map[*Backend]int)
		for draw := range table.total + 1 {
			first, _ := bits.Div64(draw, table.total, table.total+1) // rounded up
			last := ^uint64(0)
			if draw < table.total {
				last, _ = bits.Div64(draw+1, table.total, table.total+1)
				last--
			}
			want := kernelWalk(members, int(draw))
			count[want]++
			for _, r := range []uint64{first, last} {
				if got := table.draw(r).backend; got != want {
					t.Fatalf("draw %d of %d: %d, want %d", draw, table.total, got.id, want.id)
				}
			}
		}
		for i, m := range members {
			want := m.weight
			if i == len(members)-1 {
				want++
			}
			if count[m.Backend] != want {
				t.Errorf("member %d of %d with weight %d has %d draws", i, len(members), m.weight, count[m.Backend])
			}
		}
	}
}

// TestTwoChoicesMostLoaded: two choices leave the most loaded of many backends close to
// the mean, one does not.
func TestTwoChoicesMostLoaded(t *testing.T) {
	t.Parallel()
	ofOneGoroutine(t)
	for _, o := range []Options{{Scheduler: "twos"}, {Scheduler: "twos", Flags: []string{IPVS}}, {Scheduler: "p2c"}, {Scheduler: "ewma"}} {
		const n, mean = 1000, 100
		rnd := newRand(t)
		o.Random = rnd.Uint64
		p := poolOf(t, o, specs(n))
		picks(p, n*mean)
		most := int64(0)
		for _, b := range p.Backends() {
			most = max(most, b.Active())
		}
		one, table, mostOfOne := make(map[*Backend]int64), newAliasTable(membersOf(p)), int64(0)
		for range n * mean {
			b := table.draw(rnd.Uint64()).backend
			one[b]++
			mostOfOne = max(mostOfOne, one[b])
		}
		if most > mean+8 || mostOfOne < mean+20 {
			t.Errorf("%s: the most loaded has %d flows with two draws and %d with one, of %d", formOf(o), most, mostOfOne, mean)
		}
	}
}
