package conntrack

import (
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

type (
	service struct{ number uint64 }
	backend struct{ number uint64 }
)

func testKey(n uint64) Key {
	client := netip.AddrFrom4([4]byte{10, byte(n >> 32), byte(n >> 24), byte(n >> 16)})
	local := netip.AddrFrom4([4]byte{127, 0, 0, byte(n % 3)})
	return NewKey(TCP, netip.AddrPortFrom(client, uint16(n)), netip.AddrPortFrom(local, 80))
}

func TestTableLife(t *testing.T) {
	t.Parallel()
	table := New[service, backend](10)
	s, b, k := &service{1}, &backend{2}, testKey(3)

	id, e := table.Insert(k, s, 5*time.Second)
	if e == nil || table.Entry(id) != e || table.Len() != 1 {
		t.Fatalf("Insert gave %d %p, Entry gives %p, Len %d", id, e, table.Entry(id), table.Len())
	}
	wantRow(t, table, Row[service, backend]{Key: k, Service: s, State: Connecting, Created: 5 * time.Second, Touched: 5 * time.Second})

	e.SetBackend(b)
	e.SetState(Established)
	e.CountUp(10, 6*time.Second)
	e.CountDown(1000, 8*time.Second)
	e.CountUp(1, 7*time.Second) // late: Touched stays
	e.SetState(0)               // ignored: only Remove ends a flow
	wantRow(t, table, Row[service, backend]{
		Key: k, Service: s, Backend: b, State: Established,
		Created: 5 * time.Second, Touched: 8 * time.Second, Up: 11, Down: 1000,
	})

	table.Arm(id, 9*time.Second)
	table.Remove(id)
	table.Remove(id)
	table.Arm(id, 9*time.Second)
	table.Disarm(id)
	if table.Entry(id) != nil || table.Len() != 0 {
		t.Errorf("after Remove: Entry gives %p, Len %d", table.Entry(id), table.Len())
	}
	for r := range table.Rows() {
		t.Errorf("after Remove: row %+v", r)
	}
	if at, ok := table.Next(); ok {
		t.Errorf("after Remove: Next gives %v", at)
	}
	if e.Service() != nil || e.Backend() != nil {
		t.Error("after Remove: service or backend still held")
	}

	// The slot is used again, and nothing of the former flow is left.
	again, e := table.Insert(testKey(4), s, 20*time.Second)
	if again != id {
		t.Errorf("Insert took slot %d, want %d, freed last", again, id)
	}
	wantRow(t, table, Row[service, backend]{Key: testKey(4), Service: s, State: Connecting, Created: 20 * time.Second, Touched: 20 * time.Second})
	table.Expire(time.Hour, func(ID) { t.Error("fired the deadline of a former flow") })
	if e.Key() != testKey(4) || e.Service() != s || e.Backend() != nil || e.State() != Connecting || e.Created() != 20*time.Second ||
		e.Touched() != 20*time.Second || e.Up() != 0 || e.Down() != 0 {
		t.Errorf("entry reads %v %v %v %v %v %v %d %d", e.Key(), e.Service(), e.Backend(), e.State(), e.Created(), e.Touched(), e.Up(), e.Down())
	}
}

func wantRow(t *testing.T, table *Table[service, backend], want Row[service, backend]) {
	t.Helper()
	rows := 0
	for r := range table.Rows() {
		if rows++; r != want {
			t.Errorf("row %+v, want %+v", r, want)
		}
	}
	if rows != 1 {
		t.Errorf("%d rows, want 1", rows)
	}
}

func TestTableCapacity(t *testing.T) {
	t.Parallel()
	for _, capacity := range []int{-1, 0, 1, 2, chunkSlots - 1, chunkSlots, chunkSlots + 1, 3*chunkSlots + 7} {
		table := New[service, backend](capacity)
		want := max(capacity, 0)
		for round := range 3 { // full, emptied, full again
			ids := make(map[ID]*Entry[service, backend])
			for {
				id, e := table.Insert(testKey(uint64(len(ids))), nil, 0)
				if e == nil {
					break
				}
				if ids[id] != nil || table.Entry(id) != e {
					t.Fatalf("capacity %d: id %d given twice, or not its entry", capacity, id)
				}
				ids[id] = e
				if len(ids) > want {
					t.Fatalf("capacity %d: holds more", capacity)
				}
			}
			if len(ids) != want || table.Len() != want {
				t.Errorf("capacity %d, round %d: full at %d, Len %d", capacity, round, len(ids), table.Len())
			}
			for id := range ids {
				table.Remove(id)
			}
			checkTable(t, table, 0)
		}
	}
}

func TestTableForeignIDs(t *testing.T) {
	t.Parallel()
	table := New[service, backend](chunkSlots * 2)
	table.Insert(testKey(1), nil, 0)
	for _, id := range []ID{1, chunkSlots, 2 * chunkSlots, 1 << 31, none} {
		if e := table.Entry(id); e != nil {
			t.Errorf("Entry(%d) is %p, want nil", id, e)
		}
		table.Arm(id, time.Second)
		table.Disarm(id)
		table.Remove(id)
	}
	if _, ok := table.Next(); ok || table.Len() != 1 {
		t.Errorf("armed: %v, Len %d, want only the one entry", ok, table.Len())
	}
	for range chunkSlots - 1 {
		table.Insert(testKey(1), nil, 0)
	}
	if e := table.Entry(chunkSlots); e != nil { // in a chunk that there is not yet
		t.Errorf("Entry(%d) is %p, want nil", chunkSlots, e)
	}
}

func TestRowsStopsEarly(t *testing.T) {
	t.Parallel()
	table := New[service, backend](1000)
	for n := range uint64(1000) {
		table.Insert(testKey(n), nil, 0)
	}
	rows := 0
	for range table.Rows() {
		if rows++; rows == 300 {
			break
		}
	}
	if rows != 300 {
		t.Errorf("%d rows, want 300", rows)
	}
}

// A flow of the plain model that the table is compared with.
type modelFlow struct {
	row   Row[service, backend]
	entry *Entry[service, backend]
	due   uint64 // tick; zero: not armed
}

// TestTableAgainstMap drives a table and a map with the same random operations.
func TestTableAgainstMap(t *testing.T) {
	t.Parallel()
	s := seed(t)
	for round, capacity := range []int{1, 5, 60, chunkSlots + 40} {
		random := rand.New(rand.NewPCG(s, uint64(round)))
		compareTable(t, random, capacity)
		if t.Failed() {
			t.Fatalf("with capacity %d", capacity)
		}
	}
}

func compareTable(t *testing.T, random *rand.Rand, capacity int) {
	table := New[service, backend](capacity)
	model := make(map[ID]*modelFlow)
	services := make([]service, 4)
	backends := make([]backend, 4)
	now := time.Duration(0)
	until := uint64(0)
	inserted := uint64(0)

	pick := func() (ID, *modelFlow) { // some flow, or nil
		skip := random.IntN(len(model) + 1)
		for id, f := range model {
			if skip == 0 {
				return id, f
			}
			skip--
		}
		return ID(random.Uint32()), nil // very likely not in use
	}
	span := func() time.Duration { return time.Duration(random.Uint64() >> (24 + random.IntN(40))) }
	insert := func() {
		inserted++
		k, s := testKey(inserted), &services[random.IntN(len(services))]
		id, e := table.Insert(k, s, now)
		if (e == nil) != (len(model) == capacity) {
			t.Fatalf("Insert gave %p with %d of %d in use", e, len(model), capacity)
		}
		if e == nil {
			return
		}
		if model[id] != nil {
			t.Fatalf("Insert gave %d, which is in use", id)
		}
		model[id] = &modelFlow{entry: e, row: Row[service, backend]{Key: k, Service: s, State: Connecting, Created: now, Touched: now}}
	}
	remove := func(id ID) {
		table.Remove(id)
		delete(model, id)
	}
	arm := func(id ID, f *modelFlow) {
		at := now - time.Second + span()
		table.Arm(id, at)
		if f != nil {
			f.due = max(until+1, uint64(max(at, 0)+Tick-1)/uint64(Tick))
		}
	}
	fire := func(id ID) {
		f := model[id]
		if f == nil || f.due == 0 || f.due > until {
			t.Fatalf("fired %d: %+v in tick %d", id, f, until)
		}
		f.due = 0
		switch random.IntN(6) {
		case 0:
			arm(id, f)
		case 1:
			remove(id)
			insert() // in the slot just freed
		case 2:
			other, _ := pick()
			remove(other)
		case 3:
			remove(id)
		}
	}

	for range repeat(3000) {
		id, f := pick()
		switch random.IntN(12) {
		case 0, 1, 2:
			insert()
		case 3:
			if random.IntN(2) == 0 {
				remove(id)
			}
		case 4, 5, 6:
			arm(id, f)
		case 7:
			table.Disarm(id)
			if f != nil {
				f.due = 0
			}
		case 8:
			now += span()
			until = max(until, uint64(now)/uint64(Tick))
			table.Expire(now, fire)
			for id, f := range model {
				if f.due != 0 && f.due <= until {
					t.Fatalf("%d, due in tick %d, has not fired in tick %d", id, f.due, until)
				}
			}
		case 9:
			if f != nil {
				f.row.Backend = &backends[random.IntN(len(backends))]
				f.entry.SetBackend(f.row.Backend)
			}
		case 10:
			if f != nil {
				state := State(random.IntN(int(Assured) + 1))
				f.entry.SetState(state)
				if state != 0 && state != Unreplied {
					f.row.State = state
				}
			}
		case 11:
			if f != nil {
				n, late := random.IntN(1<<20), now+span()/1000
				f.row.Touched = max(f.row.Touched, late)
				if random.IntN(2) == 0 {
					f.row.Up += uint64(n)
					f.entry.CountUp(n, late)
				} else {
					f.row.Down += uint64(n)
					f.entry.CountDown(n, late)
				}
			}
		}
		checkAgainstModel(t, table, model)
	}
}

func checkAgainstModel(t *testing.T, table *Table[service, backend], model map[ID]*modelFlow) {
	t.Helper()
	armed := 0
	want := make(map[Key]Row[service, backend], len(model))
	first := uint64(math.MaxUint64)
	for id, f := range model {
		if table.Entry(id) != f.entry {
			t.Fatalf("Entry(%d) is %p, want %p", id, table.Entry(id), f.entry)
		}
		want[f.row.Key] = f.row
		if f.due != 0 {
			armed++
			first = min(first, f.due)
		}
	}
	if next, ok := table.Next(); ok != (armed > 0) || ok && uint64(next) > first<<tickShift {
		t.Fatalf("Next gives %v %v with %d armed, the first in tick %d", next, ok, armed, first)
	}
	if table.Len() != len(model) {
		t.Fatalf("Len is %d, want %d", table.Len(), len(model))
	}
	got := make(map[Key]Row[service, backend], len(model))
	for r := range table.Rows() {
		got[r.Key] = r
	}
	if !maps.Equal(got, want) {
		t.Fatalf("rows\n%v\nwant\n%v", got, want)
	}
	checkTable(t, table, armed)
}

// checkTable checks that each slot that has begun is either in use or, once, in
// the list of free ones, and that no free slot is armed or holds anything.
func checkTable(t *testing.T, table *Table[service, backend], armed int) {
	t.Helper()
	free := make(map[ID]bool)
	for id := table.free; id != none; id = table.slot(id).next {
		e := table.slot(id)
		if free[id] || e.State() != 0 || e.Service() != nil || e.Backend() != nil || table.wheel.timer(id).due != 0 {
			t.Fatalf("slot %d is in the free list twice, or not free: %v %v %v", id, e.State(), e.Service(), e.Backend())
		}
		free[id] = true
	}
	for id := range table.begun {
		if table.slot(id).State() == 0 && !free[id] {
			t.Fatalf("slot %d is free, but not in the list", id)
		}
	}
	if len(free)+table.Len() != int(table.begun) || table.begun > table.capacity {
		t.Fatalf("%d free and %d in use make %d begun of %d", len(free), table.Len(), table.begun, table.capacity)
	}
	checkWheel(t, &table.wheel, armed)
}

// TestVersion: a version is followed by others of the same flow until the flow
// ends, and never by the flow after it.
func TestVersion(t *testing.T) {
	t.Parallel()
	table := New[service, backend](1)
	id, e := table.Insert(testKey(1), nil, 0)
	before := e.loadVersion()
	if !before.sameFlow(e.loadVersion()) {
		t.Error("not of its own flow")
	}
	e.SetState(Assured)
	e.SetBackend(&backend{})
	e.CountUp(1, 1)
	if after := e.loadVersion(); !before.sameFlow(after) || after.state() != Assured {
		t.Errorf("%#x: another flow than %#x, though only its state changed", after, before)
	}
	table.Remove(id)
	for i := range 1<<16 + 1 {
		if after := e.loadVersion(); before.sameFlow(after) {
			t.Fatalf("%#x: the same flow as %#x, though it has ended", after, before)
		}
		table.Insert(testKey(1), nil, 0)
		if after := e.loadVersion(); before.sameFlow(after) {
			t.Fatalf("%#x: the same flow as %#x, but is the %dth after it", after, before, i+1)
		}
		table.Remove(id)
	}
}

// TestRowsWhileOwnerChurns reads rows while the owner ends and begins flows in few
// slots. All words of a flow follow from its number, so that a row made of two
// flows shows.
func TestRowsWhileOwnerChurns(t *testing.T) {
	t.Parallel()
	churn(t, New[service, backend](1), 1)
	churn(t, New[service, backend](4), 4)
	churn(t, NewIndexed[service, backend](4), 4)
}

func churn(t *testing.T, table *Table[service, backend], slots int) {
	const readers = 2
	want := repeat(5000) // times that each reader meets a later flow than before
	var services [7]service
	var backends [5]backend
	var stop atomic.Bool
	var begun atomic.Uint64 // number of the flow begun last
	var owner, others sync.WaitGroup

	owner.Go(func() {
		ids := make([]ID, slots)
		for n := uint64(1); !stop.Load(); n++ {
			if n%64 == 0 {
				runtime.Gosched() // let the readers go on, if there are fewer CPUs than goroutines
			}
			i := n % uint64(slots)
			if n > uint64(slots) {
				table.Remove(ids[i])
			}
			begun.Store(n)
			id, e := table.Insert(testKey(n), &services[n%7], time.Duration(n))
			if e == nil {
				t.Errorf("full at flow %d", n)
				return
			}
			ids[i] = id
			if n/1024%2 == 0 {
				continue // short lives, that begin and end while one row is read
			}
			e.CountUp(int(n), time.Duration(2*n))
			e.SetBackend(&backends[n%5])
			table.Assure(id)
			e.SetState(Established)
			e.CountDown(int(n), time.Duration(3*n))
			e.CountUp(int(n), time.Duration(2*n))
			e.SetState(Closing)
		}
	})
	for range readers {
		others.Go(func() {
			last := uint64(0)
			for met := 0; met < want; runtime.Gosched() {
				from := begun.Load()
				for r := range table.Rows() {
					n := uint64(r.Created)
					if n > last {
						last = n
						met++
					}
					switch {
					case n < 1 || n > begun.Load():
						t.Errorf("row of flow %d, which has not begun: %+v", n, r)
					case n+uint64(slots) < from:
						t.Errorf("row of flow %d, which had ended before flow %d: %+v", n, from, r)
					case r.Key != testKey(n), r.Service != &services[n%7],
						r.Backend != nil && r.Backend != &backends[n%5],
						r.State != Connecting && r.State != Unreplied && r.State != Assured && r.State != Established && r.State != Closing,
						r.Touched != time.Duration(n) && r.Touched != time.Duration(2*n) && r.Touched != time.Duration(3*n),
						r.Up != 0 && r.Up != n && r.Up != 2*n,
						r.Down != 0 && r.Down != n:
						t.Errorf("row is not of flow %d alone: %+v", n, r)
					}
				}
				if l := table.Len(); l < 0 || l > slots {
					t.Errorf("Len is %d in a table of %d", l, slots)
				}
				if t.Failed() {
					return
				}
			}
		})
	}
	others.Wait()
	stop.Store(true)
	owner.Wait()
}

// TestCountersOfTwoGoroutines counts each direction in a goroutine of its own, as
// the portable engine does: no byte is lost.
func TestCountersOfTwoGoroutines(t *testing.T) {
	t.Parallel()
	const n = 50_000
	table := New[service, backend](1)
	_, e := table.Insert(testKey(1), nil, 0)
	var both sync.WaitGroup
	both.Go(func() {
		for i := range n {
			e.CountUp(3, time.Duration(i))
		}
	})
	both.Go(func() {
		for i := range n {
			e.CountDown(5, time.Duration(i))
		}
	})
	both.Wait()
	if e.Up() != 3*n || e.Down() != 5*n {
		t.Errorf("up %d, down %d, want %d and %d", e.Up(), e.Down(), 3*n, 5*n)
	}
	if e.Touched() < 0 || e.Touched() >= n {
		t.Errorf("touched at %v, at no time of either", e.Touched())
	}
}

// TestMemoryPerEntry holds the table to EntryBytes, in its types and in the heap.
// It is not parallel, so that no other test allocates meanwhile.
func TestMemoryPerEntry(t *testing.T) {
	size := unsafe.Sizeof(Entry[service, backend]{}) + unsafe.Sizeof(timer{})
	if size > EntryBytes || unsafe.Sizeof(uintptr(0)) == 8 && size != EntryBytes {
		t.Errorf("entry and timer take %d bytes, EntryBytes is %d", size, EntryBytes)
	}
	const n = 20 * chunkSlots
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	table := New[service, backend](n)
	runtime.ReadMemStats(&after)
	if empty := after.TotalAlloc - before.TotalAlloc; empty > n {
		t.Errorf("an empty table for %d entries takes %d bytes", n, empty)
	}
	for i := range uint64(n) {
		id, _ := table.Insert(testKey(i), nil, 0)
		table.Arm(id, time.Duration(i)*time.Second)
	}
	runtime.ReadMemStats(&after)
	if each := float64(after.TotalAlloc-before.TotalAlloc) / n; each > EntryBytes+1 {
		t.Errorf("a full table takes %.1f bytes an entry, EntryBytes is %d", each, EntryBytes)
	}
	runtime.KeepAlive(table)
}

func TestNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	table := New[service, backend](1000)
	s, b := &service{}, &backend{}
	now := time.Duration(0)
	var id ID
	var e *Entry[service, backend]
	fired := 0
	fire := func(id ID) { fired++; table.Arm(id, now+time.Minute) }
	client, local := netip.MustParseAddrPort("192.0.2.1:40000"), netip.MustParseAddrPort("[2001:db8::1]:80")
	flow := func() {
		now += 10 * time.Second
		id, e = table.Insert(NewKey(TCP, client, local), s, now)
		table.Arm(id, now+5*time.Second)
		e.SetBackend(b)
		e.SetState(Established)
		table.Arm(id, now+time.Minute)
		e.CountUp(100, now)
		e.CountDown(100, now)
		now += time.Minute + Tick
		table.Next()
		table.Expire(now, fire)
		table.Disarm(id)
		table.Remove(id)
	}
	flow() // the first one allocates a chunk
	if n := testing.AllocsPerRun(500, flow); n != 0 {
		t.Errorf("a flow allocates %v times", n)
	}
	if fired < 500 {
		t.Errorf("%d deadlines fired, want one a flow", fired)
	}
}
