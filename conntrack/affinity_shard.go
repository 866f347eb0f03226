package conntrack

import (
	"math"
	"sync"
	"time"
	"unsafe"
)

// affinityExtension is how much longer an entry lasts each time that its timeout
// passes while flows are alive, as in IPVS (ip_vs_conn.c).
const affinityExtension = 60 * time.Second

// An entry that outgrows AffinityBytes does not compile.
const _ = AffinityBytes - unsafe.Sizeof(affinitySlot[int, int]{}) - unsafe.Sizeof(timer{}) - indexBytes - 2*unsafe.Sizeof(listLink{})

// affinityKey names an entry. Addresses under different masks never collide.
type affinityKey[S any] struct {
	service *S
	client  network
}

// affinitySlot is a slot of a shard, guarded by the shard's lock. While flows are
// alive, expires may lie in the past; extendedExpiry makes up for that.
type affinitySlot[S, B any] struct {
	key        affinityKey[S]
	backend    *B // nil: the slot is free
	created    time.Duration
	expires    time.Duration
	generation uint32 // counts the entries that the slot has held
	flows      uint32 // alive; in a free slot: the next free ID, or none
}

// extendedExpiry returns when the entry expires, as seen at now. It adds whole
// extensions, as if each had been made when it was due.
func (e *affinitySlot[S, B]) extendedExpiry(now time.Duration) time.Duration {
	if e.flows == 0 || now < e.expires {
		return e.expires
	}
	late := min((now-e.expires)/affinityExtension*affinityExtension, math.MaxInt64-affinityExtension-e.expires)
	return e.expires + late + affinityExtension
}

// hasExpired reports whether the entry has ended, even if its slot is not yet freed.
func (e *affinitySlot[S, B]) hasExpired(now time.Duration) bool {
	return e.flows == 0 && now >= e.expires
}

// affinityShard is a part of an Affinity with a lock of its own. mu guards all
// fields. Methods that end in Locked need it, the others take it.
type affinityShard[S, B any] struct {
	mu sync.Mutex

	number    uint32
	chunks    []*[chunkSlots]affinitySlot[S, B]
	capacity  ID
	highWater ID // slots below it have been in use
	free      ID // head of the list of free slots, or none
	stats     AffinityStats

	keys hashIndex

	// A refresh does not move an entry's timer. When it fires, the entry has expired,
	// or is armed again, or has flows: then the end of the last one arms it. All
	// entries without flows are armed.
	wheel wheel
	now   time.Duration // of the running expireLocked
	fire  func(ID)      // sh.onTimerLocked, bound once

	idle      slotList // entries without flows, by when they lost the last one
	idleLinks listLinks
	backends  map[*B]backendEntries // only those with entries
	ownLinks  listLinks
}

// backendEntries are the entries of one backend, oldest first.
type backendEntries struct {
	slotList
	count int
}

func newAffinityShard[S, B any](number uint32, capacity int) *affinityShard[S, B] {
	chunks := (capacity + chunkSlots - 1) / chunkSlots
	sh := &affinityShard[S, B]{
		number:    number,
		chunks:    make([]*[chunkSlots]affinitySlot[S, B], 0, chunks),
		capacity:  ID(capacity),
		free:      none,
		stats:     AffinityStats{Capacity: capacity},
		keys:      newHashIndex(chunks),
		wheel:     newWheel(chunks),
		idle:      newSlotList(),
		idleLinks: make(listLinks, 0, chunks),
		backends:  make(map[*B]backendEntries),
		ownLinks:  make(listLinks, 0, chunks),
	}
	sh.fire = sh.onTimerLocked
	return sh
}

// slot returns a slot below highWater.
func (sh *affinityShard[S, B]) slot(id ID) *affinitySlot[S, B] {
	return &sh.chunks[id/chunkSlots][id%chunkSlots]
}

// ref returns a flow's reference to an entry.
func (sh *affinityShard[S, B]) ref(id ID) AffinityRef {
	return AffinityRef{sh.number, id, sh.slot(id).generation}
}

// findLocked returns the entry of a key, or none. It frees an expired one.
func (sh *affinityShard[S, B]) findLocked(k *affinityKey[S], hash uint32, now time.Duration) ID {
	for id := sh.keys.first(hash); id != none; id = sh.keys.after(id) {
		e := sh.slot(id)
		if e.key != *k {
			continue
		}
		if e.hasExpired(now) {
			sh.stats.Expired++
			sh.removeLocked(id)
			return none
		}
		return id
	}
	return none
}

// insertLocked creates an entry without flows, or returns none if there is no room.
func (sh *affinityShard[S, B]) insertLocked(k *affinityKey[S], hash uint32, b *B, expires, now time.Duration) ID {
	sh.expireLocked(now, timersPerPut)
	if sh.free == none && sh.highWater == sh.capacity {
		if sh.idle.first == none {
			sh.stats.Rejected++
			return none
		}
		sh.stats.Evicted++
		sh.removeLocked(sh.idle.first)
	}
	id := sh.free
	if id == none {
		id = sh.highWater
		if id%chunkSlots == 0 {
			sh.chunks = append(sh.chunks, new([chunkSlots]affinitySlot[S, B]))
			sh.keys.grow()
			sh.wheel.grow()
			sh.idleLinks.grow()
			sh.ownLinks.grow()
		}
		sh.highWater++
	} else {
		sh.free = ID(sh.slot(id).flows)
	}
	e := sh.slot(id)
	e.key, e.backend = *k, b
	e.created, e.expires = now, expires
	e.generation = max(e.generation+1, 1)
	e.flows = 0
	sh.keys.insert(id, hash)
	sh.wheel.arm(id, expires)
	sh.idleLinks.pushBack(&sh.idle, id)
	sh.addToBackendLocked(id, b)
	sh.stats.Created++
	sh.stats.Entries++
	return id
}

