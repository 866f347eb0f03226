package rules

import (
	"cmp"
	"math/bits"
	"slices"
)

// vectors are sets of the steps of a program, as bit vectors in trees of two levels. Most are
// derived from another one and share all blocks and pages in which nothing changed. So
// a vector costs a word for each page, and a page and a block for each run of changes.
//
// The levels say where nothing is set, so that an intersection skips it: aggregated bit
// vectors (Baboescu and Varghese, SIGCOMM 2001).
type vectors struct {
	pagesEach int      // pages of a vector
	roots     []uint32 // the pages of all vectors, one vector after the other
	pages     []page
	blocks    []block
}

const (
	blockWords = 8
	pageBlocks = 16
	blockSteps = 64 * blockWords
	pageSteps  = blockSteps * pageBlocks
)

// page is a run of blocks. The first page and the first block of vectors are empty.
type page struct {
	blocks [pageBlocks]uint32
	some   uint16 // the blocks that are not empty
}

type block [blockWords]uint64

// change sets or clears the bit of a step.
type change struct {
	step int32
	set  bool
}

// newVectors returns vectors with an empty one, whose number is zero.
func newVectors(steps int) *vectors {
	each := (steps + pageSteps - 1) / pageSteps
	return &vectors{pagesEach: each, roots: make([]uint32, each), pages: make([]page, 1), blocks: make([]block, 1)}
}

// derive adds a vector that differs from another one. Of several changes of a step the last
// one counts.
func (x *vectors) derive(from uint32, changes []change) uint32 {
	if len(changes) == 0 {
		return from
	}
	slices.SortStableFunc(changes, func(a, b change) int { return cmp.Compare(a.step, b.step) })
	at := len(x.roots)
	before := int(from) * x.pagesEach
	x.roots = append(x.roots, x.roots[before:before+x.pagesEach]...)
	root := x.roots[at:]
	for len(changes) > 0 {
		n := changes[0].step / pageSteps
		var run []change
		run, changes = cutRun(changes, pageSteps)
		root[n] = x.derivePage(root[n], run)
	}
	return uint32(at / x.pagesEach)
}

// cutRun cuts off the changes that are in the same part of so many steps as the first one.
func cutRun(changes []change, steps int32) (run, rest []change) {
	n := 1
	for n < len(changes) && changes[n].step/steps == changes[0].step/steps {
		n++
	}
	return changes[:n], changes[n:]
}

func (x *vectors) derivePage(from uint32, changes []change) uint32 {
	p := x.pages[from]
	for len(changes) > 0 {
		n := changes[0].step / blockSteps % pageBlocks
		var run []change
		run, changes = cutRun(changes, blockSteps)
		p.blocks[n] = x.deriveBlock(p.blocks[n], run)
		p.some &^= 1 << n
		if p.blocks[n] != 0 {
			p.some |= 1 << n
		}
	}
	if p.some == 0 {
		return 0
	}
	x.pages = append(x.pages, p)
	return uint32(len(x.pages) - 1)
}

func (x *vectors) deriveBlock(from uint32, changes []change) uint32 {
	b := x.blocks[from]
	for _, c := range changes {
		word, bit := &b[c.step/64%blockWords], uint64(1)<<(c.step%64)
		*word &^= bit
		if c.set {
			*word |= bit
		}
	}
	if b == (block{}) {
		return 0
	}
	x.blocks = append(x.blocks, b)
	return uint32(len(x.blocks) - 1)
}

// mostDimensions is how many vectors are intersected at most; see index.
const mostDimensions = 5

// candidates are the steps that are in one vector of each dimension, in order.
type candidates struct {
	vectors *vectors
	of      [mostDimensions]uint32
	count   int

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

// next returns the first candidate from a step on, or -1.
func (c *candidates) next(from int) int {
	for at := from / blockSteps; at < c.vectors.pagesEach*pageBlocks; at, from = at+1, 0 {
		if at+1 != c.block {
			number, n := at/pageBlocks, at%pageBlocks
			if number+1 != c.page {
				c.open(number)
			}
			skip := bits.TrailingZeros16(c.some >> n)
			if skip > 0 {
				at += min(skip, pageBlocks-n) - 1
				continue
			}
			c.intersect(at)
		}
		word, mask := from%blockSteps/64, ^uint64(0)<<(from%64)
		for ; word < blockWords; word, mask = word+1, ^uint64(0) {
			if left := c.bits[word] & mask; left != 0 {
				return at*blockSteps + word*64 + bits.TrailingZeros64(left)
			}
		}
	}
	return -1
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
