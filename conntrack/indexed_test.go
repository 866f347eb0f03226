package conntrack

import (
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"
)

// clientKey returns the key of a flow from the nth client of many, which all ask
// for the same address.
func clientKey(n uint64, port uint16) Key {
	client := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	local := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	return NewKey(UDP, netip.AddrPortFrom(client, port), netip.AddrPortFrom(local, 53))
}

func TestIndexedLife(t *testing.T) {
	t.Parallel()
	table := NewIndexed[service, backend](10)
	s, unused, k := &service{1}, &service{2}, clientKey(1, 40000)

	wantOldest := func(want ID) {
		t.Helper()
		id, ok := table.OldestUnreplied()
		of, okOf := table.OldestUnrepliedOf(s)
		if id != want || ok != (want != none) || of != id || okOf != ok {
			t.Errorf("the oldest unreplied is %d %v, of its service %d %v, want %d", id, ok, of, okOf, want)
		}
		if id, ok := table.OldestUnrepliedOf(unused); ok {
			t.Errorf("the oldest unreplied of a service without flows is %d", id)
		}
	}
	if id, e := table.Lookup(k); e != nil {
		t.Errorf("Lookup in an empty table gives %d", id)
	}
	wantOldest(none)
	id, e := table.Insert(k, s, time.Second)
	second, _ := table.Insert(clientKey(1, 40001), s, 2*time.Second)
	if got, found := table.Lookup(k); got != id || found != e {
		t.Errorf("Lookup gives %d %p, want %d %p", got, found, id, e)
	}

	// Only Assure takes a flow out of the unreplied, and nothing puts it back.
	e.SetState(Established)
	table.Assure(3)
	if wantOldest(id); e.State() != Unreplied {
		t.Errorf("SetState made it %v", e.State())
	}
	table.Assure(id)
	table.Assure(id)
	if wantOldest(second); e.State() != Assured {
		t.Errorf("Assure left it %v", e.State())
	}
	if e.SetState(Unreplied); e.State() != Assured {
		t.Errorf("SetState made it %v", e.State())
	}
	if e.SetState(Closing); e.State() != Closing {
		t.Errorf("SetState left it %v", e.State())
	}
	table.Remove(second)
	table.Remove(second)
	wantOldest(none)
	table.Remove(id)
	if got, found := table.Lookup(k); found != nil {
		t.Errorf("Lookup after Remove gives %d", got)
	}
	third, _ := table.Insert(k, s, 3*time.Second) // where an assured one was
	wantOldest(third)
}

// TestLookupNewest: of entries with one key, that inserted last is found, and
// when it has gone the one before, also if the buckets were split meanwhile.
func TestLookupNewest(t *testing.T) {
	t.Parallel()
	table := NewIndexed[service, backend](3 * chunkSlots)
	k := clientKey(0, 1)
	var ids []ID
	for n := range uint64(3 * chunkSlots) {
		if n%chunkSlots == 5 {
			id, _ := table.Insert(k, nil, 0)
			ids = append(ids, id)
		} else {
			table.Insert(clientKey(1+n, 1), nil, 0)
		}
	}
	for _, want := range slices.Backward(ids) {
		if id, e := table.Lookup(k); id != want || e == nil || e.Key() != k {
			t.Errorf("Lookup gives %d, want %d", id, want)
		}
		table.Remove(want)
	}
	if id, e := table.Lookup(k); e != nil {
		t.Errorf("Lookup gives %d, want none", id)
	}
}

// twins returns two numbers of the same hash. There is such a pair among some
// 80,000 on average.
func twins(hash func(n uint64) uint32) (a, b uint64) {
	seen := make(map[uint32]uint64)
	for b = 0; ; b++ {
		h := hash(b)
		if a, ok := seen[h]; ok {
			return a, b
		}
		seen[h] = b
	}
}

