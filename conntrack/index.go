package conntrack

import (
	"hash/maphash"
	"unsafe"
)

// index finds members by the hash of what they are known by. A member is the
// number of a slot in an array of its user's, who compares the rest.
//
// It is a hash table with chains that grows by linear hashing (Litwin, 1980).
// There are as many buckets as there ever were members at once. One member more
// than that adds one bucket, which takes its share of the chain of one other;
// the buckets split in turn, all of them once until their number has doubled.
// So growth is paid one short chain at a time, by the insertion that causes it:
// no insertion, not the millionth either, moves or clears more than that and one
// chunk of buckets.
//
// Chains are short because nobody who chooses the members knows the seed.
type index struct {
	seed    maphash.Seed
	heads   []*[chunkSlots]ID   // of each bucket's chain, or none
	links   []*[chunkSlots]link // by member
	buckets uint32
	mask    uint32 // the least 2^n-1 that masks the number of each bucket
	members uint32
}

type link struct {
	hash uint32
	next ID // in its chain, or none
}

// indexBytes is what an index costs a member: its link and one bucket.
const indexBytes = unsafe.Sizeof(link{}) + unsafe.Sizeof(ID(0))

// newIndex returns an index for members in so many chunks.
func newIndex(chunks int) index {
	x := index{
		seed:    maphash.MakeSeed(),
		heads:   make([]*[chunkSlots]ID, 0, max(chunks, 1)),
		links:   make([]*[chunkSlots]link, 0, chunks),
		buckets: chunkSlots,
		mask:    chunkSlots - 1,
	}
	x.addHeads()
	return x
}

// grow makes room for the members of one more chunk.
func (x *index) grow() { x.links = append(x.links, new([chunkSlots]link)) }

func (x *index) addHeads() {
	heads := new([chunkSlots]ID)
	for i := range heads {
		heads[i] = none
	}
	x.heads = append(x.heads, heads)
}

func (x *index) link(id ID) *link { return &x.links[id/chunkSlots][id%chunkSlots] }

func (x *index) head(bucket uint32) *ID { return &x.heads[bucket/chunkSlots][bucket%chunkSlots] }

// bucket returns the bucket of a hash. One that is still to come has its members
// in the bucket that will be split for it.
func (x *index) bucket(hash uint32) uint32 {
	b := hash & x.mask
	if b >= x.buckets {
		b &= x.mask >> 1
	}
	return b
}

// insert adds a member in front of those of the same hash.
func (x *index) insert(id ID, hash uint32) {
	if x.members == x.buckets {
		x.split()
	}
	x.members++
	head := x.head(x.bucket(hash))
	*x.link(id) = link{hash, *head}
	*head = id
}

// remove takes out a member.
func (x *index) remove(id ID) {
	l := x.link(id)
	at := x.head(x.bucket(l.hash))
	for *at != id {
		at = &x.link(*at).next
	}
	*at = l.next
	x.members--
}

// first returns the member of a hash that was inserted last, or none.
func (x *index) first(hash uint32) ID { return x.match(*x.head(x.bucket(hash)), hash) }

// after returns the member of the same hash that was inserted before id, or none.
func (x *index) after(id ID) ID {
	l := x.link(id)
	return x.match(l.next, l.hash)
}

// match returns the first member of a hash from id on in its chain, or none.
func (x *index) match(id ID, hash uint32) ID {
	for id != none {
		l := x.link(id)
		if l.hash == hash {
			break
		}
		id = l.next
	}
	return id
}

// split adds a bucket and moves there what belongs to it. Both chains keep their
// order.
func (x *index) split() {
	added := x.buckets
	if added%chunkSlots == 0 {
		x.addHeads()
	}
	if added > x.mask {
		x.mask = x.mask<<1 | 1
	}
	x.buckets++
	stay, move := x.head(added&(x.mask>>1)), x.head(added)
	for id := *stay; id != none; {
		l := x.link(id)
		if l.hash&x.mask == added {
			*move, move = id, &l.next
		} else {
			*stay, stay = id, &l.next
		}
		id = l.next
	}
	*stay, *move = none, none
}
