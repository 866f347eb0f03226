package balancer

import (
	"hash/maphash"
	"net/netip"
	"time"
)

// The bounds of a memory of destinations, as in IPVS.
const (
	destinationsFull   = 16384                    // more are kept only as long as they are in use
	destinationsMost   = destinationsFull * 3 / 2 // then new ones are not remembered
	destinationExpiry  = 24 * time.Hour
	destinationIdle    = 6 * time.Minute // not in use: it may go when there are too many
	destinationBuckets = 8192
	destinationChunk   = 1024
)

// destinations remembers a value for each destination address, from one flow to it to the
// next. Its owner guards it. It holds up to destinationsMost entries, allocated by
// chunks as they come and never given back: 1.5 MB of lblc, 5 MB of lblcr.
//
// Time is that of the flows, so without flows nothing expires, and nothing grows. IPVS
// sweeps all entries every half an hour for those that expired, and part of them every
// minute while there are too many. Here entries lie in the order of their last use, and
// each flow looks at the two oldest: no flow pays for a sweep, an entry is gone the
// moment that it expires, and of too many those go first that were idle for longest, and
// no more than there are too many.
type destinations[T any] struct {
	seed    maphash.Seed // addresses may be chosen by strangers; no choice depends on it
	buckets []*destination[T]
	free    *destination[T] // linked by chain
	oldest  *destination[T]
	newest  *destination[T]
	n       int
	now     time.Duration
}

// destination is an entry.
type destination[T any] struct {
	value T
	key   [16]byte
	used  time.Duration
	chain *destination[T] // the next one in the bucket

	older, newer *destination[T]
}

func newDestinations[T any]() destinations[T] {
	return destinations[T]{
		seed:    maphash.MakeSeed(),
		buckets: make([]*destination[T], destinationBuckets),
	}
}

// keyOf is the same for an IPv4 address and its IPv6-mapped form, and leaves out a zone.
// Flows without an address (of unix sockets) have one destination.
func keyOf(a netip.Addr) [16]byte { return a.As16() }

// advance moves the time on, if now is later, and forgets up to two entries: a flow adds
// no more than one.
func (d *destinations[T]) advance(now time.Duration) {
	d.now = max(d.now, now)
	for range 2 {
		e := d.oldest
		if e == nil || !d.expired(e) && (d.n <= destinationsFull || d.now-e.used < destinationIdle) {
			return
		}
		d.remove(e)
	}
}

func (d *destinations[T]) expired(e *destination[T]) bool {
	return d.now-e.used >= destinationExpiry
}

// use returns the entry of a destination, which is the one used last then, or nil.
func (d *destinations[T]) use(a netip.Addr) *destination[T] {
	key := keyOf(a)
	for e := *d.bucket(&key); e != nil; e = e.chain {
		if e.key != key {
			continue
		}
		if d.expired(e) {
			d.remove(e)
			return nil
		}
		e.used = d.now
		d.unlink(e)
		d.append(e)
		return e
	}
	return nil
}

// add returns a new entry for a destination that has none, or nil when there is no room.
func (d *destinations[T]) add(a netip.Addr) *destination[T] {
	if d.n >= destinationsMost {
		return nil
	}
	if d.free == nil {
		chunk := make([]destination[T], destinationChunk)
		for i := range chunk {
			chunk[i].chain, d.free = d.free, &chunk[i]
		}
	}
	e := d.free
	d.free = e.chain
	e.key, e.used = keyOf(a), d.now
	at := d.bucket(&e.key)
	e.chain, *at = *at, e
	d.append(e)
	d.n++
	return e
}

// remove forgets an entry and with it the backends that it names.
func (d *destinations[T]) remove(e *destination[T]) {
	at := d.bucket(&e.key)
	for *at != e {
		at = &(*at).chain
	}
	*at = e.chain
	d.unlink(e)
	*e = destination[T]{chain: d.free}
	d.free = e
	d.n--
}

func (d *destinations[T]) bucket(key *[16]byte) **destination[T] {
	return &d.buckets[maphash.Bytes(d.seed, key[:])%destinationBuckets]
}

// append and unlink keep the order of last use.
func (d *destinations[T]) append(e *destination[T]) {
	e.older, e.newer = d.newest, nil
	if d.newest != nil {
		d.newest.newer = e
	} else {
		d.oldest = e
	}
	d.newest = e
}

func (d *destinations[T]) unlink(e *destination[T]) {
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		d.oldest = e.newer
	}
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		d.newest = e.older
	}
}
