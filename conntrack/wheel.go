package conntrack

import (
	"math"
	"math/bits"
	"time"
)

// Tick is the resolution of deadlines: 2^23 ns, about 8.4 ms. A deadline fires at the
// first multiple of Tick that is not before it.
const Tick = time.Duration(1) << tickShift

const (
	tickShift  = 23
	levelBits  = 6
	levelSlots = 1 << levelBits

	// A Duration has 2^40 ticks, and seven levels of six bits cover them all.
	levels = 7

	headMark ID = 1 << 31
)

// wheel is a hierarchical timer wheel (Varghese and Lauck, 1987) over the slots of a
// table. A wheel slot of level 0 holds the timers of one tick, one of level n those
// of 64^n ticks.
//
// A timer is on the level of the highest group of six bits in which its due tick
// differs from now. So all timers of a level are due before those of higher levels,
// and nothing wraps around: the first occupied slot of the first occupied level is
// next. When now reaches a slot of a higher level, its timers cascade down. That may
// take several calls; until the slot's list is empty, now stays at its beginning.
//
// The timers of a slot are a list linked through their IDs, without allocation.
type wheel struct {
	now      uint64 // tick: all timers due until then have fired, unless partial is set
	earliest uint64 // tick: new timers are due at this one or later
	partial  int    // the slot at now whose list is not finished; -1: none

	occupied [levels]uint64          // one bit per slot: its list is not empty
	heads    [levels * levelSlots]ID // of each slot's list, or none
	timers   []*[chunkSlots]timer    // by ID, in chunks like the table's
}

type timer struct {
	prev ID     // in its list; of the head: headMark and the number of the slot
	next ID     // in its list, or none
	due  uint64 // tick; zero: not armed
}

// newWheel returns a wheel that may grow to so many chunks.
func newWheel(chunks int) wheel {
	w := wheel{earliest: 1, partial: -1, timers: make([]*[chunkSlots]timer, 0, chunks)}
	for i := range w.heads {
		w.heads[i] = none
	}
	return w
}

// grow adds the timers of one more chunk of slots.
func (w *wheel) grow() { w.timers = append(w.timers, new([chunkSlots]timer)) }

func (w *wheel) timer(id ID) *timer { return &w.timers[id/chunkSlots][id%chunkSlots] }

// ticks rounds up. The sum fits 64 bits without a sign.
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

// armNoLater arms a timer unless it already fires by then.
func (w *wheel) armNoLater(id ID, at time.Duration) {
	if due := w.timer(id).due; due == 0 || due > ticks(at) {
		w.arm(id, at)
	}
}

// expire advances now to the tick of at and calls fire for each timer due until then.
// What fire arms is due after that tick, so the lists being fired cannot grow.
func (w *wheel) expire(at time.Duration, fire func(ID)) { w.expireSome(at, math.MaxInt, fire) }

// expireSome is expire for up to limit timers, including those that only cascade. It
// reports whether all due ones are done; if not, a later call continues.
func (w *wheel) expireSome(at time.Duration, limit int, fire func(ID)) (done bool) {
	until := uint64(max(at, 0)) >> tickShift
	if until < w.now || until == w.now && w.partial < 0 {
		return true
	}
	w.earliest = until + 1
	for {
		tick, slot, ok := w.first()
		w.partial = -1
		if !ok || tick > until {
			break
		}
		w.now = tick
		for id := w.heads[slot]; id != none; id = w.heads[slot] {
			if limit == 0 {
				w.partial = slot
				return false
			}
			limit--
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
	// The tick after the last whole one of a Duration begins beyond its range.
	return time.Duration(min(tick<<tickShift, math.MaxInt64)), ok
}

// first returns the next occupied slot and the tick at which it begins.
func (w *wheel) first() (tick uint64, slot int, ok bool) {
	// What is left in a higher slot may be due before what cascaded from it.
	if w.partial >= levelSlots && w.heads[w.partial] != none {
		return w.now, w.partial, true
	}
	for level, set := range w.occupied {
		if set != 0 {
			i := bits.TrailingZeros64(set)
			shift := level * levelBits
			turn := w.now >> (shift + levelBits) << levelBits // the level's slots before its present turn
			return (turn | uint64(i)) << shift, level*levelSlots + i, true
		}
	}
	return 0, 0, false
}

// link puts a timer in front of the list of its due tick.
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