// TestSameHash: a hash that two keys share does not make them one.
func TestSameHash(t *testing.T) {
	t.Parallel()
	table := NewIndexed[service, backend](10)
	s := &service{}
	a, b := twins(func(n uint64) uint32 { return clientKey(n, 1).hash(table.indexed.keys.seed) })
	id, _ := table.Insert(clientKey(a, 1), s, 0)
	if other, e := table.Lookup(clientKey(b, 1)); e != nil {
		t.Errorf("Lookup gives %d, which has another key", other)
	}
	other, _ := table.Insert(clientKey(b, 1), s, 0)
	if got, e := table.Lookup(clientKey(a, 1)); got != id || e == nil {
		t.Errorf("Lookup gives %d, want %d", got, id)
	}
	if got, e := table.Lookup(clientKey(b, 1)); got != other || e == nil {
		t.Errorf("Lookup gives %d, want %d", got, other)
	}
}

// TestNotIndexed: a plain table answers as if it held nothing.
func TestNotIndexed(t *testing.T) {
	t.Parallel()
	table := New[service, backend](10)
	s, k := &service{1}, clientKey(1, 1)
	id, e := table.Insert(k, s, 0)
	if _, found := table.Lookup(k); found != nil {
		t.Error("Lookup finds an entry")
	}
	if _, ok := table.OldestUnreplied(); ok {
		t.Error("OldestUnreplied finds an entry")
	}
	if _, ok := table.OldestUnrepliedOf(s); ok {
		t.Error("OldestUnrepliedOf finds an entry")
	}
	e.SetState(Unreplied)
	table.Assure(id)
	if e.State() != Connecting {
		t.Errorf("state %v, want %v", e.State(), Connecting)
	}
	table.Remove(id)
	checkTable(t, table, 0)
}

func TestIndexedCapacity(t *testing.T) {
	t.Parallel()
	for _, capacity := range []int{-1, 0, 1, chunkSlots, chunkSlots + 1, 2*chunkSlots + 7} {
		table := NewIndexed[service, backend](capacity)
		want := max(capacity, 0)
		for range 2 { // full, emptied from the oldest on, full again
			n := 0
			for {
				if _, e := table.Insert(clientKey(uint64(n), 1), nil, 0); e == nil {
					break
				}
				n++
			}
			if n != want {
				t.Errorf("capacity %d: full at %d", capacity, n)
			}
			if _, e := table.Lookup(clientKey(uint64(n), 1)); e != nil {
				t.Errorf("capacity %d: found the flow that there was no room for", capacity)
			}
			for i := range n {
				id, ok := table.OldestUnreplied()
				if !ok || table.Entry(id).Key() != clientKey(uint64(i), 1) {
					t.Fatalf("capacity %d: the oldest unreplied is %d %v, not flow %d", capacity, id, ok, i)
				}
				table.Remove(id)
			}
			checkIndexed(t, table, nil)
		}
	}
}

// TestIndexedAgainstLists drives an indexed table and plain maps and lists with
// the same random operations.
func TestIndexedAgainstLists(t *testing.T) {
	t.Parallel()
	s := seed(t)
	// Few keys, of which many are inserted twice, and many: up to three times the
	// buckets that a table begins with.
	for round, size := range []struct{ capacity, clients, ports, steps int }{
		{1, 1, 2, 200}, {5, 2, 2, 1000}, {60, 10, 5, 3000}, {3*chunkSlots + 40, 300, 20, 6000},
	} {
		random := rand.New(rand.NewPCG(s, uint64(round)))
		ops := make([]byte, 3*repeat(size.steps))
		for i := range ops {
			ops[i] = byte(random.Uint32())
		}
		most := compareIndexed(t, ops, size.capacity, size.clients, size.ports)
		if t.Failed() {
			t.Fatalf("with capacity %d", size.capacity)
		}
		if want := min(size.capacity, chunkSlots+100); most < want && !raceEnabled {
			t.Errorf("%d flows at most: the test neither fills a table of %d nor splits buckets", most, size.capacity)
		}
	}
}

func FuzzIndexed(f *testing.F) {
	f.Add([]byte{0, 1, 1, 0, 2, 1, 0, 1, 1, 9, 0, 0, 12, 0, 0, 15, 0, 0})
	f.Fuzz(func(t *testing.T, ops []byte) { compareIndexed(t, ops[:min(len(ops), 1<<12)], 20, 5, 5) })
}

// indexedFlow is a flow of the plain model of an indexed table.
type indexedFlow struct {
	id      ID
	key     Key
	service *service
	state   State
}

