package rules

import (
	"cmp"
	"slices"
)

// vectors are sets of small numbers, as bit vectors in trees of two levels. Most are
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
	blockBits  = 64 * blockWords
	pageBits   = blockBits * pageBlocks
)

// page is a run of blocks. The first page and the first block of vectors are empty.
type page struct {
	blocks [pageBlocks]uint32
	some   uint16 // the blocks that are not empty
}

type block [blockWords]uint64

// change sets or clears a bit.
type change struct {
	bit int32
	set bool
}

// newVectors returns vectors with an empty one, whose number is zero.
func newVectors(bits int) *vectors {
	each := (bits + pageBits - 1) / pageBits
	return &vectors{pagesEach: each, roots: make([]uint32, each), pages: make([]page, 1), blocks: make([]block, 1)}
}

// derive adds a vector that differs from another one. Of several changes of a bit the last
// one counts.
func (x *vectors) derive(from uint32, changes []change) uint32 {
	if len(changes) == 0 {
		return from
	}
	slices.SortStableFunc(changes, func(a, b change) int { return cmp.Compare(a.bit, b.bit) })
	at := len(x.roots)
	before := int(from) * x.pagesEach
	x.roots = append(x.roots, x.roots[before:before+x.pagesEach]...)
	root := x.roots[at:]
	for len(changes) > 0 {
		n := changes[0].bit / pageBits
		var run []change
		run, changes = cutRun(changes, pageBits)
		root[n] = x.derivePage(root[n], run)
	}
	return uint32(at / x.pagesEach)
}

// cutRun cuts off the changes that are in the same part of so many bits as the first one.
func cutRun(changes []change, bits int32) (run, rest []change) {
	n := 1
	for n < len(changes) && changes[n].bit/bits == changes[0].bit/bits {
		n++
	}
	return changes[:n], changes[n:]
}

func (x *vectors) derivePage(from uint32, changes []change) uint32 {
	p := x.pages[from]
	for len(changes) > 0 {
		n := changes[0].bit / blockBits % pageBlocks
		var run []change
		run, changes = cutRun(changes, blockBits)
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
		word, mask := &b[c.bit/64%blockWords], uint64(1)<<(c.bit%64)
		*word &^= mask
		if c.set {
			*word |= mask
		}
	}
	if b == (block{}) {
		return 0
	}
	x.blocks = append(x.blocks, b)
	return uint32(len(x.blocks) - 1)
}
