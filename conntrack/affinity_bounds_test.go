package conntrack

import (
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"
)

// TestAffinityFull: templates with flows stay, of the others the one that lost its
// last flow first goes.
func TestAffinityFull(t *testing.T) {
	t.Parallel()
	a := newAffinityTest(t, 3, Persistence{Timeout: time.Hour})
	b := &backend{1}
	h1, _ := a.put("10.0.0.1", nil, b, 1)
	h2, _ := a.put("10.0.0.2", nil, b, 2)
	h3, _ := a.put("10.0.0.3", nil, b, 3)
	if h, got := a.put("10.0.0.4", nil, b, 4); got != b || h != (Hold{}) {
		t.Errorf("without room Put gives %v, %v", got, h)
	}
	a.wantStats(AffinityStats{Templates: 3, Made: 3, Refused: 1})

	a.Release(&h3, 5)
	a.Release(&h1, 6)
	a.Release(&h2, 7)
	h3, _ = a.get("10.0.0.3", 8) // the last one now
	a.Release(&h3, 8)
	for i, gone := range []string{"10.0.0.1", "10.0.0.2"} {
		h, got := a.put(fmt.Sprintf("10.0.1.%d", i), nil, b, 9)
		if got != b || h == (Hold{}) {
			t.Errorf("with room Put gives %v, %v", got, h)
		}
		a.want(gone, nil, 9)
	}
	a.want("10.0.0.3", &Template[service, backend]{Backend: b, Created: 3, Expires: time.Hour + 8}, 9)
	a.wantStats(AffinityStats{Templates: 3, Made: 5, Evicted: 2, Refused: 1})

	// What has ended goes before what has not, though it lost its last flow later.
	a.p.Timeout = time.Second
	h3, _ = a.get("10.0.0.3", 10)
	a.Release(&h3, 10)
	a.Drop(b)
	a.wantStats(AffinityStats{Made: 5, Evicted: 2, Dropped: 3, Refused: 1})
	a.p.Timeout = time.Hour
	for _, client := range []string{"10.2.0.1", "10.2.0.2"} {
		h, _ := a.put(client, nil, b, 11)
		a.Release(&h, 11)
	}
	a.p.Timeout = time.Second
	h, _ := a.put("10.2.0.3", nil, b, 12)
	a.Release(&h, 12)
	a.put("10.2.0.4", nil, b, 2*time.Second)
	a.want("10.2.0.1", &Template[service, backend]{Backend: b, Created: 11, Expires: time.Hour + 11}, 2*time.Second)
	a.wantStats(AffinityStats{Templates: 3, Made: 9, Expired: 1, Evicted: 2, Dropped: 3, Refused: 1})
	checkAffinity(t, a.Affinity)
}

func TestAffinityCapacity(t *testing.T) {
	t.Parallel()
	for _, capacity := range []int{-1, 0, 1, 511, 513, 2*shardTemplates - 1, 2 * shardTemplates, 40_001} {
		a := newAffinityTest(t, capacity, Persistence{Timeout: time.Hour})
		want := max(capacity, 0)
		if got := a.Stats().Capacity; got != want {
			t.Errorf("capacity %d: it is %d", capacity, got)
		}
		b := &backend{}
		refused := 0
		for i := range uint64(want + want/2 + 2) {
			var h Hold
			a.Put(&h, &a.s, clientKey(i, 1).Client().Addr(), a.p, nil, b, 0)
			if h == (Hold{}) {
				refused++
			}
		}
		// Shards fill up at different times, none by more than a tenth.
		if st := a.Stats(); st.Templates > want || st.Templates < want*9/10 || int(st.Refused) != refused || st.Templates+refused != want+want/2+2 {
			t.Errorf("capacity %d: %d refused, %+v", capacity, refused, st)
		}
		checkAffinity(t, a.Affinity)
	}
}

