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
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random tests, to replay one that failed; 0: a new one")

// seed returns the seed of a random test, which a failing test prints.
func seed(t *testing.T) uint64 {
	s := *seedFlag
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("replay with -seed=%d", s)
	return s
}

// repeat returns n, or a tenth of it under the race detector, which makes these
// tests many times slower and needs no more to see a race.
func repeat(n int) int {
	if raceEnabled {
		return n / 10
	}
	return n
}

func TestWheelFires(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	// Each deadline, armed when the wheel stands at from, fires at want and not
	// a nanosecond before.
	for _, tc := range []struct{ from, at, want time.Duration }{
		{0, 0, Tick},
		{0, -time.Hour, Tick},
		{0, 1, Tick},
		{0, Tick - 1, Tick},
		{0, Tick, Tick},
		{0, Tick + 1, 2 * Tick},
		{0, 63 * Tick, 63 * Tick},
		{0, 64 * Tick, 64 * Tick},
		{0, 64*Tick + 1, 65 * Tick},
		{0, 4096 * Tick, 4096 * Tick},
		{63 * Tick, 64 * Tick, 64 * Tick},
		{64*Tick - 1, 64 * Tick, 64 * Tick},
		{64 * Tick, 64 * Tick, 65 * Tick},
		{4095 * Tick, 4096*Tick - 1, 4096 * Tick},
		{4095*Tick + 5, 4097 * Tick, 4097 * Tick},
		{1<<18*Tick - 1, 1 << 18 * Tick, 1 << 18 * Tick},
		{7 * day, 5 * day, roundUp(7*day + 1)},
		{7 * day, 7*day + 5*time.Minute, roundUp(7*day + 5*time.Minute)},
		{0, 432000 * time.Second, roundUp(432000 * time.Second)},
		{0, 200 * 365 * day, roundUp(200 * 365 * day)},
	} {
		w := newWheel(1)
		w.grow()
		w.expire(tc.from, func(ID) { t.Fatal("nothing was armed") })
		w.arm(7, tc.at)
		fired := 0
		fire := func(id ID) {
			if id != 7 {
				t.Errorf("%v: fired %d, want 7", tc, id)
			}
			fired++
		}
		if w.expire(tc.want-1, fire); fired != 0 {
			t.Errorf("from %v, at %v: fired early", tc.from, tc.at)
		}
		if next, ok := w.next(); !ok || next > tc.want {
			t.Errorf("from %v, at %v: next is %v %v, want at most %v", tc.from, tc.at, next, ok, tc.want)
		}
		if w.expire(tc.want, fire); fired != 1 {
			t.Errorf("from %v, at %v: fired %d times at %v, want once", tc.from, tc.at, fired, tc.want)
		}
		if next, ok := w.next(); ok {
			t.Errorf("from %v, at %v: next is %v after all has fired", tc.from, tc.at, next)
		}
		checkWheel(t, &w, 0)
	}
}

func roundUp(d time.Duration) time.Duration { return (d + Tick - 1) / Tick * Tick }

// TestWheelEndOfTime: "never" is a deadline like any other, and does not overflow.
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

// TestWheelNext: whoever sleeps until Next and then calls Expire meets a deadline
// in its tick, with no more wake-ups than there are levels.
func TestWheelNext(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{Tick, time.Second, time.Minute, time.Hour, 432000 * time.Second, 100 * 365 * 24 * time.Hour} {
		w := newWheel(1)
		w.grow()
		start := 12345678 * Tick
		w.expire(start, func(ID) {})
		w.arm(0, start+d)
		fired, now := false, start
		for wakes := 1; !fired; wakes++ {
			next, ok := w.next()
			if !ok || next <= now {
				t.Fatalf("%v: next is %v %v at %v", d, next, ok, now)
			}
			if wakes > levels {
				t.Fatalf("%v: woken %d times", d, wakes)
			}
			now = next
			w.expire(now, func(ID) { fired = true })
		}
		if want := roundUp(start + d); now != want {
			t.Errorf("%v: fired at %v, want %v", d, now, want)
		}
	}
}

// TestWheelSome: what is due fires in its order a few timers at a time, however
// few, and no call sees to more.
func TestWheelSome(t *testing.T) {
	t.Parallel()
	const n = chunkSlots
	for _, most := range []int{1, 2, 7, 100, n} {
		w := newWheel(1)
		w.grow()
		for id := range ID(n) {
			w.arm(id, time.Duration(id/4)*time.Second) // four in each tick, on four levels
		}
		var fired []ID
		now := time.Duration(n/4) * time.Second
		calls := 1
		for ; ; calls++ {
			before := len(fired)
			done := w.expireSome(now, most, func(id ID) { fired = append(fired, id) })
			checkWheel(t, &w, n-len(fired))
			if len(fired)-before > most {
				t.Fatalf("at most %d: fired %d", most, len(fired)-before)
			}
			if done {
				break
			}
			if calls > levels*n {
				t.Fatalf("at most %d: not done after %d calls", most, calls)
			}
		}
		if len(fired) != n || !slices.IsSortedFunc(fired, func(a, b ID) int { return cmp.Compare(a/4, b/4) }) {
			t.Errorf("at most %d: fired %d, want %d in order: %d", most, len(fired), n, fired)
		}
		if most == n && calls < 2 {
			t.Errorf("at most %d: done in one call, though timers have to move down first", most)
		}
	}
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

// compareWheel reads operations from ops and carries them out on a wheel and on a
// sorted list of deadlines, until ops is used up.
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
		if ok && (w.halfway < 0 && uint64(next)>>tickShift <= until && next != math.MaxInt64 || uint64(next) > list[0].due<<tickShift) {
			t.Fatalf("next is %v in tick %d, the first deadline is %+v", next, until, list[0])
		}
	}
}

// checkWheel checks that every timer lies in the list where it belongs, and that
// the lists hold exactly those that are armed. Halfway, some may be due now, and
// the list that was not finished holds what has not moved down yet.
func checkWheel(t *testing.T, w *wheel, armed int) {
	t.Helper()
	if w.earliest <= w.now || w.halfway < 0 && w.earliest != w.now+1 {
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
			if at.due < w.now || at.due == w.now && w.halfway < 0 {
				t.Fatalf("slot %d: timer %d was due in tick %d, now is %d", slot, id, at.due, w.now)
			}
			if want := (bits.Len64(at.due^w.now|1) - 1) / levelBits; level != want && slot != w.halfway {
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
