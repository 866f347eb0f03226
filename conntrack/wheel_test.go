package conntrack

import (
	"cmp"
	"flag"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"usher/internal/race"
)

var seedFlag = flag.Uint64("seed", 1, "seed of the random tests; 0: a new one for each run")

// seed returns the seed of a random test, which a failing test prints.
func seed(t *testing.T) uint64 {
	s := *seedFlag
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("replay with -seed=%d", s)
	return s
}

// repeat returns n, or a tenth of it under the race detector.
func repeat(n int) int {
	if race.Enabled {
		return n / 10
	}
	return n
}

func roundUp(d time.Duration) time.Duration { return (d + Tick - 1) / Tick * Tick }

// The latest deadline does not overflow.
func TestWheelEndOfTime(t *testing.T) {
	t.Parallel()
	w := newWheel(1)
	w.grow()
	w.arm(0, math.MaxInt64)
	for range levels {
		next, ok := w.next()
		if !ok || next < 0 {
			t.Fatalf("next is %v %v", next, ok)
		}
		w.expire(next, func(ID) { t.Error("fired before the last tick was over") })
	}
	checkWheel(t, &w, 1)
	w.disarm(0)
	checkWheel(t, &w, 0)
}

// TestWheelAgainstSortedList drives a wheel and a sorted list with the same
// random operations.
func TestWheelAgainstSortedList(t *testing.T) {
	t.Parallel()
	s := seed(t)
	for round := range uint64(repeat(50)) {
		random := rand.New(rand.NewPCG(s, round))
		ops := make([]byte, 8000)
		for i := range ops {
			ops[i] = byte(random.Uint32())
		}
		compareWheel(t, ops)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
}

func FuzzWheel(f *testing.F) {
	f.Add([]byte{0, 1, 30, 1, 3, 31, 0})                             // arm, pass it
	f.Add([]byte{0, 1, 40, 200, 0, 1, 20, 1, 1, 1, 3, 63, 255})      // arm, arm again, disarm
	f.Add([]byte{0, 1, 50, 9, 0, 2, 50, 9, 4, 4, 4, 4, 4, 1, 2, 30}) // sleep until Next
	f.Add([]byte{2, 1, 0, 2, 2, 63, 255, 3, 63, 255, 3, 63, 255})    // the end of time
	f.Fuzz(func(t *testing.T, ops []byte) { compareWheel(t, ops[:min(len(ops), 1<<14)]) })
}

// A deadline of the sorted list that the wheel is compared with.
type deadline struct {
	id  ID
	at  time.Duration
	due uint64 // tick in which it has to fire
}

// compareWheel runs operations on a wheel and on a sorted list of deadlines.
func compareWheel(t *testing.T, ops []byte) {
	const ids = chunkSlots + 10 // in two chunks
	w := newWheel(2)
	w.grow()
	w.grow()
	var (
		list  []deadline // sorted by due
		now   time.Duration
		until uint64 // tick up to which all has fired, or is about to
	)
	take := func() byte {
		if len(ops) == 0 {
			return 0
		}
		b := ops[0]
		ops = ops[1:]
		return b
	}
	takeID := func() ID { return ID(take()) * ids / 256 }
	// Spans of every magnitude, up to all of a Duration.
	takeSpan := func() time.Duration {
		magnitude, fraction := take()%64, time.Duration(take())
		return min((1<<magnitude-1)&math.MaxInt64/256*fraction+fraction, math.MaxInt64-now)
	}
	disarm := func(id ID) {
		w.disarm(id)
		list = slices.DeleteFunc(list, func(d deadline) bool { return d.id == id })
	}
	arm := func(id ID, at time.Duration) {
		w.arm(id, at)
		list = slices.DeleteFunc(list, func(d deadline) bool { return d.id == id })
		due := uint64(at) / uint64(Tick)
		if at%Tick != 0 {
			due++
		}
		d := deadline{id, at, max(due, until+1)}
		i, _ := slices.BinarySearchFunc(list, d, func(a, b deadline) int { return cmp.Compare(a.due, b.due) })
		list = slices.Insert(list, i, d)
	}
	fire := func(id ID) {
		i := slices.IndexFunc(list, func(d deadline) bool { return d.id == id })
		switch {
		case i < 0:
			t.Fatalf("fired %d, which is not armed", id)
		case list[i].at > now:
			t.Fatalf("fired %+v early, at %v", list[i], now)
		case list[i].due != list[0].due:
			t.Fatalf("fired %+v before %+v", list[i], list[0])
		case list[i].due > until:
			t.Fatalf("fired %+v in tick %d", list[i], until)
		}
		list = slices.Delete(list, i, i+1)
		switch take() % 8 {
		case 0:
			arm(id, now+takeSpan())
		case 1:
			arm(id, now/2) // long past: must wait for the next call all the same
		case 2:
			disarm(takeID()) // perhaps one that is about to fire
		case 3:
			arm(takeID(), now+takeSpan())
		}
	}
	expire := func(to time.Duration, most int) {
		now = to
		until = max(until, uint64(now)/uint64(Tick))
		fired := 0
		done := w.expireSome(now, most, func(id ID) {
			fired++
			fire(id)
		})
		if fired > most {
			t.Fatalf("fired %d at once, want %d at most", fired, most)
		}
		if done && len(list) > 0 && list[0].due <= until {
			t.Fatalf("%+v has not fired in tick %d", list[0], until)
		}
	}
	for len(ops) > 0 {
		switch take() % 8 {
		case 0, 1:
			arm(takeID(), now+takeSpan())
		case 2:
			disarm(takeID())
		case 3:
			expire(now+takeSpan(), math.MaxInt)
		case 4:
			if next, ok := w.next(); ok {
				expire(max(next, now), math.MaxInt)
			}
		case 5:
			arm(takeID(), now/4*3)
		case 6: // a few at a time
			expire(now+takeSpan(), int(take()%8))
		case 7:
			expire(now, int(take()%8))
		}
		checkWheel(t, &w, len(list))
		next, ok := w.next()
		if ok != (len(list) > 0) {
			t.Fatalf("next is %v %v with %d armed", next, ok, len(list))
		}
		if ok && (w.partial < 0 && uint64(next)>>tickShift <= until && next != math.MaxInt64 || uint64(next) > list[0].due<<tickShift) {
			t.Fatalf("next is %v in tick %d, the first deadline is %+v", next, until, list[0])
		}
	}
}

// checkWheel checks that each armed timer is in its list, and no other. After a partial
// expiry some may be due now, and the unfinished list holds what has not cascaded.
func checkWheel(t *testing.T, w *wheel, armed int) {
	t.Helper()
	if w.earliest <= w.now || w.partial < 0 && w.earliest != w.now+1 {
		t.Fatalf("earliest is %d at %d", w.earliest, w.now)
	}
	linked := 0
	for slot, head := range w.heads {
		level := slot / levelSlots
		if occupied := w.occupied[level]>>(slot%levelSlots)&1 != 0; occupied != (head != none) {
			t.Fatalf("slot %d: head %d, but occupied is %v", slot, head, occupied)
		}
		prev := headMark | ID(slot)
		for id := head; id != none; id = w.timer(id).next {
			at := w.timer(id)
			if at.prev != prev {
				t.Fatalf("slot %d: timer %d has %#x before it, want %#x", slot, id, at.prev, prev)
			}
			if at.due < w.now || at.due == w.now && w.partial < 0 {
				t.Fatalf("slot %d: timer %d was due in tick %d, now is %d", slot, id, at.due, w.now)
			}
			if want := (bits.Len64(at.due^w.now|1) - 1) / levelBits; level != want && slot != w.partial {
				t.Fatalf("timer %d due in tick %d lies on level %d, want %d at %d", id, at.due, level, want, w.now)
			}
			if want := int(at.due >> (level * levelBits) % levelSlots); slot%levelSlots != want {
				t.Fatalf("timer %d due in tick %d lies in slot %d, want %d", id, at.due, slot%levelSlots, want)
			}
			prev = id
			linked++
		}
	}
	due := 0
	for _, c := range w.timers {
		for i := range c {
			if c[i].due != 0 {
				due++
			}
		}
	}
	if linked != armed || due != armed {
		t.Fatalf("%d timers are linked and %d due, want %d of both", linked, due, armed)
	}
}
