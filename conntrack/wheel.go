package conntrack

import (
	"math"
	"math/bits"
	"time"
)

// Tick is the grain of deadlines: 2^23 ns, about 8.4 ms. A deadline fires at the
// first multiple of Tick that is not before it.
const Tick = time.Duration(1) << tickShift

const (
	tickShift  = 23
	levelBits  = 6
	levelSlots = 1 << levelBits

	// A Duration holds 2^40 ticks. Seven levels of six bits reach beyond that,
	// so no deadline is too far for the wheel.
	levels = 7

	headMark ID = 1 << 31
)

// wheel is a hierarchical timer wheel over the slots of a table. A slot of level
// 0 holds the timers of one tick, a slot of level n those of 64^n ticks.
//
// A timer lies on the level of the highest group of six bits in which its due
// tick differs from now. So the timers of a level are all due before those of
// the levels above, and all in slots after now's own: nothing wraps around, and
// the first occupied slot of the first occupied level comes next. When now
// reaches a slot of a higher level, its timers move down to where they then
// belong, at most once a level. That may be done a few at a time: until the list
// of such a slot is empty, now stays where the slot begins.
//
// The timers of a slot are a list, linked through their IDs: no allocation, and
// O(1) to join and leave.
type wheel struct {
	now      uint64 // tick: all timers due until then have fired, unless halfway
	earliest uint64 // tick: none may be armed for one before; now+1, during expire and halfway later
	halfway  int    // the slot that begins at now and whose list was not finished; -1: none

	occupied [levels]uint64          // a bit a slot: its list is not empty
	heads    [levels * levelSlots]ID // of each slot's list, or none
	timers   []*[chunkSlots]timer    // by ID, in chunks as the table's
}

type timer struct {
	prev ID     // in its list; the head's holds headMark and the number of the slot
	next ID     // in its list, or none
	due  uint64 // tick; zero: not armed
}

// newWheel returns a wheel that may grow by so many chunks.
func newWheel(chunks int) wheel {
	w := wheel{earliest: 1, halfway: -1, timers: make([]*[chunkSlots]timer, 0, chunks)}
	for i := range w.heads {
		w.heads[i] = none
	}
	return w
}

// grow adds the timers of one more chunk of slots.
func (w *wheel) grow() { w.timers = append(w.timers, new([chunkSlots]timer)) }

func (w *wheel) timer(id ID) *timer { return &w.timers[id/chunkSlots][id%chunkSlots] }

// ticks rounds up; the sum cannot overflow 64 bits without a sign.
func ticks(at time.Duration) uint64 { return (uint64(max(at, 0)) + uint64(Tick) - 1) >> tickShift }

func (w *wheel) arm(id ID, at time.Duration) {
	due := max(w.earliest, ticks(at))
	t := w.timer(id)
	if t.due == due {
		return
	}
	if t.due != 0 {
		w.unlink(t)
	}
	t.due = due
	w.link(id, t)
}

func (w *wheel) disarm(id ID) {
	if t := w.timer(id); t.due != 0 {
		w.unlink(t)
		t.due = 0
	}
}

// armBy arms a timer unless it fires by then already.
func (w *wheel) armBy(id ID, at time.Duration) {
	if due := w.timer(id).due; due == 0 || due > ticks(at) {
		w.arm(id, at)
	}
}

// expire moves now to the tick of at and calls fire for what is due until then.
// All that fire arms lies after that tick, so neither the list being fired nor
// the loop can grow under it.
func (w *wheel) expire(at time.Duration, fire func(ID)) { w.expireSome(at, math.MaxInt, fire) }

// expireSome is expire for at most so many timers, those that only move down
// included. It reports whether nothing is left to do; else a later call carries
// on where this one stopped.
func (w *wheel) expireSome(at time.Duration, most int, fire func(ID)) (done bool) {
	until := uint64(max(at, 0)) >> tickShift
	if until < w.now || until == w.now && w.halfway < 0 {
		return true
	}
	w.earliest = until + 1
	for {
		tick, slot, ok := w.first()
		w.halfway = -1
		if !ok || tick > until {
			break
		}
		w.now = tick
		for id := w.heads[slot]; id != none; id = w.heads[slot] {
			if most == 0 {
				w.halfway = slot
				return false
			}
			most--
			if slot < levelSlots {
				w.disarm(id)
				fire(id)
			} else {
				t := w.timer(id)
				w.unlink(t)
				w.link(id, t)
			}
		}
	}
	w.now = until
	return true
}

func (w *wheel) next() (at time.Duration, ok bool) {
	tick, _, ok := w.first()
	// The tick after the last whole one of a Duration begins just past its end.
	return time.Duration(min(tick<<tickShift, math.MaxInt64)), ok
}

// first returns the occupied slot that comes next, and the tick at which it begins.
func (w *wheel) first() (tick uint64, slot int, ok bool) {
	// What is left in a higher slot may be due before what has moved down from it.
	if w.halfway >= levelSlots && w.heads[w.halfway] != none {
		return w.now, w.halfway, true
	}
	for level, set := range w.occupied {
		if set != 0 {
			i := bits.TrailingZeros64(set)
			shift := level * levelBits
			turn := w.now >> (shift + levelBits) << levelBits // slots of this level before its present turn
			return (turn | uint64(i)) << shift, level*levelSlots + i, true
		}
	}
	return 0, 0, false
}

// link puts a timer in front of the list that its due tick belongs to.
func (w *wheel) link(id ID, t *timer) {
	level := (bits.Len64((t.due^w.now)|(levelSlots-1)) - 1) / levelBits
	slot := level*levelSlots + int(t.due>>(level*levelBits)%levelSlots)
	t.prev = headMark | ID(slot)
	t.next = w.heads[slot]
	if t.next != none {
		w.timer(t.next).prev = id
	}
	w.setHead(slot, id)
}

func (w *wheel) unlink(t *timer) {
	if t.prev&headMark != 0 {
		w.setHead(int(t.prev&^headMark), t.next)
	} else {
		w.timer(t.prev).next = t.next
	}
	if t.next != none {
		w.timer(t.next).prev = t.prev
	}
}

func (w *wheel) setHead(slot int, id ID) {
	w.heads[slot] = id
	bit := uint64(1) << (slot % levelSlots)
	if id == none {
		w.occupied[slot/levelSlots] &^= bit
	} else {
		w.occupied[slot/levelSlots] |= bit
	}
}
