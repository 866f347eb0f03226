package conntrack

import (
	"maps"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"

	"usher/internal/race"
)

// TestAffinityRowsHoldNoLock uses every shard while a row is out.
func TestAffinityRowsHoldNoLock(t *testing.T) {
	t.Parallel()
	const clients = 300
	a := newAffinityTest(t, 16*entriesPerShard, AffinityConfig{Timeout: time.Hour})
	b := &backend{}
	addr := func(i int) netip.Addr { return clientKey(uint64(i), 1).Client().Addr() }
	for i := range clients {
		var ref AffinityRef
		a.Put(&ref, NewAffinityClient(&a.s, addr(i), a.p), nil, b, 0)
	}
	seen := make(map[netip.Prefix]int)
	for r := range a.Rows(0) {
		if r.Backend == b {
			seen[r.Client]++
		}
		for i := range clients {
			var ref AffinityRef
			if got := a.Get(&ref, NewAffinityClient(&a.s, addr(i), a.p), 0); got != b {
				t.Fatalf("client %d has %v, want %v", i, got, b)
			}
			a.Release(&ref, 0)
		}
		var ref AffinityRef
		passing := &backend{}
		a.Put(&ref, NewAffinityClient(&a.s, addr(clients+len(seen)), a.p), nil, passing, 0)
		a.Drop(passing)
	}
	for i := range clients {
		if n := seen[Mask{}.network(addr(i)).prefix()]; n != 1 {
			t.Errorf("client %d has %d rows, want 1", i, n)
		}
	}
	for range a.Rows(0) {
		break
	}
}

