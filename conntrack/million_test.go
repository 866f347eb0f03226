package conntrack

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// million returns how many entries the tests of this file fill tables with.
func million() int {
	if testing.Short() || raceEnabled {
		return 100_000
	}
	return 1_000_000
}

// heap returns the bytes that are in use, and that were ever allocated.
func heap() (inUse, ever uint64) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, m.TotalAlloc
}

// spare is what the runtime and the tests themselves may allocate beside a table.
const spare = 256 << 10

// TestMillion holds a table to what it promises of a million flows: the memory of
// each, and that no operation does more than it does among a few. Work is counted,
// not timed: members met in a chain, times that a timer is seen to.
//
// It is not parallel, so that no other test allocates meanwhile.
func TestMillion(t *testing.T) {
	n := million()
	for _, tc := range []struct {
		name  string
		table func(int) *Table[service, backend]
		bytes uint64
	}{
		{"plain", New[service, backend], EntryBytes},
		{"indexed", NewIndexed[service, backend], EntryBytes + IndexedBytes},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, b := &service{}, &backend{}
			random := rand.New(rand.NewPCG(1, 2))
			span := func() time.Duration { return time.Duration(1 + random.Int64N(int64(5*time.Minute))) }
			before, everBefore := heap()
			table := tc.table(n)
			size := 1000 // at which the chains are looked at next
			fill := func(n int) {
				for i := range n {
					id, e := table.Insert(clientKey(uint64(i), uint16(i>>24)), s, 0)
					if e == nil {
						t.Fatalf("full at %d", i)
					}
					e.SetBackend(b)
					table.Arm(id, span())
					if i+1 == size && table.indexed != nil {
						mean, longest := wantChains(t, &table.indexed.keys, size)
						t.Logf("of %d: %.2f looked at to find one, the longest chain has %d", size, mean, longest)
						size *= 10
					}
				}
			}
			fill(n)
			if _, e := table.Insert(clientKey(0, 1), s, 0); e != nil {
				t.Errorf("holds more than %d", n)
			}
			after, everFull := heap()
			each := float64(after-before) / float64(n)
			t.Logf("%d entries: %.2f bytes each", n, each)
			if most := uint64(n)*(tc.bytes+1) + spare; after-before > most || everFull-everBefore > most {
				t.Errorf("an entry takes %.2f bytes, %.2f were allocated for it, want %d",
					each, float64(everFull-everBefore)/float64(n), tc.bytes)
			}

			if table.indexed != nil {
				for i := range uint64(n) {
					if _, e := table.Lookup(clientKey(i, uint16(i>>24))); e == nil {
						t.Fatalf("flow %d is not found", i)
					}
					if _, e := table.Lookup(clientKey(i, 50_000)); e != nil {
						t.Fatalf("found flow %d, which there is not", i)
					}
				}
			}
			for id := range ID(n) { // traffic and a later deadline
				table.Entry(id).CountUp(1, time.Minute)
				table.Arm(id, time.Minute+span())
			}
			wantWheelWork(t, table, n)
			if table.Len() != 0 {
				t.Errorf("%d are left", table.Len())
			}
			fill(n / 4) // where others were
			if _, ever := heap(); ever-everFull > uint64(n)+spare {
				t.Errorf("in use, a table that has its size allocated %d bytes", ever-everFull)
			}
			runtime.KeepAlive(table)
		})
	}
}

// wantChains checks that finding a member looks at no more than two on average,
// and never at many.
func wantChains(t *testing.T, x *index, n int) (mean float64, longest int) {
	t.Helper()
	longest = checkIndex(t, x, n)
	met := 0
	for b := range x.buckets {
		chain := 0
		for id := *x.head(b); id != none; id = x.link(id).next {
			chain++
			met += chain
		}
	}
	mean = float64(met) / float64(n)
	if mean > 2 || longest > 24 { // see TestIndexGrowth
		t.Errorf("of %d: %.2f looked at to find one, the longest chain has %d", n, mean, longest)
	}
	return mean, longest
}