// removeLocked frees the slot of an entry, with flows or without.
func (sh *affinityShard[S, B]) removeLocked(id ID) {
	e := sh.slot(id)
	sh.keys.remove(id)
	sh.wheel.disarm(id)
	if e.flows == 0 {
		sh.idleLinks.unlink(&sh.idle, id)
	}
	sh.removeFromBackendLocked(id, e.backend)
	e.key.service, e.backend = nil, nil
	e.flows, sh.free = uint32(sh.free), id
	sh.stats.Entries--
}

// addFlowLocked counts one more flow and sets its reference.
func (sh *affinityShard[S, B]) addFlowLocked(id ID, ref *AffinityRef) {
	e := sh.slot(id)
	if e.flows == 0 {
		sh.idleLinks.unlink(&sh.idle, id)
	}
	e.flows++
	*ref = sh.ref(id)
}

// removeFlowLocked counts one flow less, if the entry still exists.
func (sh *affinityShard[S, B]) removeFlowLocked(ref AffinityRef, now time.Duration) {
	e := sh.slot(ref.id)
	if e.backend == nil || e.generation != ref.generation {
		return
	}
	if e.flows == 0 {
		panic("conntrack: an affinity reference was released twice")
	}
	e.expires = e.extendedExpiry(now)
	if e.flows--; e.flows == 0 {
		sh.idleLinks.pushBack(&sh.idle, ref.id)
		sh.wheel.armNoLater(ref.id, e.expires)
	}
}

// reassignLocked gives an entry another backend.
func (sh *affinityShard[S, B]) reassignLocked(id ID, to *B) {
	e := sh.slot(id)
	sh.removeFromBackendLocked(id, e.backend)
	e.backend = to
	sh.addToBackendLocked(id, to)
	sh.stats.Reassigned++
}

func (sh *affinityShard[S, B]) addToBackendLocked(id ID, b *B) {
	own, ok := sh.backends[b]
	if !ok {
		own.slotList = newSlotList()
	}
	sh.ownLinks.pushBack(&own.slotList, id)
	own.count++
	sh.backends[b] = own
}

func (sh *affinityShard[S, B]) removeFromBackendLocked(id ID, b *B) {
	own := sh.backends[b]
	sh.ownLinks.unlink(&own.slotList, id)
	if own.count--; own.count == 0 {
		delete(sh.backends, b)
	} else {
		sh.backends[b] = own
	}
}

// expireLocked handles up to limit timers. It reports whether all due ones are done.
func (sh *affinityShard[S, B]) expireLocked(now time.Duration, limit int) (done bool) {
	sh.now = now
	return sh.wheel.expireSome(now, limit, sh.fire)
}

// onTimerLocked frees an expired entry, and arms a refreshed one without flows again.
func (sh *affinityShard[S, B]) onTimerLocked(id ID) {
	e := sh.slot(id)
	switch {
	case e.hasExpired(sh.now):
		sh.stats.Expired++
		sh.removeLocked(id)
	case e.flows == 0:
		sh.wheel.arm(id, e.expires)
	}
}

func (sh *affinityShard[S, B]) expire(now time.Duration) (done bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.expireLocked(now, timersPerExpire)
}

// count returns how many entries a backend has.
func (sh *affinityShard[S, B]) count(b *B) int {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.backends[b].count
}

// drop removes up to limit entries of a backend, the oldest first.
func (sh *affinityShard[S, B]) drop(b *B, limit int) (n int) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for ; n < limit; n++ {
		own, ok := sh.backends[b]
		if !ok {
			break
		}
		sh.removeLocked(own.first)
	}
	sh.stats.Dropped += uint64(n)
	return n
}

// dropServices removes the entries of removed services in slots [from, to), and reports
// whether more slots follow.
func (sh *affinityShard[S, B]) dropServices(isRemoved func(*S) bool, from, to ID) (n int, more bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for id := from; id < min(to, sh.highWater); id++ {
		if e := sh.slot(id); e.backend != nil && isRemoved(e.key.service) {
			sh.removeLocked(id)
			n++
		}
	}
	sh.stats.Dropped += uint64(n)
	return n, to < sh.highWater
}

// rows appends the entries in slots [from, to), and reports whether more slots follow.
func (sh *affinityShard[S, B]) rows(rows []AffinityEntry[S, B], from, to ID, now time.Duration) (_ []AffinityEntry[S, B], more bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for id := from; id < min(to, sh.highWater); id++ {
		e := sh.slot(id)
		if e.backend == nil || e.hasExpired(now) {
			continue
		}
		rows = append(rows, AffinityEntry[S, B]{
			Client:  e.key.client.prefix(),
			Service: e.key.service,
			Backend: e.backend,
			Flows:   int(e.flows),
			Created: e.created,
			Expires: e.extendedExpiry(now),
		})
	}
	return rows, to < sh.highWater
}
