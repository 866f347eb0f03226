package limit

import "time"

// Buckets is a bounded table of token buckets by key. Where there is no room, the bucket
// that was used least recently goes, and its group begins with a full one.
//
// An entry takes at most 88 bytes with its part of the index.
type Buckets struct {
	table[bucketEntry]
	expire time.Duration
}

// bucketEntry is a bucket that its shard's lock guards; see Bucket.
type bucketEntry struct {
	arrival int64
	used    time.Duration // last
}

// NewBuckets returns a table of at most most buckets, spread by a hash under a seed.
func NewBuckets(seed uint64, most int) *Buckets {
	return &Buckets{table: newTable[bucketEntry](seed, most)}
}

// NewExpiringBuckets returns such a table whose buckets are full again once nobody took from
// them for a time.
func NewExpiringBuckets(seed uint64, most int, expire time.Duration) *Buckets {
	b := NewBuckets(seed, most)
	b.expire = expire
	return b
}

// Take reports whether an event of a group conforms to the rate, and counts it if so. See
// Bucket.
func (b *Buckets) Take(k Key, r Rate, now time.Duration) bool {
	if !r.IsOn() {
		return true
	}
	c := cellOf(r, now)
	s, hash := b.shardOf(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := b.entryLocked(s, &k, hash)
	if b.expire > 0 && now-e.used >= b.expire {
		e.arrival = 0
	}
	e.used = max(e.used, now)
	arrival, ok := c.next(e.arrival)
	if ok {
		e.arrival = arrival
	}
	return ok
}

// entryLocked returns the entry of a key, made if there is none, as the newest.
func (b *Buckets) entryLocked(s *shard[bucketEntry], k *Key, hash uint32) *bucketEntry {
	i := s.find(k, hash)
	switch {
	case i != 0:
		s.touch(i)
	case s.isFull():
		s.remove(s.oldest)
		fallthrough
	default:
		i = s.insert(k, hash)
	}
	return &s.at(i).value
}

// BucketState is a bucket of Buckets, as plain data.
type BucketState struct {
	Key     Key
	Arrival int64
	Used    time.Duration
}

// State returns all buckets, the least recently used of each shard first.
func (b *Buckets) State() []BucketState {
	var all []BucketState
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock()
		for i := s.oldest; i != 0; i = s.at(i).newer {
			e := s.at(i)
			all = append(all, BucketState{e.key, e.value.arrival, e.value.used})
		}
		s.mu.Unlock()
	}
	return all
}

// Restore adds buckets to the table, as far as they have room. Any state makes buckets that
// work.
func (b *Buckets) Restore(all []BucketState) {
	for i := range all {
		s, hash := b.shardOf(&all[i].Key)
		s.mu.Lock()
		*b.entryLocked(s, &all[i].Key, hash) = bucketEntry{all[i].Arrival, all[i].Used}
		s.mu.Unlock()
	}
}
