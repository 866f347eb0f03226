package conntrack

import (
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/internal/race"
)

type (
	service struct{ _ byte }
	backend struct{ number uint64 }
)

func testKey(n uint64) Key {
	client := netip.AddrFrom4([4]byte{10, byte(n >> 32), byte(n >> 24), byte(n >> 16)})
	local := netip.AddrFrom4([4]byte{127, 0, 0, byte(n % 3)})
	return NewKey(TCP, netip.AddrPortFrom(client, uint16(n)), netip.AddrPortFrom(local, 80))
}

// Rows never mix two flows, while the owner reuses a few slots. All words of a flow follow
// from its number.
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

// No byte is lost if two goroutines count one direction each, as in the portable engine.
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

func TestNoAllocations(t *testing.T) {
	if race.Enabled {
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
		table.NextDeadline()
		table.Expire(now, fire)
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

// clientKey returns the key of a flow from the nth client to one address.
func clientKey(n uint64, port uint16) Key {
	client := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	local := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	return NewKey(UDP, netip.AddrPortFrom(client, port), netip.AddrPortFrom(local, 53))
}

// only allows one service.
func only(s *service) func(*service) bool { return func(other *service) bool { return other == s } }

// twins returns two numbers with the same hash, on average among 80,000.
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

// Two keys with the same hash have two entries.
func TestSameHash(t *testing.T) {
	t.Parallel()
	table := NewIndexed[service, backend](10)
	s := &service{}
	a, b := twins(func(n uint64) uint32 { return clientKey(n, 1).hash(table.keys.seed) })
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

// An indexed table of full size allocates nothing, even for new keys.
func TestIndexedNoAllocations(t *testing.T) {
	if race.Enabled {
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
		} else if oldest, _ := table.OldestUnreplied(only(s)); oldest != id {
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
