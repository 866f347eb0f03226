package conntrack

import (
	"hash/maphash"
	"iter"
	"net/netip"
	"time"
)

const (
	// An Affinity has one shard for this many templates, a power of two of them,
	// and not more than maxShards: flows begin and end some thousand times a
	// second a loop and hold a lock for less than a microsecond, so that a few
	// are enough for many loops, and each costs some 60 KiB once it is used.
	shardTemplates = 4096
	maxShards      = 16

	// What is done under one hold of a shard's lock: so many timers of the wheel
	// are seen to by Put, so many by Expire, so many slots are copied, so many
	// templates dropped.
	putTimers    = 8
	expireTimers = 256
	rowSlots     = 64
	dropSlots    = 256
)

// Affinity is a bounded table of persistence templates: which backend a client of
// a service was given, so that its next flows go there too. Clients are told
// apart by their masked addresses, see [Persistence].
//
// A template is made by [Affinity.Put] and refreshed by each new flow. It ends when
// its timeout has passed since the last one and no flow under it is alive; while
// there are any, it is looked at every [Linger]. So affinity can outlive the
// timeout by as long as one flow lives, as in IPVS. Whether the backend may still
// be used is the caller's to decide, flow by flow.
//
// When there is no room for one more, the template without flows that lost its
// last flow first makes room, as the client most likely gone. One with flows is
// never taken; if there are only such, the new client goes without. Both are
// counted in [AffinityStats].
//
// All methods may be called from any goroutine. The table is divided into shards
// by the hash of the client and the service, seeded at random, and an operation
// locks one of them at a time, for O(1). None allocates once the table has grown
// to its working size, but for rare growth of a shard's map of backends, and Rows.
// The capacity is divided among the shards too, so a large table begins to make
// room when it is a few per cent short of full.
//
// S and B are as in [Table]. Times may differ between goroutines by what their
// clocks lag behind.
type Affinity[S, B any] struct {
	seed   maphash.Seed
	shards []*shard[S, B] // a power of two of them
}

// NewAffinity returns an empty table for at most capacity templates, itself at
// most [MaxCapacity]. With a capacity of zero or less no client is remembered.
func NewAffinity[S, B any](capacity int) *Affinity[S, B] {
	capacity = min(max(capacity, 0), MaxCapacity)
	n := 1
	for n < maxShards && capacity >= 2*n*shardTemplates {
		n *= 2
	}
	a := &Affinity[S, B]{seed: maphash.MakeSeed(), shards: make([]*shard[S, B], n)}
	for i := range a.shards {
		size := (int64(capacity) + int64(i)) / int64(n) // sums up to capacity
		a.shards[i] = newShard[S, B](uint32(i), int(size))
	}
	return a
}

