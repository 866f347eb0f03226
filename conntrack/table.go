package conntrack

import (
	"iter"
	"math"
	"sync/atomic"
	"time"
	"unsafe"
)

// ID is the slot of an entry. It is valid until Remove, and reused afterwards.
type ID uint32

const (
	// MaxCapacity is the most entries that a table can hold. The wheel uses the upper
	// half of the IDs.
	MaxCapacity = math.MaxInt32

	// EntryBytes is the memory of an entry on a 64-bit system: 96 bytes in the table
	// and 16 in the timer wheel. The directories of chunks add 1/32 byte.
	EntryBytes = 112

	// IndexedBytes is what an entry of an indexed table takes in addition: 12 bytes in
	// the index, and 8 for its links in an eviction queue.
	IndexedBytes = 20

	// Slots are allocated in chunks of this many. Chunks of 48 KiB and 8 KiB match size
	// classes of the Go heap, so no memory is lost to rounding.
	chunkSlots = 512

	none ID = math.MaxUint32 // no slot
)

// Types that outgrow EntryBytes or IndexedBytes do not compile.
const (
	_ = EntryBytes - unsafe.Sizeof(Entry[int, int]{}) - unsafe.Sizeof(timer{})
	_ = IndexedBytes - indexBytes - unsafe.Sizeof(listLink{})
)

// Table holds the flows of one worker. Entries are found by ID, and in a table from
// [NewIndexed] also by key.
//
// One goroutine at a time, the owner, may call the methods; any goroutine may call
// Len and Rows. S is what a flow belongs to (a service), B what it was given (a
// backend). The table only carries them, and drops them when the entry is removed.
//
// Memory follows the most flows that there ever were at once, in chunks that never
// move and are not freed.
type Table[S, B any] struct {
	chunks    []atomic.Pointer[chunk[S, B]] // filled from the front
	capacity  ID
	highWater ID // slots below it have been in use
	free      ID // the slot freed last, whose cache lines are warm, or none
	live      atomic.Int64
	wheel     wheel
	keys      *hashIndex // of the slots in use; nil: entries are found by ID alone
	evictable evictionQueues[S]
}

type chunk[S, B any] [chunkSlots]Entry[S, B]

// New returns an empty table for at most capacity entries, up to [MaxCapacity]. A
// table with a capacity of zero or less is always full.
func New[S, B any](capacity int) *Table[S, B] {
	capacity = min(max(capacity, 0), MaxCapacity)
	chunks := (capacity + chunkSlots - 1) / chunkSlots
	return &Table[S, B]{
		chunks:   make([]atomic.Pointer[chunk[S, B]], chunks),
		capacity: ID(capacity),
		free:     none,
		wheel:    newWheel(chunks),
	}
}

// NewIndexed returns a table like [New] that also finds entries by key and queues
// unreplied ones for eviction. Its flows begin [Unreplied] instead of [Connecting].
// Growth slows no operation, except by the allocation of a chunk.
func NewIndexed[S, B any](capacity int) *Table[S, B] {
	t := New[S, B](capacity)
	chunks := cap(t.chunks)
	t.keys = new(hashIndex)
	*t.keys = newHashIndex(chunks)
	t.evictable.links = make(listLinks, 0, chunks)
	return t
}

// Insert begins a flow at now: [Connecting] or, in an indexed table, [Unreplied]; no
// backend, no deadline, counters zero. The entry is nil if the table is full. The
// same key may be inserted more than once.
func (t *Table[S, B]) Insert(k Key, s *S, now time.Duration) (ID, *Entry[S, B]) {
	id := t.free
	if id == none {
		if t.highWater == t.capacity {
			return none, nil
		}
		id = t.highWater
		if id%chunkSlots == 0 {
			t.chunks[id/chunkSlots].Store(new(chunk[S, B]))
			t.wheel.grow()
			if t.keys != nil {
				t.keys.grow()
				t.evictable.links.grow()
			}
		}
		t.highWater++
		t.slot(id).setNext(none)
	}
	e := t.slot(id)
	t.free = e.next()
	state := Connecting
	if t.keys != nil {
		state = Unreplied
		t.keys.insert(id, k.hash(t.keys.seed))
		t.evictable.push(id, s, unreplied)
	}
	e.publish(k, s, state, now)
	t.live.Store(t.live.Load() + 1)
	return id, e
}

