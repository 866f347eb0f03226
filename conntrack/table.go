package conntrack

import (
	"iter"
	"math"
	"sync/atomic"
	"time"
	"unsafe"
)

// ID is the slot of an entry. It is valid until Remove and reused afterwards.
type ID uint32

const (
	// MaxCapacity is the most entries that a table can hold: the upper half of
	// the IDs is the wheel's own.
	MaxCapacity = math.MaxInt32

	// EntryBytes is what an entry costs on a 64-bit system: 96 bytes in the
	// table and 16 in the timer wheel. The directories of chunks add a
	// thirty-second of a byte. An indexed table costs IndexedBytes more.
	EntryBytes = 112

	// Slots are allocated this many at a time: 48 KiB and 8 KiB, which the Go heap
	// rounds up to no more (24 KiB would grow by a header, and to the next class).
	chunkSlots = 512

	none ID = math.MaxUint32 // no slot
)

// An entry that outgrows EntryBytes does not compile.
const _ = EntryBytes - unsafe.Sizeof(Entry[int, int]{}) - unsafe.Sizeof(timer{})

// Table holds the flows of one worker. [New] makes one whose entries are found by
// their IDs alone, [NewIndexed] one that finds them by their keys as well.
//
// Exactly one goroutine at a time, the owner, may call the methods, but for Len
// and Rows, which any goroutine may call at any time. S is what a flow belongs
// to (a service), B what it was given (a backend); the table only carries them
// and forgets them when the entry is removed.
//
// Memory follows the most flows that there ever were at once, in chunks that
// never move and are not given back.
type Table[S, B any] struct {
	chunks   []atomic.Pointer[chunk[S, B]] // filled from the front
	capacity ID
	begun    ID // slots below this one have been in use
	free     ID // the slot freed last, whose cache lines are the warmest; none: all begun ones are in use
	live     atomic.Int64
	wheel    wheel
	indexed  *indexed[S] // nil: entries are found by ID alone
}

type chunk[S, B any] [chunkSlots]Entry[S, B]

// New returns an empty table for at most capacity entries, itself at most
// [MaxCapacity]. With a capacity of zero or less it is always full.
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

// Insert begins a flow at now: state Connecting, in an indexed table Unreplied, no
// backend, counters zero, no deadline. The entry is nil if the table is full. The
// same key may be inserted more than once.
func (t *Table[S, B]) Insert(k Key, s *S, now time.Duration) (ID, *Entry[S, B]) {
	id := t.free
	if id == none {
		if t.begun == t.capacity {
			return none, nil
		}
		id = t.begun
		if id%chunkSlots == 0 {
			t.chunks[id/chunkSlots].Store(new(chunk[S, B]))
			t.wheel.grow()
			if t.indexed != nil {
				t.indexed.grow()
			}
		}
		t.begun++
		t.slot(id).next = none
	}
	e := t.slot(id)
	t.free = e.next
	state := Connecting
	if t.indexed != nil {
		state = Unreplied
		t.indexed.enter(id, k, s)
	}
	e.begin(k, s, state, now)
	t.live.Store(t.live.Load() + 1)
	return id, e
}

// Remove ends a flow and drops its deadline. An id that is not in use is ignored.
func (t *Table[S, B]) Remove(id ID) {
	e := t.Entry(id)
	if e == nil {
		return
	}
	t.wheel.disarm(id)
	if t.indexed != nil {
		t.indexed.leave(id, e.Service(), e.State())
	}
	e.end()
	e.next, t.free = t.free, id
	t.live.Store(t.live.Load() - 1)
}

// Entry returns the entry of id, nil if the id is not in use.
func (t *Table[S, B]) Entry(id ID) *Entry[S, B] {
	if id >= t.begun {
		return nil
	}
	e := t.slot(id)
	if e.State() == 0 {
		return nil
	}
	return e
}

// slot returns a slot that has begun.
func (t *Table[S, B]) slot(id ID) *Entry[S, B] {
	return &t.chunks[id/chunkSlots].Load()[id%chunkSlots]
}

// Arm sets the deadline of an entry, in place of an earlier one. A deadline that
// has passed already is due with the next [Tick]. O(1). An id that is not in use
// is ignored.
func (t *Table[S, B]) Arm(id ID, at time.Duration) {
	if t.Entry(id) != nil {
		t.wheel.arm(id, at)
	}
}

// Disarm drops the deadline of an entry, if it has one. O(1). An id that is not
// in use is ignored.
func (t *Table[S, B]) Disarm(id ID) {
	if t.Entry(id) != nil {
		t.wheel.disarm(id)
	}
}

// Expire calls fire for each entry whose deadline has passed, the deadline
// dropped before the call. No deadline fires early, and none is passed over if
// now is a [Tick] past it. They fire in order of their ticks, within one tick in
// any order.
//
// fire may arm, disarm and remove any entry, its own too, and insert new ones;
// what it arms waits for a later Expire, even if due already. It must not call
// Expire.
func (t *Table[S, B]) Expire(now time.Duration, fire func(ID)) { t.wheel.expire(now, fire) }

// Next returns when Expire should run next; ok is false if nothing is armed. It
// is never later than the earliest deadline rounded up to a [Tick], and may be
// earlier: a far deadline takes a few calls to come near, each one closer by a
// factor of 64. O(1).
func (t *Table[S, B]) Next() (at time.Duration, ok bool) { return t.wheel.next() }

// Len returns the number of entries. Any goroutine may call it.
func (t *Table[S, B]) Len() int { return int(t.live.Load()) }

// Rows yields a copy of each entry, in no order that means anything. Any
// goroutine may call it, and take its time. Each row is of one flow alone, but
// rows are copied at different times: what begins or ends meanwhile may be
// missed, and what lives on is yielded exactly once.
func (t *Table[S, B]) Rows() iter.Seq[Row[S, B]] {
	return func(yield func(Row[S, B]) bool) {
		for i := range t.chunks {
			c := t.chunks[i].Load()
			if c == nil {
				return
			}
			for j := range c {
				if r, ok := c[j].row(); ok && !yield(r) {
					return
				}
			}
		}
	}
}