// wantWheelWork ends all flows of a table by their deadlines, which are within
// 2^18 ticks, and counts how often each timer is seen to: it moves down twice at
// most, then fires.
func wantWheelWork(t *testing.T, table *Table[service, backend], n int) {
	t.Helper()
	w := &table.wheel
	seen := make([]uint8, n)
	var last time.Duration
	fired := func(id ID) { table.Remove(id) }
	for {
		tick, slot, ok := w.first()
		if !ok {
			break
		}
		id := w.heads[slot]
		if seen[id]++; seen[id] > 3 {
			t.Fatalf("timer %d was seen to %d times", id, seen[id])
		}
		at := time.Duration(tick << tickShift)
		if at < last {
			t.Fatalf("from %v the wheel went back to %v", last, at)
		}
		last = at
		w.expireSome(at, 1, fired) // that one
	}
	for id, times := range seen {
		if times == 0 {
			t.Fatalf("timer %d was never seen to", id)
		}
	}
}

// TestMillionTemplates is TestMillion for the templates of an Affinity.
func TestMillionTemplates(t *testing.T) {
	n := million()
	s, backends := &service{}, make([]backend, 1000)
	p := Persistence{Timeout: 300 * time.Second}
	before, everBefore := heap()
	a := NewAffinity[service, backend](n + n/10)
	now := time.Duration(0)
	holds := make([]Hold, 100)
	put := func() {
		for i := range n {
			now += 100 * time.Microsecond
			h := &holds[i%len(holds)]
			a.Release(h, now)
			a.Put(h, s, clientKey(uint64(i), 1).Client().Addr(), p, nil, &backends[i%len(backends)], now)
		}
	}
	put()
	if st := a.Stats(); st.Templates != n || st.Evicted+st.Refused+st.Expired != 0 {
		t.Fatalf("filled with %d: %+v", n, st)
	}
	after, everFull := heap()
	each := float64(after-before) / float64(n)
	t.Logf("%d templates: %.2f bytes each", n, each)
	// Beside the templates: the last chunk of each shard, and its map of backends.
	rest := uint64(len(a.shards)) * (chunkSlots*TemplateBytes + 128*uint64(len(backends)))
	if most := uint64(n)*(TemplateBytes+1) + rest + spare; after-before > most || everFull-everBefore > most+rest {
		t.Errorf("a template takes %.2f bytes, %.2f were allocated for it, want %d",
			each, float64(everFull-everBefore)/float64(n), TemplateBytes)
	}
	for _, sh := range a.shards {
		wantChains(t, &sh.keys, sh.stats.Templates)
	}

	for i := range n { // each comes back
		now += 100 * time.Microsecond
		var h Hold
		if b := a.Get(&h, s, clientKey(uint64(i), 1).Client().Addr(), p, now); b != &backends[i%len(backends)] {
			t.Fatalf("client %d has %p", i, b)
		}
		a.Release(&h, now)
	}
	// Dropping a backend costs its templates, not all: the rest stay as they are.
	if got := a.Drop(&backends[0]); got != n/len(backends) {
		t.Errorf("dropped %d templates, want %d", got, n/len(backends))
	}
	for i := range holds {
		a.Release(&holds[i], now)
	}
	// However many have ended, one call that needs a lock sees to a few.
	for _, sh := range a.shards {
		for calls := 0; !sh.expire(now + 2*p.Timeout); calls++ {
			if calls > levels*n/len(a.shards)/expireTimers*2 {
				t.Fatalf("not done after %d calls", calls)
			}
		}
	}
	if got := a.Len(); got != 0 {
		t.Errorf("%d are left", got)
	}
	_, ever := heap()
	put()
	if _, again := heap(); again-ever > rest+spare {
		t.Errorf("filled again, it allocated %d bytes", again-ever)
	}
	runtime.KeepAlive(a)
}

// TestPutSeesToFewTimers: when many templates ended while nobody looked, no Put
// pays for more than its share.
func TestPutSeesToFewTimers(t *testing.T) {
	t.Parallel()
	const n = 4000
	a := newAffinityTest(t, 2*n, Persistence{Timeout: time.Minute})
	for i := range uint64(n) {
		h, _ := a.put(clientKey(i, 1).Client().Addr().String(), nil, &backend{}, 0)
		a.Release(&h, 0)
	}
	left := a.Len()
	for i := 0; left > 2*putTimers; i++ {
		h, _ := a.put(fmt.Sprintf("192.0.%d.%d", i>>8&0xff, i&0xff), nil, &backend{}, time.Hour)
		a.Release(&h, time.Hour)
		if now := a.Len(); now < left+1-putTimers {
			t.Fatalf("one Put took back %d templates", left+1-now)
		}
		st := a.Stats()
		left = n - int(st.Expired)
		if i > n {
			t.Fatalf("%d Puts took back only %d", i, st.Expired)
		}
	}
	checkAffinity(t, a.Affinity)
}