// Remove ends a flow and drops its deadline. It ignores an unused ID.
func (t *Table[S, B]) Remove(id ID) {
	e := t.Entry(id)
	if e == nil {
		return
	}
	t.wheel.disarm(id)
	if t.keys != nil {
		t.keys.remove(id)
	}
	if t.evictable.has(id) {
		kind := idle
		if e.State() == Unreplied {
			kind = unreplied
		}
		t.evictable.remove(id, e.Service(), kind)
	}
	e.retract()
	e.setNext(t.free)
	t.free = id
	t.live.Store(t.live.Load() - 1)
}

// Lookup returns the entry of a key, nil if there is none. Of several with one key it
// returns the one inserted last. O(1). In a table that is not indexed it finds none.
func (t *Table[S, B]) Lookup(k Key) (ID, *Entry[S, B]) {
	x := t.keys
	if x == nil {
		return none, nil
	}
	for id := x.first(k.hash(x.seed)); id != none; id = x.after(id) {
		if e := t.slot(id); e.hasKey(&k) {
			return id, e
		}
	}
	return none, nil
}

// Assure makes an [Unreplied] flow [Assured]: its backend has answered. O(1). It
// ignores a flow in another state and an unused ID.
func (t *Table[S, B]) Assure(id ID) {
	if e := t.Entry(id); e != nil && e.State() == Unreplied {
		t.evictable.remove(id, e.Service(), unreplied)
		e.setVersion(e.loadVersion().withState(Assured))
	}
}

// Entry returns the entry of id, nil if the ID is not in use.
func (t *Table[S, B]) Entry(id ID) *Entry[S, B] {
	if id >= t.highWater {
		return nil
	}
	e := t.slot(id)
	if e.State() == 0 {
		return nil
	}
	return e
}

// slot returns a slot below highWater.
func (t *Table[S, B]) slot(id ID) *Entry[S, B] {
	return &t.chunks[id/chunkSlots].Load()[id%chunkSlots]
}

// Arm sets the deadline of an entry, in place of an earlier one. A deadline in the
// past is due with the next [Tick]. O(1). It ignores an unused ID.
func (t *Table[S, B]) Arm(id ID, at time.Duration) {
	if t.Entry(id) != nil {
		t.wheel.arm(id, at)
	}
}

// Expire calls fire for each entry whose deadline has passed, after dropping the
// deadline. No deadline fires early, and none is missed if now is a [Tick] past it.
// They fire in order of their ticks, within a tick in any order.
//
// fire may insert, remove and arm any entry, its own too. What it arms waits for a
// later Expire, even if already due. It must not call Expire.
func (t *Table[S, B]) Expire(now time.Duration, fire func(ID)) { t.wheel.expire(now, fire) }

// NextDeadline returns when Expire should run next; ok is false if nothing is armed.
// It is never later than the earliest deadline rounded up to a [Tick]. It may be
// earlier: a far deadline takes a few calls, each 64 times closer. O(1).
func (t *Table[S, B]) NextDeadline() (at time.Duration, ok bool) { return t.wheel.next() }

// Has reports whether the flow of a row has not ended. It is for the owner.
func (t *Table[S, B]) Has(r *Row[S, B]) bool {
	e := t.Entry(r.ID)
	return e != nil && e.loadVersion().generation() == r.generation
}

// Len returns the number of entries. It is safe for concurrent use.
func (t *Table[S, B]) Len() int { return int(t.live.Load()) }

// Rows yields a copy of each entry, in no order. It is safe for concurrent use. Each
// row is of one flow alone. Flows that begin or end meanwhile may be missed; one that
// lives on is yielded exactly once.
func (t *Table[S, B]) Rows() iter.Seq[Row[S, B]] {
	return func(yield func(Row[S, B]) bool) {
		for i := range t.chunks {
			c := t.chunks[i].Load()
			if c == nil {
				return
			}
			for j := range c {
				if r, ok := c[j].row(ID(i*chunkSlots + j)); ok && !yield(r) {
					return
				}
			}
		}
	}
}