// compareIndexed reads operations from ops, three bytes each, and carries them out
// on an indexed table and on a list of flows in order of insertion. It returns
// the most flows that there were at once.
func compareIndexed(t *testing.T, ops []byte, capacity, nclients, ports int) (most int) {
	table := NewIndexed[service, backend](capacity)
	var flows []indexedFlow
	services := make([]service, 3)
	now := time.Duration(0)

	remove := func(i int) {
		table.Remove(flows[i].id)
		flows = slices.Delete(flows, i, i+1)
	}
	fire := func(id ID) {
		i := slices.IndexFunc(flows, func(f indexedFlow) bool { return f.id == id })
		if i < 0 {
			t.Fatalf("fired %d, which is not in use", id)
		}
		remove(i)
	}
	half := len(ops) / 2
	for ; len(ops) >= 3; ops = ops[3:] {
		a, b := int(ops[1]), int(ops[2])
		k := clientKey(uint64((a<<8|b)%nclients), uint16(1+(a^b)%ports))
		i := 0 // of some flow
		if len(flows) > 0 {
			i = (a<<8 | b) % len(flows)
		}
		op := ops[0] % 16
		if op < 9 && len(ops) < half && b%3 != 0 { // the second half empties the table
			op = 9
		}
		switch {
		case op < 8:
			s := &services[(a+b)%len(services)]
			id, e := table.Insert(k, s, now)
			if (e == nil) != (len(flows) == capacity) {
				t.Fatalf("Insert gave %p with %d of %d in use", e, len(flows), capacity)
			}
			if e != nil {
				table.Arm(id, now+time.Duration(a)*time.Second)
				flows = append(flows, indexedFlow{id: id, key: k, service: s, state: Unreplied})
			}
		case op == 8: // the oldest makes room
			id, ok := table.OldestUnreplied()
			if a%2 == 0 {
				id, ok = table.OldestUnrepliedOf(&services[b%len(services)])
			}
			if ok {
				remove(slices.IndexFunc(flows, func(f indexedFlow) bool { return f.id == id }))
			}
		case len(flows) == 0:
			table.Remove(ID(a))
			table.Assure(ID(b))
		case op < 11:
			remove(i)
		case op < 13:
			table.Assure(flows[i].id)
			if flows[i].state == Unreplied {
				flows[i].state = Assured
			}
		case op < 15:
			state := State(a) % (Assured + 1)
			table.Entry(flows[i].id).SetState(state)
			if state != 0 && state != Unreplied && flows[i].state != Unreplied {
				flows[i].state = state
			}
		default:
			now += time.Duration(b%8) * 50 * time.Millisecond
			table.Expire(now, fire)
		}
		if !slices.ContainsFunc(flows, func(f indexedFlow) bool { return f.key == k }) {
			if id, e := table.Lookup(k); e != nil {
				t.Fatalf("Lookup gives %d, want none", id)
			}
		}
		most = max(most, len(flows))
		checkIndexed(t, table, flows)
	}
	return most
}

// checkIndexed checks that a table has these flows, given in order of insertion,
// and nothing else.
func checkIndexed(t *testing.T, table *Table[service, backend], flows []indexedFlow) {
	t.Helper()
	if table.Len() != len(flows) {
		t.Fatalf("Len is %d, want %d", table.Len(), len(flows))
	}
	x := table.indexed
	newest := make(map[Key]ID, len(flows))
	unreplied := make(map[*service][]ID)
	var all []ID
	for _, f := range flows {
		if e := table.Entry(f.id); e == nil || e.Key() != f.key || e.State() != f.state {
			t.Fatalf("Entry(%d) is %p, want %+v", f.id, e, f)
		}
		newest[f.key] = f.id
		if f.state == Unreplied {
			all = append(all, f.id)
			unreplied[f.service] = append(unreplied[f.service], f.id)
		}
	}
	for k, want := range newest {
		if id, e := table.Lookup(k); id != want || e == nil {
			t.Fatalf("Lookup gives %d %p, want %d", id, e, want)
		}
	}
	checkIndex(t, &x.keys, len(flows))

	id, ok := table.OldestUnreplied()
	checkOrder(t, x.inTable, &x.unreplied, all, id, ok)
	for _, f := range flows {
		if _, ok := table.OldestUnrepliedOf(f.service); ok != (len(unreplied[f.service]) > 0) {
			t.Fatalf("service %p has unreplied flows: %v, want those of %d", f.service, ok, unreplied[f.service])
		}
	}
	for s, want := range unreplied {
		id, ok := table.OldestUnrepliedOf(s)
		o := x.services[s]
		checkOrder(t, x.inService, &o, want, id, ok)
	}
	if len(x.services) != len(unreplied) {
		t.Fatalf("%d services are kept, %d have unreplied flows", len(x.services), len(unreplied))
	}
}