// TestAffinityRowsHoldNoLock: whoever takes a row may take his time, and use the
// table meanwhile.
func TestAffinityRowsHoldNoLock(t *testing.T) {
	t.Parallel()
	const clients = 3000
	a := newAffinityTest(t, 16*shardTemplates, Persistence{Timeout: time.Hour})
	b := &backend{}
	addr := func(i int) netip.Addr { return clientKey(uint64(i), 1).Client().Addr() }
	holds := make([]Hold, clients)
	for i := range holds {
		a.Put(&holds[i], &a.s, addr(i), a.p, nil, b, 0)
	}
	seen := make(map[netip.Prefix]int)
	rows := 0
	for r := range a.Rows(0) {
		seen[r.Client]++
		if rows++; rows > clients {
			break
		}
		// Every shard is used while the row is out: short flows of all clients, and
		// a client that comes and is forgotten.
		if rows%100 == 1 {
			for i := range clients {
				var h Hold
				if got := a.Get(&h, &a.s, addr(i), a.p, 0); got != b {
					t.Fatalf("client %d has %v, want %v", i, got, b)
				}
				a.Release(&h, 0)
			}
		}
		var h Hold
		passing := &backend{}
		a.Put(&h, &a.s, addr(clients+rows), a.p, nil, passing, 0)
		a.Drop(passing)
	}
	for i := range clients {
		if n := seen[Mask{}.Prefix(addr(i))]; n != 1 {
			t.Errorf("client %d has %d rows, want 1", i, n)
		}
	}
	rows = 0
	for range a.Rows(0) {
		if rows++; rows == 100 {
			break
		}
	}
	if rows != 100 {
		t.Errorf("%d rows, want 100", rows)
	}
}

// TestAffinityOneWinner lets many flows of one new client choose at once: all end
// at one backend, and when that fails, at one other.
func TestAffinityOneWinner(t *testing.T) {
	t.Parallel()
	const flows = 8
	a := newAffinityTest(t, 100_000, Persistence{Timeout: time.Hour})
	for round := range repeat(300) {
		client := clientKey(uint64(round), 1).Client().Addr()
		backends := make([]backend, 2*flows)
		var first, second [flows]*backend
		var holds [flows]Hold
		var start, chosen, all sync.WaitGroup
		start.Add(flows)
		chosen.Add(flows)
		for i := range flows {
			all.Go(func() {
				start.Done()
				start.Wait()
				h := &holds[i]
				b := a.Get(h, &a.s, client, a.p, 0)
				if b == nil {
					b = a.Put(h, &a.s, client, a.p, nil, &backends[i], 0)
				}
				first[i] = b
				chosen.Done()
				if chosen.Wait(); round%2 == 1 {
					second[i] = a.Put(h, &a.s, client, a.p, b, &backends[flows+i], 0)
				}
			})
		}
		all.Wait()
		for i := range flows {
			if first[i] != first[0] || second[i] != second[0] || second[0] == first[0] {
				t.Fatalf("round %d: the flows got %v, then %v", round, first, second)
			}
		}
		last := first[0]
		if round%2 == 1 {
			last = second[0]
		}
		a.want(client.String(), &Template[service, backend]{Backend: last, Flows: flows, Expires: time.Hour}, 0)
		for i := range holds {
			a.Release(&holds[i], 0)
		}
	}
	if st := a.Stats(); int(st.Made) != repeat(300) || int(st.Moved) != repeat(300)/2 {
		t.Errorf("stats %+v", st)
	}
	checkAffinity(t, a.Affinity)
}

