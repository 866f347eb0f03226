package limit

import "sync"

const (
	maxShards    = 32  // a power of two
	leastInShard = 128 // entries, or the table has fewer shards
	chunkEntries = 32
)

// table is a bounded hash table of V by Key, in shards with a lock each. Entries lie in
// chunks and do not move, so a pointer to V stays good until its entry is removed. Memory
// grows to the bound with the entries, and never shrinks.
type table[V any] struct {
	seed   uint64
	shards []shard[V] // a power of two
}

// shard is a part of a table. mu guards all fields; methods need it held.
type shard[V any] struct {
	mu       sync.Mutex
	chunks   []*[chunkEntries]entry[V]
	heads    []slot // of the chains by hash, a power of two
	capacity slot
	used     slot // slots up to it have been in use
	free     slot // the head of the list of free ones
	count    int
	// oldest and newest are the ends of a list of all entries.
	oldest, newest slot
}

// slot is the number of an entry in its shard, counted from one. Zero is none.
type slot uint32

type entry[V any] struct {
	key          Key
	hash         uint32
	chain        slot // the next one in its chain, or of the free ones
	older, newer slot
	value        V
}

// newTable returns a table of up to most entries, rounded up to equal shards. A shard that
// is full has no room, whatever is free in others.
func newTable[V any](seed uint64, most int) table[V] {
	most = min(max(most, 1), 1<<30)
	shards := 1
	for shards < maxShards && shards*2*leastInShard <= most {
		shards *= 2
	}
	t := table[V]{seed: seed, shards: make([]shard[V], shards)}
	for i := range t.shards {
		t.shards[i].capacity = slot((most + shards - 1) / shards)
	}
	return t
}

// shardOf returns the shard of a key, and the key's hash within it.
func (t *table[V]) shardOf(k *Key) (*shard[V], uint32) {
	hash := k.hash(t.seed)
	return &t.shards[int(hash>>32)&(len(t.shards)-1)], uint32(hash)
}

func (s *shard[V]) at(i slot) *entry[V] {
	return &s.chunks[(i-1)/chunkEntries][(i-1)%chunkEntries]
}

func (s *shard[V]) head(hash uint32) *slot { return &s.heads[hash&uint32(len(s.heads)-1)] }

// find returns the slot of a key, or none.
func (s *shard[V]) find(k *Key, hash uint32) slot {
	if len(s.heads) == 0 {
		return 0
	}
	i := *s.head(hash)
	for i != 0 {
		e := s.at(i)
		if e.hash == hash && e.key == *k {
			break
		}
		i = e.chain
	}
	return i
}

func (s *shard[V]) isFull() bool { return s.free == 0 && s.used == s.capacity }

// insert adds a key that is not there, as the newest. The shard must not be full.
func (s *shard[V]) insert(k *Key, hash uint32) slot {
	i := s.free
	if i != 0 {
		s.free = s.at(i).chain
	} else {
		s.used++
		i = s.used
		if int(i-1)%chunkEntries == 0 {
			s.chunks = append(s.chunks, new([chunkEntries]entry[V]))
		}
		if int(i) > len(s.heads) {
			s.growHeads()
		}
	}
	e := s.at(i)
	e.key, e.hash = *k, hash
	head := s.head(hash)
	e.chain, *head = *head, i
	s.pushNewest(i, e)
	s.count++
	return i
}

// growHeads doubles the number of chains. No entry is in the list of free ones.
func (s *shard[V]) growHeads() {
	s.heads = make([]slot, max(2*len(s.heads), 8))
	for i := s.oldest; i != 0; {
		e := s.at(i)
		head := s.head(e.hash)
		e.chain, *head = *head, i
		i = e.newer
	}
}

// remove frees the slot of an entry.
func (s *shard[V]) remove(i slot) {
	e := s.at(i)
	at := s.head(e.hash)
	for *at != i {
		at = &s.at(*at).chain
	}
	*at = e.chain
	s.unlink(e)
	var none V
	e.value = none
	e.chain, s.free = s.free, i
	s.count--
}

// touch makes an entry the newest.
func (s *shard[V]) touch(i slot) {
	if i != s.newest {
		e := s.at(i)
		s.unlink(e)
		s.pushNewest(i, e)
	}
}

func (s *shard[V]) pushNewest(i slot, e *entry[V]) {
	e.older, e.newer = s.newest, 0
	if s.newest != 0 {
		s.at(s.newest).newer = i
	} else {
		s.oldest = i
	}
	s.newest = i
}

func (s *shard[V]) unlink(e *entry[V]) {
	if e.older != 0 {
		s.at(e.older).newer = e.newer
	} else {
		s.oldest = e.newer
	}
	if e.newer != 0 {
		s.at(e.newer).older = e.older
	} else {
		s.newest = e.older
	}
}
