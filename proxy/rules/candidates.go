package rules

import (
	"math"
	"math/bits"
	"slices"
)

const (
	// mostDimensions is how many vectors are intersected at most; see index.
	mostDimensions = 5
	// mostRegions is how many regions an index has at most.
	mostRegions = 8
	noStep      = math.MaxInt32
)

// candidates are the steps that are in one vector of each dimension, in order. In vectors
// they have other positions, by region; see layout.
type candidates struct {
	*index
	of    [mostDimensions]uint32
	count int

	heads     [mostRegions]int32 // the first candidate of each region that is not behind
	positions [mostRegions]int32 // after it

	page  int                   // whose nodes are there, from one
	nodes [mostDimensions]*page // of each vector
	some  uint16                // the blocks that none of them lacks
	block int                   // whose bits are there, from one
	bits  block
}

func (c *candidates) add(vector uint32) {
	c.of[c.count] = vector
	c.count++
}

// start makes ready for next, when all vectors are there.
func (c *candidates) start() {
	for i, r := range c.regions {
		c.heads[i], c.positions[i] = -1, r.first
	}
}

// next returns the first candidate from a step on, or noStep. The step is never before that
// of the last call.
func (c *candidates) next(from int) int {
	first := int32(noStep)
	for i := range c.regions {
		if int(c.heads[i]) < from {
			c.advance(i, int32(from))
		}
		first = min(first, c.heads[i])
	}
	return int(first)
}

// advance moves the head of a region to a step or after it.
func (c *candidates) advance(region int, from int32) {
	at, end := c.positions[region], c.regions[region].end
	if at < end && c.steps[at] < from {
		skip, _ := slices.BinarySearch(c.steps[at:end], from)
		at += int32(skip)
	}
	at = c.nextPosition(at, end)
	c.heads[region], c.positions[region] = noStep, end
	if at < end {
		c.heads[region], c.positions[region] = c.steps[at], at+1
	}
}

// nextPosition returns the first position within bounds that is in all vectors, or the end.
func (c *candidates) nextPosition(from, end int32) int32 {
	for from < end {
		at := int(from / blockBits)
		if at+1 != c.block {
			if at/pageBlocks+1 != c.page {
				c.open(at / pageBlocks)
			}
			if skip := bits.TrailingZeros16(c.some >> (at % pageBlocks)); skip > 0 {
				from = int32(at+min(skip, pageBlocks-at%pageBlocks)) * blockBits
				continue
			}
			c.intersect(at)
		}
		mask := ^uint64(0) << (from % 64)
		for word := from % blockBits / 64; word < blockWords; word++ {
			if left := c.bits[word] & mask; left != 0 {
				return min(int32(at)*blockBits+word*64+int32(bits.TrailingZeros64(left)), end)
			}
			mask = ^uint64(0)
		}
		from = int32(at+1) * blockBits
	}
	return end
}

// open looks up a page of each vector.
func (c *candidates) open(number int) {
	c.page = number + 1
	c.some = ^uint16(0)
	for i, v := range c.of[:c.count] {
		n := &c.vectors.pages[c.vectors.roots[int(v)*c.vectors.pagesEach+number]]
		c.nodes[i] = n
		c.some &= n.some
	}
}

// intersect looks up a block of each vector, of the page that is open.
func (c *candidates) intersect(number int) {
	c.block = number + 1
	all, n := c.vectors.blocks, number%pageBlocks
	c.bits = all[c.nodes[0].blocks[n]]
	for _, node := range c.nodes[1:c.count] {
		b := &all[node.blocks[n]]
		for i := range c.bits {
			c.bits[i] &= b[i]
		}
	}
}