// TestAffinityMemory holds templates to their constant, in their types and in the
// heap. It is not parallel, so that no other test allocates meanwhile.
func TestAffinityMemory(t *testing.T) {
	const n = 40 * chunkSlots
	size := unsafe.Sizeof(template[service, backend]{}) + unsafe.Sizeof(timer{}) + indexBytes + 2*unsafe.Sizeof(neighbours{})
	if unsafe.Sizeof(uintptr(0)) == 8 && size != TemplateBytes {
		t.Errorf("a template takes %d bytes, TemplateBytes is %d", size, TemplateBytes)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	a := NewAffinity[service, backend](n)
	runtime.ReadMemStats(&after)
	if empty := after.TotalAlloc - before.TotalAlloc; empty > n {
		t.Errorf("an empty table for %d templates takes %d bytes", n, empty)
	}
	// The map of backends of each shard, and the last chunk of each, which is not full.
	rest := uint64(len(a.shards)) * (chunkSlots*TemplateBytes + 4096)
	s, backends := &service{}, make([]backend, 10)
	for round := range 3 { // filled again, it takes no more
		for i := range uint64(n) {
			var h Hold
			a.Put(&h, s, clientKey(i, 1).Client().Addr(), Persistence{}, nil, &backends[i%10], 0)
			a.Release(&h, 0)
		}
		a.Expire(time.Duration(round+1) * time.Hour)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > n*(TemplateBytes+1)+rest {
		t.Errorf("a full table takes %d bytes, want %d and up to %d", took, n*TemplateBytes, rest)
	}
	runtime.KeepAlive(a)
}

// TestAffinityNoAllocations: once it has its size, a table allocates nothing,
// though clients come that were never there before.
func TestAffinityNoAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	const clients = 4000
	a := NewAffinity[service, backend](clients)
	s, backends := &service{}, make([]backend, 50)
	p := Persistence{Timeout: 20 * time.Second}
	now := time.Duration(0)
	i := uint64(clients)
	flow := func() {
		// In turn so fast that the table is full, and so slowly that templates end.
		now += time.Millisecond + time.Duration(i/10_000%2)*20*time.Millisecond
		i++
		client := clientKey(i, 1).Client().Addr()
		if i%3 == 0 {
			client = clientKey(i-101, 1).Client().Addr() // comes back
		}
		b := &backends[i%50]
		var h Hold
		if from := a.Get(&h, s, client, p, now); from == nil || i%7 == 0 {
			a.Put(&h, s, client, p, from, b, now)
		}
		a.Release(&h, now)
		if i%100 == 0 {
			a.Expire(now)
		}
	}
	for range 10 * clients {
		flow()
	}
	if n := testing.AllocsPerRun(10*clients, flow); n != 0 {
		t.Errorf("a flow allocates %v times", n)
	}
	if st := a.Stats(); st.Expired == 0 || st.Evicted == 0 || st.Moved == 0 {
		t.Errorf("the test does not come by all ways: %+v", st)
	}
}

// checkAffinity checks that everything in a table is in its place.
func checkAffinity(t *testing.T, a *Affinity[service, backend]) {
	t.Helper()
	for _, sh := range a.shards {
		sh.mu.Lock()
		checkShard(t, sh)
		sh.mu.Unlock()
	}
	if st := a.Stats(); st.Made != uint64(st.Templates)+st.Expired+st.Evicted+st.Dropped {
		t.Fatalf("the templates made are not where they went: %+v", st)
	}
}

func checkShard(t *testing.T, sh *shard[service, backend]) {
	t.Helper()
	free := make(map[ID]bool)
	for id := sh.free; id != none; id = ID(sh.slot(id).flows) {
		if slot := sh.slot(id); free[id] || slot.backend != nil || slot.key.service != nil || sh.wheel.timer(id).due != 0 {
			t.Fatalf("slot %d is in the free list twice, or not free: %+v", id, slot)
		}
		free[id] = true
	}
	idle := make(map[ID]bool)
	own := make(map[*backend]int)
	armed := 0
	for id := range sh.begun {
		slot := sh.slot(id)
		if free[id] != (slot.backend == nil) {
			t.Fatalf("slot %d is free: %v, but holds %+v", id, free[id], slot)
		}
		due := sh.wheel.timer(id).due
		if due != 0 {
			armed++
		}
		if slot.backend == nil {
			continue
		}
		own[slot.backend]++
		if slot.flows == 0 {
			idle[id] = true
			if due == 0 || due > max(ticks(slot.expires), sh.wheel.earliest) {
				t.Fatalf("template %d, which ends at %v, is armed for tick %d", id, slot.expires, due)
			}
		}
	}
	live := int(sh.begun) - len(free)
	if sh.begun > sh.capacity || sh.stats.Templates != live {
		t.Fatalf("%d begun of %d, %d of them free, %d counted", sh.begun, sh.capacity, len(free), sh.stats.Templates)
	}
	checkWheel(t, &sh.wheel, armed)
	checkIndex(t, &sh.keys, live)
	counted := make(map[*backend]int)
	for b, o := range sh.backends {
		members := listOf(sh.inOwn, o.order)
		counted[b] = o.number
		checkOrder(t, sh.inOwn, &o.order, members, o.oldest, o.number > 0)
		for _, id := range members {
			if sh.slot(id).backend != b {
				t.Fatalf("template %d is in the list of %v, but has %v", id, b, sh.slot(id).backend)
			}
		}
		if len(members) != o.number {
			t.Fatalf("%v has %d templates, %d counted", b, len(members), o.number)
		}
	}
	if !maps.Equal(counted, own) {
		t.Fatalf("backends have templates %v, want %v", counted, own)
	}
	members := listOf(sh.inIdle, sh.idle)
	checkOrder(t, sh.inIdle, &sh.idle, members, sh.idle.oldest, len(members) > 0)
	if len(members) != len(idle) {
		t.Fatalf("%d templates in the order of idle ones, want %d", len(members), len(idle))
	}
	for _, id := range members {
		if !idle[id] {
			t.Fatalf("template %d is in the order of idle ones, but has flows", id)
		}
	}
}

// listOf returns the slots of an order, up to as many as there are places.
func listOf(p places, o order) (ids []ID) {
	for id := o.oldest; id != none && len(ids) <= len(p)*chunkSlots; id = p.at(id).newer {
		ids = append(ids, id)
	}
	return ids
}
