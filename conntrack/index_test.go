package conntrack

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestIndexAgainstMap drives an index and a map of lists with the same random
// operations, with hashes that are good and with hashes that meet all the time.
func TestIndexAgainstMap(t *testing.T) {
	t.Parallel()
	s := seed(t)
	for round, mask := range []uint32{1<<32 - 1, 0, 3, 0xffff_f000, 0x8000_03ff} {
		compareIndex(t, rand.New(rand.NewPCG(s, uint64(round))), mask)
		if t.Failed() {
			t.Fatalf("with hashes masked by %#x", mask)
		}
	}
}

func compareIndex(t *testing.T, random *rand.Rand, mask uint32) {
	const chunks = 3
	x := newIndex(chunks)
	for range chunks {
		x.grow()
	}
	free := make([]ID, chunks*chunkSlots) // in no order
	for i, id := range random.Perm(len(free)) {
		free[i] = ID(id)
	}
	model := make(map[uint32][]ID) // by hash, the one inserted last in front
	var members []ID

	every := 1
	if raceEnabled {
		every = 20
	}
	for step := range 2500 {
		// Mostly insertions until all are members, then mostly removals.
		if p := random.IntN(10); len(free) > 0 && (len(members) == 0 || (p < 8) == (step < 2000)) {
			id := free[len(free)-1]
			free = free[:len(free)-1]
			hash := random.Uint32() & mask
			buckets := x.buckets
			x.insert(id, hash)
			model[hash] = slices.Insert(model[hash], 0, id)
			members = append(members, id)
			if x.buckets > buckets+1 {
				t.Fatalf("one insertion made %d buckets", x.buckets-buckets)
			}
		} else {
			i := random.IntN(len(members))
			id := members[i]
			members = slices.Delete(members, i, i+1)
			hash := x.link(id).hash
			x.remove(id)
			model[hash] = slices.DeleteFunc(model[hash], func(m ID) bool { return m == id })
			free = append(free, id)
		}
		if step%every != 0 {
			continue
		}
		checkIndex(t, &x, len(members))
		if step%16 == 0 {
			for hash, want := range model {
				if got := found(&x, hash); !slices.Equal(got, want) {
					t.Fatalf("hash %#x: found %d, want %d", hash, got, want)
				}
			}
		}
		if hash := random.Uint32() & mask; len(model[hash]) == 0 && x.first(hash) != none {
			t.Fatalf("found %d of hash %#x, which has none", x.first(hash), hash)
		}
	}
	if x.buckets <= 2*chunkSlots {
		t.Errorf("%d buckets: the test does not double them", x.buckets)
	}
}

// found returns all members of a hash.
func found(x *index, hash uint32) (ids []ID) {
	for id := x.first(hash); id != none; id = x.after(id) {
		ids = append(ids, id)
	}
	return ids
}

// checkIndex checks that the index has so many members, each in the bucket where
// it belongs, and returns the longest chain.
func checkIndex(t *testing.T, x *index, members int) (longest int) {
	t.Helper()
	linked := 0
	for b := range x.buckets {
		chain := 0
		for id := *x.head(b); id != none; id = x.link(id).next {
			if got := x.bucket(x.link(id).hash); got != b {
				t.Fatalf("%d, of bucket %d, lies in bucket %d", id, got, b)
			}
			if chain++; linked+chain > members {
				t.Fatalf("more than %d members are linked", members)
			}
		}
		linked += chain
		longest = max(longest, chain)
	}
	if linked != members || int(x.members) != members {
		t.Fatalf("%d members are linked, %d counted, want %d", linked, x.members, members)
	}
	// As many buckets as there ever were members, in chunks, and no more.
	if int(x.buckets) < members || len(x.heads) != int(x.buckets+chunkSlots-1)/chunkSlots {
		t.Fatalf("%d buckets in %d chunks for %d members", x.buckets, len(x.heads), members)
	}
	if x.buckets-1 > x.mask || x.buckets-1 <= x.mask>>1 {
		t.Fatalf("%d buckets, mask %#x", x.buckets, x.mask)
	}
	return longest
}

// TestIndexGrowth: growth is bounded in each single insertion. A split touches one
// chain, so it is enough that an insertion splits once at most, that chains are
// short however many members there are, and that what is allocated is a chunk.
func TestIndexGrowth(t *testing.T) {
	t.Parallel()
	n := repeat(200_000)
	// A chain of the longest bucket has two members on average; one of more than
	// 24 would be a matter of 1 in 10^19 a bucket.
	const longest = 24
	chunks := (n + chunkSlots - 1) / chunkSlots
	table := NewIndexed[service, backend](n)
	x := &table.indexed.keys
	type size struct{ buckets, heads, links int }
	for i := range uint64(n) {
		// The bucket that this insertion splits, if it splits one.
		split := x.buckets & (x.mask >> 1)
		if x.buckets > x.mask {
			split = x.buckets & x.mask
		}
		chain := 0
		for id := *x.head(split); id != none; id = x.link(id).next {
			chain++
		}
		if chain > longest {
			t.Fatalf("flow %d may split a chain of %d", i, chain)
		}
		from := size{int(x.buckets), len(x.heads), len(x.links)}
		table.Insert(clientKey(i, uint16(i)), nil, 0)
		to := size{int(x.buckets), len(x.heads), len(x.links)}
		if to.buckets > from.buckets+1 || to.heads > from.heads+1 || to.links > from.links+1 {
			t.Fatalf("flow %d grew the index from %+v to %+v", i, from, to)
		}
	}
	if got := checkIndex(t, x, n); got > longest {
		t.Errorf("keys that follow each other make a chain of %d, want at most %d", got, longest)
	}
	// The directories of chunks were made at their full length, and never moved.
	for name, got := range map[string]int{
		"heads": cap(x.heads), "links": cap(x.links),
		"inTable": cap(table.indexed.inTable), "inService": cap(table.indexed.inService),
	} {
		if got != chunks {
			t.Errorf("%s: the directory has room for %d chunks, want %d", name, got, chunks)
		}
	}
}

// TestIndexSeeds: each index hashes keys in a way of its own.
func TestIndexSeeds(t *testing.T) {
	t.Parallel()
	one, other := newIndex(1), newIndex(1)
	same := 0
	for n := range uint64(100) {
		k, again := testKey(n), testKey(n)
		if k.hash(one.seed) != again.hash(one.seed) {
			t.Error("a key has two hashes")
		}
		if k.hash(one.seed) == k.hash(other.seed) { // by chance 1 in 2^32
			same++
		}
	}
	if same > 1 {
		t.Errorf("%d of 100 hashes are the same in two indexes", same)
	}
}

// TestIndexHash flips each bit of a key: the hash has to depend on it.
func TestIndexHash(t *testing.T) {
	t.Parallel()
	x := newIndex(1)
	k := testKey(7)
	for i, w := range []*uint64{&k.client.hi, &k.client.lo, &k.local.hi, &k.local.lo, &k.rest} {
		for bit := range 64 {
			hash := k.hash(x.seed)
			*w ^= 1 << bit
			if k.hash(x.seed) == hash { // by chance 1 in 2^32
				t.Errorf("word %d, bit %d: the hash is the same", i, bit)
			}
			*w ^= 1 << bit
		}
	}
}