// Many flows of one new client that choose at once agree on one backend, and on one
// other when that fails.
func TestAffinityOneWinner(t *testing.T) {
	t.Parallel()
	const flows = 8
	a := newAffinityTest(t, 100_000, AffinityConfig{Timeout: time.Hour})
	for round := range repeat(300) {
		client := clientKey(uint64(round), 1).Client().Addr()
		backends := make([]backend, 2*flows)
		var first, second [flows]*backend
		var refs [flows]AffinityRef
		var start, chosen, all sync.WaitGroup
		start.Add(flows)
		chosen.Add(flows)
		for i := range flows {
			all.Go(func() {
				start.Done()
				start.Wait()
				h := &refs[i]
				b := a.Get(h, NewAffinityClient(&a.s, client, a.p), 0)
				if b == nil {
					b = a.Put(h, NewAffinityClient(&a.s, client, a.p), nil, &backends[i], 0)
				}
				first[i] = b
				chosen.Done()
				if chosen.Wait(); round%2 == 1 {
					second[i] = a.Put(h, NewAffinityClient(&a.s, client, a.p), b, &backends[flows+i], 0)
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
		a.want(client.String(), &AffinityEntry[service, backend]{Backend: last, Flows: flows, Expires: time.Hour}, 0)
		for i := range refs {
			a.Release(&refs[i], 0)
		}
	}
	if st := a.Stats(); int(st.Created) != repeat(300) || int(st.Reassigned) != repeat(300)/2 {
		t.Errorf("stats %+v", st)
	}
	checkAffinity(t, a.Affinity)
}

// An entry takes AffinityBytes of heap. The test is not parallel, so that no other
// allocates meanwhile.
func TestAffinityMemory(t *testing.T) {
	const n = 40 * chunkSlots
	size := unsafe.Sizeof(affinitySlot[service, backend]{}) + unsafe.Sizeof(timer{}) + indexBytes + 2*unsafe.Sizeof(listLink{})
	if unsafe.Sizeof(uintptr(0)) == 8 && size != AffinityBytes {
		t.Errorf("an entry takes %d bytes, AffinityBytes is %d", size, AffinityBytes)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	a := NewAffinity[service, backend](n)
	runtime.ReadMemStats(&after)
	if empty := after.TotalAlloc - before.TotalAlloc; empty > n {
		t.Errorf("an empty table for %d entries takes %d bytes", n, empty)
	}
	// The map of backends of each shard, and the last chunk of each, which is not full.
	rest := uint64(len(a.shards)) * (chunkSlots*AffinityBytes + 4096)
	s, backends := &service{}, make([]backend, 10)
	for round := range 3 { // filled again, it takes no more
		for i := range uint64(n) {
			var h AffinityRef
			a.Put(&h, NewAffinityClient(s, clientKey(i, 1).Client().Addr(), AffinityConfig{}), nil, &backends[i%10], 0)
			a.Release(&h, 0)
		}
		a.Expire(time.Duration(round+1) * time.Hour)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > n*(AffinityBytes+1)+rest {
		t.Errorf("a full table takes %d bytes, want %d and up to %d", took, n*AffinityBytes, rest)
	}
	runtime.KeepAlive(a)
}

// A table of full size allocates nothing, even for new clients.
func TestAffinityNoAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	const clients = 4000
	a := NewAffinity[service, backend](clients)
	s, backends := &service{}, make([]backend, 50)
	p := AffinityConfig{Timeout: 20 * time.Second}
	now := time.Duration(0)
	i := uint64(clients)
	flow := func() {
		// Alternately so fast that the table is full, and so slowly that entries expire.
		now += time.Millisecond + time.Duration(i/10_000%2)*20*time.Millisecond
		i++
		client := clientKey(i, 1).Client().Addr()
		if i%3 == 0 {
			client = clientKey(i-101, 1).Client().Addr() // comes back
		}
		b := &backends[i%50]
		var h AffinityRef
		if from := a.Get(&h, NewAffinityClient(s, client, p), now); from == nil || i%7 == 0 {
			a.Put(&h, NewAffinityClient(s, client, p), from, b, now)
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
	if st := a.Stats(); st.Expired == 0 || st.Evicted == 0 || st.Reassigned == 0 {
		t.Errorf("the test does not come by all ways: %+v", st)
	}
}

// checkAffinity checks the invariants of a table.
func checkAffinity(t *testing.T, a *Affinity[service, backend]) {
	t.Helper()
	for _, sh := range a.shards {
		sh.mu.Lock()
		checkShard(t, sh)
		sh.mu.Unlock()
	}
	if st := a.Stats(); st.Created != uint64(st.Entries)+st.Expired+st.Evicted+st.Dropped {
		t.Fatalf("the entries made are not where they went: %+v", st)
	}
}

func checkShard(t *testing.T, sh *affinityShard[service, backend]) {
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
	for id := range sh.highWater {
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
				t.Fatalf("entry %d, which ends at %v, is armed for tick %d", id, slot.expires, due)
			}
		}
	}
	live := int(sh.highWater) - len(free)
	if sh.highWater > sh.capacity || sh.stats.Entries != live {
		t.Fatalf("%d begun of %d, %d of them free, %d counted", sh.highWater, sh.capacity, len(free), sh.stats.Entries)
	}
	checkWheel(t, &sh.wheel, armed)
	checkIndex(t, &sh.keys, live)
	counted := make(map[*backend]int)
	for b, o := range sh.backends {
		members := slotsOf(sh.ownLinks, o.slotList)
		counted[b] = o.count
		checkList(t, sh.ownLinks, &o.slotList, members)
		for _, id := range members {
			if sh.slot(id).backend != b {
				t.Fatalf("entry %d is in the list of %v, but has %v", id, b, sh.slot(id).backend)
			}
		}
		if len(members) != o.count {
			t.Fatalf("%v has %d entries, %d counted", b, len(members), o.count)
		}
	}
	if !maps.Equal(counted, own) {
		t.Fatalf("backends have entries %v, want %v", counted, own)
	}
	members := slotsOf(sh.idleLinks, sh.idle)
	checkList(t, sh.idleLinks, &sh.idle, members)
	if len(members) != len(idle) {
		t.Fatalf("%d entries in the order of idle ones, want %d", len(members), len(idle))
	}
	for _, id := range members {
		if !idle[id] {
			t.Fatalf("entry %d is in the order of idle ones, but has flows", id)
		}
	}
}