// checkOrder checks that an order holds these slots, both ways, and that the
// oldest of them was given.
func checkOrder(t *testing.T, p places, o *order, want []ID, oldest ID, ok bool) {
	t.Helper()
	var got []ID
	prev := none
	for id := o.oldest; id != none; id = p.at(id).newer {
		if p.at(id).older != prev {
			t.Fatalf("%d has %d before it, want %d", id, p.at(id).older, prev)
		}
		if got = append(got, id); len(got) > len(want) {
			break
		}
		prev = id
	}
	if !slices.Equal(got, want) || o.newest != prev {
		t.Fatalf("the order holds %d up to %d, want %d", got, o.newest, want)
	}
	if ok != (len(want) > 0) || ok && oldest != want[0] {
		t.Fatalf("the oldest is %d %v, want that of %d", oldest, ok, want)
	}
}

// TestIndexedMemory holds indexed tables to their constants, in their types and
// in the heap. It is not parallel, so that no other test allocates meanwhile.
func TestIndexedMemory(t *testing.T) {
	if size := indexBytes + 2*unsafe.Sizeof(neighbours{}); size != IndexedBytes {
		t.Errorf("bucket, link and neighbours take %d bytes, IndexedBytes is %d", size, IndexedBytes)
	}
	const n = 40 * chunkSlots
	s := &service{}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	table := NewIndexed[service, backend](n)
	runtime.ReadMemStats(&after)
	if empty := after.TotalAlloc - before.TotalAlloc; empty > n {
		t.Errorf("an empty table for %d entries takes %d bytes", n, empty)
	}
	for range 3 { // filled again, it takes no more
		for i := range uint64(n) {
			id, _ := table.Insert(clientKey(i, 1), s, 0)
			table.Arm(id, time.Duration(i)*time.Second)
		}
		for id := range ID(n) {
			table.Remove(id)
		}
	}
	runtime.ReadMemStats(&after)
	if each := float64(after.TotalAlloc-before.TotalAlloc) / n; each > EntryBytes+IndexedBytes+1 {
		t.Errorf("a full table takes %.2f bytes an entry, want %d", each, EntryBytes+IndexedBytes)
	}
	runtime.KeepAlive(table)
}

// TestIndexedNoAllocations: once it has its size, an indexed table allocates
// nothing, though every flow has a new key.
func TestIndexedNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	const beside = 3 * chunkSlots
	table := NewIndexed[service, backend](beside + 1)
	services := [10]service{}
	var first, last uint64 // flows ended and begun
	now := time.Duration(0)
	insert := func() {
		now += time.Millisecond
		id, e := table.Insert(clientKey(last, 1), &services[last%10], now)
		table.Arm(id, now+time.Minute)
		e.CountUp(100, now)
		last++
	}
	for range beside + 1 {
		insert()
	}
	missed := 0
	flow := func() {
		s := &services[first%10]
		id, e := table.Lookup(clientKey(first, 1))
		if e == nil {
			missed++
		}
		if first++; first%2 == 0 {
			table.Assure(id)
		} else if oldest, _ := table.OldestUnrepliedOf(s); oldest != id {
			missed++
		}
		if _, e := table.Lookup(clientKey(last, 1)); e != nil {
			missed++
		}
		table.Remove(id)
		insert()
	}
	if n := testing.AllocsPerRun(4*beside, flow); n != 0 {
		t.Errorf("a flow allocates %v times", n)
	}
	if missed > 0 {
		t.Errorf("%d look-ups went wrong", missed)
	}
}
