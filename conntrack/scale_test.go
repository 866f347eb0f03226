package conntrack

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"usher/internal/race"
)

// million returns how many entries the tests use.
func million() int {
	if testing.Short() || race.Enabled {
		return 100_000
	}
	return 1_000_000
}

// heap returns the bytes in use and the bytes ever allocated.
func heap() (inUse, ever uint64) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, m.TotalAlloc
}

// spare is what the runtime and the tests may allocate themselves.
const spare = 256 << 10

// With a million flows an entry takes its constant of memory, and no operation does more
// than with a few. The test counts work: members visited in a chain, moves of a timer. It
// is not parallel, so that no other test allocates meanwhile.
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
					if i+1 == size && table.keys != nil {
						mean, longest := wantChains(t, table.keys, size)
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

			if table.keys != nil {
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

// wantChains checks that a lookup visits two members on average, and never many.
func wantChains(t *testing.T, x *hashIndex, n int) (mean float64, longest int) {
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
	if mean > 2 || longest > 24 { // longer than 24: 1 in 10^19 a bucket
		t.Errorf("of %d: %.2f looked at to find one, the longest chain has %d", n, mean, longest)
	}
	return mean, longest
}

// wantWheelWork expires all flows, within 2^18 ticks. Each timer cascades twice at most,
// then fires.
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

// Each Put handles a bounded number of timers, even if many have expired.
func TestPutIsBounded(t *testing.T) {
	t.Parallel()
	const n = 4000
	a := newAffinityTest(t, 2*n, AffinityConfig{Timeout: time.Minute})
	for i := range uint64(n) {
		h, _ := a.put(clientKey(i, 1).Client().Addr().String(), nil, &backend{}, 0)
		a.Release(&h, 0)
	}
	left := a.Len()
	for i := 0; left > 2*timersPerPut; i++ {
		h, _ := a.put(fmt.Sprintf("192.0.%d.%d", i>>8&0xff, i&0xff), nil, &backend{}, time.Hour)
		a.Release(&h, time.Hour)
		if now := a.Len(); now < left+1-timersPerPut {
			t.Fatalf("one Put took back %d entries", left+1-now)
		}
		st := a.Stats()
		left = n - int(st.Expired)
		if i > n {
			t.Fatalf("%d Puts took back only %d", i, st.Expired)
		}
	}
	checkAffinity(t, a.Affinity)
}