// Get returns the backend that a client of a service has, nil if none. With a
// backend h takes a hold of its template, which is refreshed, and the caller owes
// one Release when the flow ends, wherever it went. A client without an address
// has none. What h held before is released.
func (a *Affinity[S, B]) Get(h *Hold, s *S, client netip.Addr, p Persistence, now time.Duration) *B {
	a.Release(h, now)
	if !client.IsValid() {
		return nil
	}
	k := stickyKey[S]{s, p.Mask.network(client)}
	sh, hash := a.shard(&k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	id := sh.find(&k, hash, now)
	if id == none {
		return nil
	}
	sh.hold(id, h)
	t := sh.slot(id)
	t.expires = p.until(now)
	return t.backend
}

// Put gives a client a backend in one step, like a compare-and-swap, and returns
// the one that the flow should go to. If the client has none, or has from, it is
// given to; if it has another, a racing flow has come first, and that one is
// returned, so that all flows of the client end at one backend.
//
// From is what this flow knows to be no good: the backend that Get or an earlier
// Put returned and that could not be used; nil if there was none. A caller that
// gets another backend than to gives back what it reserved of to and takes that.
// If that one is no good either, it may choose anew and call Put with it as from.
//
// As with Get, h takes a hold of the template, unless it has it already, and
// refreshes it; another that it held is released. Without room, for a client
// without an address, and with to nil, to is returned and h holds nothing.
func (a *Affinity[S, B]) Put(h *Hold, s *S, client netip.Addr, p Persistence, from, to *B, now time.Duration) *B {
	if !client.IsValid() || to == nil {
		a.Release(h, now)
		return to
	}
	k := stickyKey[S]{s, p.Mask.network(client)}
	sh, hash := a.shard(&k)
	before := *h
	sh.mu.Lock()
	id := sh.find(&k, hash, now)
	if id == none {
		if id = sh.begin(&k, hash, to, p.until(now), now); id == none {
			sh.mu.Unlock()
			a.Release(h, now)
			return to
		}
	}
	t := sh.slot(id)
	if from != nil && t.backend == from && to != from {
		sh.move(id, to)
	}
	held := before == sh.of(id)
	if !held {
		sh.hold(id, h)
	}
	t.expires = p.until(now)
	winner := t.backend
	sh.mu.Unlock()
	if !held {
		a.Release(&before, now)
	}
	return winner
}

// Release ends the part that a flow has in its template, and empties h. An empty
// Hold and one whose template was forgotten are ignored. A copy of a Hold must
// not be released as well: one release too many panics as soon as the number of
// flows would go below zero.
func (a *Affinity[S, B]) Release(h *Hold, now time.Duration) {
	if h.life == 0 {
		return
	}
	sh := a.shards[h.shard]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.release(*h, now)
	*h = Hold{}
}

// Drop forgets the templates of a backend, which was removed or is down, those
// with flows too, and returns how many. It takes O(1) for each of them, however
// many others there are, a few at a time. It does not wait for flows that chose b
// before and put it in meanwhile: such a template stays until it expires or a
// flow moves it.
func (a *Affinity[S, B]) Drop(b *B) (dropped int) {
	for _, sh := range a.shards {
		for left := sh.countOf(b); left > 0; {
			n := sh.drop(b, min(left, dropSlots))
			if n == 0 {
				break
			}
			left -= n
			dropped += n
		}
	}
	return dropped
}

// DropService forgets the templates of a service, which was removed, and returns
// how many. It looks at all templates, a few at a time.
func (a *Affinity[S, B]) DropService(s *S) (dropped int) {
	for _, sh := range a.shards {
		for at, more := ID(0), true; more; at += dropSlots {
			var n int
			n, more = sh.dropService(s, at, at+dropSlots)
			dropped += n
		}
	}
	return dropped
}

// Expire takes back the room of the templates that have ended, a few at a time.
// No answer depends on it but those of Len and Stats; it keeps services and
// backends from being held in memory for longer than they are needed, and live
// templates from making room in place of dead ones. Each Put does a bounded part
// of the same work. Calling it about once a second, from one goroutine, is enough.
func (a *Affinity[S, B]) Expire(now time.Duration) {
	for _, sh := range a.shards {
		for !sh.expire(now) {
		}
	}
}

// Len returns the number of templates, those included that have ended and were
// not taken back yet.
func (a *Affinity[S, B]) Len() int { return a.Stats().Templates }

// AffinityStats says how full a table of templates is and what became of those
// that it held. Made is the sum of Templates, Expired, Evicted and Dropped.
type AffinityStats struct {
	Templates, Capacity int

	Made    uint64 // clients that were given a backend
	Moved   uint64 // clients that were given another one, as theirs could not be used
	Expired uint64 // templates that ended
	Evicted uint64 // templates that made room for others
	Dropped uint64 // templates forgotten with their backend or service
	Refused uint64 // clients that went without, as there was no room
}

// Stats returns the figures of all shards, each shard's at a moment of its own.
func (a *Affinity[S, B]) Stats() (sum AffinityStats) {
	for _, sh := range a.shards {
		sh.mu.Lock()
		st := sh.stats
		sh.mu.Unlock()
		sum.Templates += st.Templates
		sum.Capacity += st.Capacity
		sum.Made += st.Made
		sum.Moved += st.Moved
		sum.Expired += st.Expired
		sum.Evicted += st.Evicted
		sum.Dropped += st.Dropped
		sum.Refused += st.Refused
	}
	return sum
}

// Rows yields a copy of each template that has not ended at now, in no order that
// means anything. No lock is held while it yields. Rows are copied at different
// times: what begins or ends meanwhile may be missed, and what lives on is
// yielded exactly once.
func (a *Affinity[S, B]) Rows(now time.Duration) iter.Seq[Template[S, B]] {
	return func(yield func(Template[S, B]) bool) {
		var rows []Template[S, B]
		for _, sh := range a.shards {
			for at, more := ID(0), true; more; at += rowSlots {
				rows, more = sh.rows(rows[:0], at, at+rowSlots, now)
				for _, r := range rows {
					if !yield(r) {
						return
					}
				}
			}
		}
	}
}

// shard returns where a template belongs, and its hash there: of the 64 bits of
// the hash the upper ones choose the shard, the lower ones the place in it.
func (a *Affinity[S, B]) shard(k *stickyKey[S]) (sh *shard[S, B], hash uint32) {
	h := maphash.Comparable(a.seed, *k)
	return a.shards[int(h>>32)&(len(a.shards)-1)], uint32(h)
}
