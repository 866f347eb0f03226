package conntrack

import (
	"hash/maphash"
	"iter"
	"math"
	"net/netip"
	"time"
)

const (
	// An Affinity has a power of two of shards: one per this many entries, up to
	// maxAffinityShards. Flows hold a lock for less than a microsecond, so a few
	// shards serve many workers; each costs 60 KiB once used.
	entriesPerShard   = 4096
	maxAffinityShards = 16

	// Work per hold of a shard's lock.
	timersPerPut    = 8
	timersPerExpire = 256
	slotsPerRows    = 64
	entriesPerDrop  = 256
)

// Affinity is a bounded table that remembers which backend a client of a service was
// given, so that its next flows go there too. [AffinityConfig].Mask tells clients
// apart. The kernel's IPVS calls this persistence, and its entries templates.
//
// [Affinity.Put] creates an entry and each new flow refreshes it. The entry expires
// when its timeout has passed since the last flow began and none is alive. While
// flows are alive it is extended by 60 s at a time, as in IPVS. The caller decides
// for each flow whether the backend may still be used.
//
// When the table is full, the entry that lost its last flow first is evicted. One
// with flows is never evicted; if there are only such, the new client gets no entry.
// [AffinityStats] counts both.
//
// All methods are safe for concurrent use. Shards are chosen by a seeded hash of
// client and service, and each operation locks one shard for O(1). Only growth and
// Rows allocate. Each shard has its part of the capacity, so a large table begins to
// evict when it is a few percent short of full.
//
// S and B are as in [Table]. Callers' clocks may lag behind each other.
type Affinity[S, B any] struct {
	seed   maphash.Seed
	shards []*affinityShard[S, B] // their number is a power of two
}

// AffinityConfig says how long a service remembers a client, and who is one client.
type AffinityConfig struct {
	// Timeout starts anew with each flow of the client. With zero or less the entry
	// lasts while flows are alive, in steps of 60 s.
	Timeout time.Duration
	// Mask makes one client of all addresses that it maps to one prefix.
	Mask Mask
}

// AffinityClient is a client of a service, as its AffinityConfig sees it. The zero value
// is a client without an address; it has no entry.
type AffinityClient[S any] struct {
	key     affinityKey[S]
	timeout time.Duration
}

// NewAffinityClient returns the client at an address.
func NewAffinityClient[S any](s *S, at netip.Addr, c AffinityConfig) AffinityClient[S] {
	if !at.IsValid() {
		return AffinityClient[S]{}
	}
	return AffinityClient[S]{affinityKey[S]{s, c.Mask.network(at)}, max(c.Timeout, 0)}
}

// expiry returns when an entry expires that is refreshed at now.
func (c AffinityClient[S]) expiry(now time.Duration) time.Duration {
	return now + min(c.timeout, math.MaxInt64-max(now, 0))
}

// AffinityRef is a flow's reference to its affinity entry. The zero value refers to
// none. It belongs to one flow and is not safe for concurrent use. It may outlive
// its entry; it then has no effect.
type AffinityRef struct {
	shard      uint32
	id         ID
	generation uint32 // of the slot; zero: no entry
}

// AffinityEntry is a copy of an entry: the backend that new flows of a client get.
type AffinityEntry[S, B any] struct {
	Client  netip.Prefix
	Service *S
	Backend *B
	Flows   int           // alive
	Created time.Duration // when the client first got a backend
	// Expires is when the entry ends without another flow. If flows are alive then, it
	// is extended.
	Expires time.Duration
}

// AffinityBytes is the memory of an affinity entry on a 64-bit system: 64 bytes, 16
// in the timer wheel, 12 in the index, 16 for its links in two lists. Each shard
// allocates entries in chunks of 512.
const AffinityBytes = 108

// NewAffinity returns an empty table for at most capacity entries, up to
// [MaxCapacity]. With a capacity of zero or less it remembers no client.
func NewAffinity[S, B any](capacity int) *Affinity[S, B] {
	capacity = min(max(capacity, 0), MaxCapacity)
	n := 1
	for n < maxAffinityShards && capacity >= 2*n*entriesPerShard {
		n *= 2
	}
	a := &Affinity[S, B]{seed: maphash.MakeSeed(), shards: make([]*affinityShard[S, B], n)}
	for i := range a.shards {
		size := (int64(capacity) + int64(i)) / int64(n) // the sizes add up to capacity
		a.shards[i] = newAffinityShard[S, B](uint32(i), int(size))
	}
	return a
}

