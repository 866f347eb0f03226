package conntrack

import (
	"hash/maphash"
	"unsafe"
)

// hashIndex finds slots by hash. The caller compares the keys.
//
// It is a chained hash table that grows by linear hashing (Litwin, "Linear hashing",
// VLDB 1980). It has as many buckets as there ever were members. An insertion beyond
// that adds one bucket and splits one chain; each bucket splits once per doubling.
// So no insertion does more than split one short chain and allocate one chunk.
//
// Chains stay short because nobody who chooses keys knows the seed.
type hashIndex struct {
	seed    maphash.Seed
	heads   []*[chunkSlots]ID       // of each bucket's chain, or none
	links   []*[chunkSlots]hashLink // by member
	buckets uint32
	mask    uint32 // the least 2^n-1 that covers all bucket numbers
	members uint32
}

type hashLink struct {
	hash uint32
	next ID // in its chain, or none
}

// indexBytes is the memory of a member: its link and one bucket.
const indexBytes = unsafe.Sizeof(hashLink{}) + unsafe.Sizeof(ID(0))

// newHashIndex returns an index that may grow to so many chunks of members.
func newHashIndex(chunks int) hashIndex {
	x := hashIndex{
		seed:    maphash.MakeSeed(),
		heads:   make([]*[chunkSlots]ID, 0, max(chunks, 1)),
		links:   make([]*[chunkSlots]hashLink, 0, chunks),
		buckets: chunkSlots,
		mask:    chunkSlots - 1,
	}
	x.addHeads()
	return x
}

// grow makes room for one more chunk of members.
func (x *hashIndex) grow() { x.links = append(x.links, new([chunkSlots]hashLink)) }

func (x *hashIndex) addHeads() {
	heads := new([chunkSlots]ID)
	for i := range heads {
		heads[i] = none
	}
	x.heads = append(x.heads, heads)
}

func (x *hashIndex) link(id ID) *hashLink { return &x.links[id/chunkSlots][id%chunkSlots] }

func (x *hashIndex) head(bucket uint32) *ID { return &x.heads[bucket/chunkSlots][bucket%chunkSlots] }

// bucket returns the bucket of a hash. The members of a bucket that does not exist yet
// are in the one that will be split for it.
func (x *hashIndex) bucket(hash uint32) uint32 {
	b := hash & x.mask
	if b >= x.buckets {
		b &= x.mask >> 1
	}
	return b
}

// insert adds a member in front of those with the same hash.
func (x *hashIndex) insert(id ID, hash uint32) {
	if x.members == x.buckets {
		x.split()
	}
	x.members++
	head := x.head(x.bucket(hash))
	*x.link(id) = hashLink{hash, *head}
	*head = id
}

func (x *hashIndex) remove(id ID) {
	l := x.link(id)
	at := x.head(x.bucket(l.hash))
	for *at != id {
		at = &x.link(*at).next
	}
	*at = l.next
	x.members--
}

// first returns the member with a hash that was inserted last, or none.
func (x *hashIndex) first(hash uint32) ID { return x.match(*x.head(x.bucket(hash)), hash) }

// after returns the member with the same hash inserted before id, or none.
func (x *hashIndex) after(id ID) ID {
	l := x.link(id)
	return x.match(l.next, l.hash)
}

// match returns the first member with a hash from id on in its chain, or none.
func (x *hashIndex) match(id ID, hash uint32) ID {
	for id != none {
		l := x.link(id)
		if l.hash == hash {
			break
		}
		id = l.next
	}
	return id
}

// split adds a bucket and moves its members there. Both chains keep their order.
func (x *hashIndex) split() {
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
