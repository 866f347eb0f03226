package conntrack

import (
	"maps"
	"net/netip"
	"sync"
	"testing"
	"time"
)

func TestCount(t *testing.T) {
	t.Parallel()
	table := NewIndexed[service, backend](100)
	services, backends := make([]service, 2), make([]backend, 2)
	for i, flow := range []struct {
		client  string
		service int
		backend int // -1: none yet
		state   State
	}{
		{"192.0.2.1:1", 0, 0, Unreplied},
		{"192.0.2.1:2", 0, 1, Assured},
		{"[::ffff:192.0.2.1]:3", 1, 1, Assured},
		{"192.0.2.2:1", 1, -1, Unreplied},
		{"[2001:db8::1]:1", 0, 1, Closing},
		{"", 0, 0, Assured},
	} {
		client, _ := netip.ParseAddrPort(flow.client)
		id, e := table.Insert(NewKey(UDP, client, netip.AddrPort{}), &services[flow.service], time.Duration(i))
		if flow.backend >= 0 {
			e.SetBackend(&backends[flow.backend])
		}
		if flow.state != Unreplied {
			table.Assure(id)
			e.SetState(flow.state)
		}
	}
	addr := netip.MustParseAddr
	wantCounts(t, "service", Count(table.Rows(), ByService), map[*service]int{&services[0]: 4, &services[1]: 2})
	wantCounts(t, "backend", Count(table.Rows(), ByBackend), map[*backend]int{&backends[0]: 2, &backends[1]: 3, nil: 1})
	wantCounts(t, "state", Count(table.Rows(), ByState), map[State]int{Unreplied: 2, Assured: 3, Closing: 1})
	wantCounts(t, "client", Count(table.Rows(), ByClient), map[netip.Addr]int{
		addr("192.0.2.1"): 3, addr("192.0.2.2"): 1, addr("2001:db8::1"): 1, {}: 1,
	})
	var m Mask
	m, _ = NewMask(24, 64)
	wantCounts(t, "prefix", Count(table.Rows(), func(r Row[service, backend]) netip.Prefix {
		return m.Prefix(r.Key.Client().Addr())
	}), map[netip.Prefix]int{
		netip.MustParsePrefix("192.0.2.0/24"): 4, netip.MustParsePrefix("2001:db8::/64"): 1, {}: 1,
	})
	wantCounts(t, "nothing", Count(New[service, backend](0).Rows(), ByState), map[State]int{})

	// Templates are counted in the same way.
	a := newAffinityTest(t, 10, Persistence{Timeout: time.Minute})
	a.put("192.0.2.1", nil, &backends[0], 0)
	a.put("192.0.2.2", nil, &backends[0], 0)
	a.put("192.0.2.3", nil, &backends[1], 0)
	wantCounts(t, "backend of templates",
		Count(a.Rows(0), func(r Template[service, backend]) *backend { return r.Backend }),
		map[*backend]int{&backends[0]: 2, &backends[1]: 1})
}

func wantCounts[K comparable](t *testing.T, by string, got, want map[K]int) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("by %s: %v, want %v", by, got, want)
	}
}

// TestSlowDump: the owner goes on however long a dump takes. With each row out, the
// reader waits until the owner has begun and ended some flows more: if the owner
// waited for the reader, the test would not end. Flows that live throughout are
// dumped, each once.
func TestSlowDump(t *testing.T) {
	t.Parallel()
	for name, table := range map[string]*Table[service, backend]{
		"plain": New[service, backend](3 * chunkSlots), "indexed": NewIndexed[service, backend](3 * chunkSlots),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const lasting, work = chunkSlots + 100, 50
			for i := range uint64(lasting) {
				table.Insert(clientKey(i, 1), nil, 0)
			}
			asked, done := make(chan struct{}), make(chan struct{})
			var owner sync.WaitGroup
			owner.Go(func() {
				begun, now := uint64(lasting), time.Duration(0)
				remove := func(id ID) { table.Remove(id) }
				for range asked {
					for range work {
						now += Tick
						id, e := table.Insert(clientKey(begun, 1), nil, now)
						if e == nil {
							t.Errorf("full at flow %d", begun)
							break
						}
						e.CountUp(1, now)
						// One in two ends at once, the others at their deadlines.
						if table.Arm(id, now+100*Tick); begun%2 == 0 {
							table.Remove(id)
						}
						begun++
						table.Expire(now, remove)
					}
					done <- struct{}{}
				}
			})

			deadline := time.After(30 * time.Second)
			seen := make(map[Key]int)
			states := Count(func(yield func(State) bool) {
				for r := range table.Rows() {
					seen[r.Key]++
					asked <- struct{}{}
					select {
					case <-done:
					case <-deadline:
						t.Fatal("the owner stands still while a row is out") // and cannot be waited for
					}
					if !yield(r.State) {
						return
					}
				}
			}, func(s State) State { return s })
			close(asked)
			owner.Wait()
			for i := range uint64(lasting) {
				if n := seen[clientKey(i, 1)]; n != 1 {
					t.Fatalf("flow %d, which lived throughout, was dumped %d times", i, n)
				}
			}
			if counted := states[Connecting] + states[Unreplied]; counted <= lasting {
				t.Errorf("counted %v, want more than the %d that lived throughout", states, lasting)
			}
		})
	}
}