// Get returns the backend of a client, nil if it has none or has no address. It
// releases ref first. With a backend, ref then refers to the refreshed entry, and
// the caller owes one Release when the flow ends.
func (a *Affinity[S, B]) Get(ref *AffinityRef, c AffinityClient[S], now time.Duration) *B {
	a.Release(ref, now)
	if c.key.service == nil {
		return nil
	}
	sh, hash := a.shard(&c.key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	id := sh.findLocked(&c.key, hash, now)
	if id == none {
		return nil
	}
	sh.addFlowLocked(id, ref)
	e := sh.slot(id)
	e.expires = c.expiry(now)
	return e.backend
}

// Put gives a client a backend like a compare-and-swap, and returns the backend that
// the flow should use. If the client has none, or has from, it gets to. If another
// flow came first, its backend is returned, so that all flows of a client agree.
//
// From is the backend that this flow could not use: the result of Get or of an
// earlier Put, or nil. A caller that gets another backend than to releases what it
// reserved of to. If it cannot use that one either, it calls Put again with it as from.
//
// As with Get, ref afterwards refers to the refreshed entry. Without room, for a
// client without an address and with to nil, Put returns to and ref is zero.
func (a *Affinity[S, B]) Put(ref *AffinityRef, c AffinityClient[S], from, to *B, now time.Duration) *B {
	if c.key.service == nil || to == nil {
		a.Release(ref, now)
		return to
	}
	sh, hash := a.shard(&c.key)
	before := *ref
	sh.mu.Lock()
	id := sh.findLocked(&c.key, hash, now)
	if id == none {
		if id = sh.insertLocked(&c.key, hash, to, c.expiry(now), now); id == none {
			sh.mu.Unlock()
			a.Release(ref, now)
			return to
		}
	}
	e := sh.slot(id)
	if from != nil && e.backend == from && to != from {
		sh.reassignLocked(id, to)
	}
	isSame := before == sh.ref(id)
	if !isSame {
		sh.addFlowLocked(id, ref)
	}
	e.expires = c.expiry(now)
	winner := e.backend
	sh.mu.Unlock()
	if !isSame {
		a.Release(&before, now)
	}
	return winner
}

// Release ends a flow's reference and zeroes it. It ignores a zero reference and one
// whose entry is gone. It panics if copies of one reference are released more often
// than flows were added.
func (a *Affinity[S, B]) Release(ref *AffinityRef, now time.Duration) {
	if ref.generation == 0 {
		return
	}
	sh := a.shards[ref.shard]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.removeFlowLocked(*ref, now)
	*ref = AffinityRef{}
}

// Drop removes the entries of a backend that was removed or is down, also those with
// flows, and returns how many. It costs O(1) per entry, a few at a time. A flow that
// chose b before and puts it meanwhile is not waited for: its entry stays until it
// expires or a flow reassigns it.
func (a *Affinity[S, B]) Drop(b *B) (dropped int) {
	for _, sh := range a.shards {
		for left := sh.count(b); left > 0; {
			n := sh.drop(b, min(left, entriesPerDrop))
			if n == 0 {
				break
			}
			left -= n
			dropped += n
		}
	}
	return dropped
}

// DropServices removes the entries of services that were removed, and returns how
// many. It looks at all entries once, a few at a time.
func (a *Affinity[S, B]) DropServices(isRemoved func(*S) bool) (dropped int) {
	for _, sh := range a.shards {
		for at, more := ID(0), true; more; at += entriesPerDrop {
			var n int
			n, more = sh.dropServices(isRemoved, at, at+entriesPerDrop)
			dropped += n
		}
	}
	return dropped
}

// Expire frees the slots of expired entries, a few at a time. Only Len and Stats
// depend on it. It releases services and backends early, and keeps live entries from
// being evicted in place of expired ones. One call a second is enough; each Put does
// a bounded part of the same work.
func (a *Affinity[S, B]) Expire(now time.Duration) {
	for _, sh := range a.shards {
		for !sh.expire(now) {
		}
	}
}

// Len returns the number of entries, including expired ones that still hold a slot.
func (a *Affinity[S, B]) Len() int { return a.Stats().Entries }

// AffinityStats counts entries. Created is the sum of Entries, Expired, Evicted and
// Dropped.
type AffinityStats struct {
	Entries, Capacity int

	Created    uint64
	Reassigned uint64 // given another backend, because a flow could not use theirs
	Expired    uint64
	Evicted    uint64 // removed to make room
	Dropped    uint64 // removed with their backend or service
	Rejected   uint64 // clients without an entry because there was no room
}

// Stats returns the sum over all shards, each read at its own moment.
func (a *Affinity[S, B]) Stats() (sum AffinityStats) {
	for _, sh := range a.shards {
		sh.mu.Lock()
		st := sh.stats
		sh.mu.Unlock()
		sum.Entries += st.Entries
		sum.Capacity += st.Capacity
		sum.Created += st.Created
		sum.Reassigned += st.Reassigned
		sum.Expired += st.Expired
		sum.Evicted += st.Evicted
		sum.Dropped += st.Dropped
		sum.Rejected += st.Rejected
	}
	return sum
}

// Rows yields a copy of each entry that has not expired at now, in no order. It holds
// no lock while it yields. Entries that begin or end meanwhile may be missed; one
// that lives on is yielded exactly once.
func (a *Affinity[S, B]) Rows(now time.Duration) iter.Seq[AffinityEntry[S, B]] {
	return func(yield func(AffinityEntry[S, B]) bool) {
		var rows []AffinityEntry[S, B]
		for _, sh := range a.shards {
			for at, more := ID(0), true; more; at += slotsPerRows {
				rows, more = sh.rows(rows[:0], at, at+slotsPerRows, now)
				for _, r := range rows {
					if !yield(r) {
						return
					}
				}
			}
		}
	}
}

// shard returns the shard of a key and its hash there. The upper half of the hash
// chooses the shard, the lower half the bucket in it.
func (a *Affinity[S, B]) shard(k *affinityKey[S]) (sh *affinityShard[S, B], hash uint32) {
	h := maphash.Comparable(a.seed, *k)
	return a.shards[int(h>>32)&(len(a.shards)-1)], uint32(h)
}
