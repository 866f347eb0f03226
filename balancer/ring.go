package balancer

import (
	"cmp"
	"math/bits"
	"slices"
)

const (
	// ringPoints is the number of points per weight: shares of backends of weight 1
	// deviate by 1/sqrt(128), 9 %, those of weight 100 by 1 %.
	ringPoints = 128
	// ringMax bounds the points of all. Weights that would give more are halved until
	// they do not; but each backend has one point at least.
	ringMax = 1 << 20
)

// ringIndex finds the point of a hash. Points are places on a circle of 2^32; a hash
// belongs to the first point at or after it.
type ringIndex struct {
	places []uint32 // in order; hashTable.slots has their backends
	// starts has for each value of a place's top bits where the first point with
	// it, or with a greater one, is in places. A value has two to four points on
	// average: passing those costs less than what a longer index adds in cache misses.
	starts []uint32
	shift  uint8 // of a 64-bit hash, to its top bits
}

func (r *ringIndex) point(h uint64) uint64 {
	place := uint32(h >> 32)
	i := uint64(r.starts[h>>r.shift])
	for i < uint64(len(r.places)) && r.places[i] < place {
		i++
	}
	if i == uint64(len(r.places)) {
		return 0
	}
	return i
}

// newRing places the points of each backend by its name and weight alone, the first n
// of one endless sequence: so a backend that comes or goes, or gets another weight,
// moves no flow between two others. The exception is a change that takes the weights
// over the next power of two of ringMax, which adds or drops every other point.
func newRing(members []member) *hashTable {
	members = slices.Clone(members)
	slices.SortFunc(members, func(x, y member) int { return cmp.Compare(x.name, y.name) })
	t := newHashTable(members)
	counts, total := ringCounts(members)

	// A point is its place and, below it, its backend, which comes by name where
	// places are equal.
	points := make([]uint64, 0, total)
	for i, m := range members {
		seed := hashName(m.name, ringSeed)
		for k := range counts[i] {
			points = append(points, draw(seed, k)>>32<<32|uint64(i))
		}
	}
	top := max(bits.Len(uint(total-1)), 1)
	points = sortPoints(points, top)

	index := max(top-2, 1)
	r := &ringIndex{
		places: make([]uint32, total),
		starts: make([]uint32, 1<<index),
		shift:  uint8(64 - index),
	}
	t.ring, t.slots = r, make([]int32, total)
	for i, p := range points {
		r.places[i], t.slots[i] = uint32(p>>32), int32(uint32(p))
	}
	i := 0
	for b := range r.starts {
		for i < len(points) && points[i]>>r.shift < uint64(b) {
			i++
		}
		r.starts[b] = uint32(i)
	}
	return t
}

// sortPoints sorts by radix, in two passes, as many top bits as tell most points apart,
// as places are spread evenly. What is left to do takes hardly a step a point.
func sortPoints(points []uint64, top int) []uint64 {
	spare := make([]uint64, len(points))
	low := top / 2
	for _, pass := range [...]struct{ shift, bits int }{{64 - top, low}, {64 - top + low, top - low}} {
		starts, mask := make([]int, 1<<pass.bits+1), uint64(1)<<pass.bits-1
		for _, p := range points {
			starts[p>>pass.shift&mask+1]++
		}
		for b := range mask {
			starts[b+1] += starts[b]
		}
		for _, p := range points {
			b := p >> pass.shift & mask
			spare[starts[b]] = p
			starts[b]++
		}
		points, spare = spare, points
	}
	for i := 1; i < len(points); i++ {
		p, j := points[i], i
		for ; j > 0 && points[j-1] > p; j-- {
			points[j] = points[j-1]
		}
		points[j] = p
	}
	return points
}

// ringCounts returns how many points each member has, and their sum.
func ringCounts(members []member) (counts []uint64, total uint64) {
	unit := uint64(1)
	for _, m := range members {
		if m.weight > m.turned {
			unit = fullShare // more counts of some than of others: weights are in hundredths
		}
	}
	counts = make([]uint64, len(members))
	for i, m := range members {
		counts[i] = uint64(m.weight) * ringPoints / unit
		total += counts[i]
	}
	halvings := 0
	for total>>halvings > ringMax {
		halvings++
	}
	total = 0
	for i := range counts {
		counts[i] = max(counts[i]>>halvings, 1)
		total += counts[i]
	}
	return counts, total
}

// draw returns the k-th number of the random sequence of a seed: the k-th output of
// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
// 2014), which is the same on all machines.
func draw(seed, k uint64) uint64 {
	x := seed + (k+1)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
