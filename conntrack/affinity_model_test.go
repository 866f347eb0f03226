package conntrack

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/internal/race"
)

// plainAffinity is a model of an Affinity, made of lists. It moves each timer at once.
type plainAffinity struct {
	capacity int
	entries  []*plainEntry
	lost     int // flows that were the last of their entries
	stats    AffinityStats
}

type plainEntry struct {
	AffinityEntry[service, backend]
	lost int // when it lost its last flow
}

func (m *plainAffinity) find(s *service, client netip.Prefix) *plainEntry {
	for _, t := range m.entries {
		if t.Service == s && t.Client == client {
			return t
		}
	}
	return nil
}

func (m *plainAffinity) remove(gone func(*plainEntry) bool) (n int) {
	before := len(m.entries)
	m.entries = slices.DeleteFunc(m.entries, gone)
	return before - len(m.entries)
}

// pass fires the timers due at now.
func (m *plainAffinity) pass(now time.Duration) {
	for _, t := range m.entries {
		for t.Flows > 0 && t.Expires <= now {
			t.Expires += affinityExtension
		}
	}
	m.stats.Expired += uint64(m.remove(func(t *plainEntry) bool { return t.Expires <= now }))
}

// put returns nil without room.
func (m *plainAffinity) put(s *service, client netip.Prefix, from, to *backend, now time.Duration) *plainEntry {
	t := m.find(s, client)
	if t != nil {
		if from != nil && t.Backend == from && from != to {
			t.Backend = to
			m.stats.Reassigned++
		}
		return t
	}
	if len(m.entries) == m.capacity {
		var first *plainEntry
		for _, t := range m.entries {
			if t.Flows == 0 && (first == nil || t.lost < first.lost) {
				first = t
			}
		}
		if first == nil {
			m.stats.Rejected++
			return nil
		}
		m.stats.Evicted++
		m.remove(func(t *plainEntry) bool { return t == first })
	}
	t = &plainEntry{AffinityEntry: AffinityEntry[service, backend]{Client: client, Service: s, Backend: to, Created: now}}
	m.entries = append(m.entries, t)
	m.stats.Created++
	return t
}

func (m *plainAffinity) release(t *plainEntry) {
	if slices.Contains(m.entries, t) {
		if t.Flows--; t.Flows == 0 {
			m.lost++
			t.lost = m.lost
		}
	}
}

// plainFlow is a flow with its references to the table and the model.
type plainFlow struct {
	ref    AffinityRef
	refs   *plainEntry // nil: none
	client int
	back   *backend
}

// TestAffinityAgainstPlainModel drives a table and lists with the same random
// operations.
func TestAffinityAgainstPlainModel(t *testing.T) {
	t.Parallel()
	s := seed(t)
	for round, size := range []struct {
		capacity, clients, steps int
		// Times are whole ticks, and expired entries are freed after each: then the
		// model knows which entry is evicted.
		whole bool
	}{
		{0, 3, 100, true}, {1, 3, 1000, true}, {4, 12, 4000, true}, {30, 100, 8000, true}, {chunkSlots + 40, 2000, 6000, true},
		{1000, 20, 6000, false}, {20 * entriesPerShard, 60, 8000, false},
	} {
		ops := make([]byte, 4*repeat(size.steps))
		random := rand.New(rand.NewPCG(s, uint64(round)))
		for i := range ops {
			ops[i] = byte(random.Uint32())
		}
		stats := compareAffinity(t, ops, size.capacity, size.clients, size.whole)
		if t.Failed() {
			t.Fatalf("with capacity %d", size.capacity)
		}
		if race.Enabled || size.capacity < 4 {
			continue
		}
		if stats.Expired == 0 || stats.Dropped == 0 || stats.Reassigned == 0 {
			t.Errorf("capacity %d: the test does not come by all ways: %+v", size.capacity, stats)
		}
		if size.whole && size.capacity < chunkSlots && (stats.Evicted == 0 || stats.Rejected == 0) {
			t.Errorf("capacity %d: the test does not fill the table: %+v", size.capacity, stats)
		}
	}
}

func FuzzAffinity(f *testing.F) {
	f.Add([]byte{0, 1, 1, 1, 0, 2, 1, 1, 0, 3, 3, 3, 7, 0, 0, 0, 14, 0, 200, 1}, true)
	f.Add([]byte{0, 1, 1, 1, 5, 0, 3, 3, 7, 0, 0, 0, 14, 1, 90, 7, 14, 1, 90, 3, 0, 1, 1, 1}, false)
	f.Fuzz(func(t *testing.T, ops []byte, whole bool) {
		capacity := 1000
		if whole {
			capacity = 5
		}
		compareAffinity(t, ops[:min(len(ops), 1<<12)], capacity, 20, whole)
	})
}

// compareAffinity runs operations of four bytes each on a table and on the model. At the
// end all flows end and all entries expire.
func compareAffinity(t *testing.T, ops []byte, capacity, nclients int, whole bool) AffinityStats {
	a := NewAffinity[service, backend](capacity)
	m := &plainAffinity{capacity: capacity}
	services, backends := make([]service, 3), make([]backend, 5)
	bits := [][2]int{{32, 128}, {30, 64}, {24, 127}}
	timeouts := []time.Duration{10 * time.Second, 300 * time.Second, 3 * time.Hour}
	var flows []*plainFlow
	now := time.Duration(0)

	client := func(i int) netip.Addr {
		i %= nclients
		b := [16]byte{0x20, 1, 0xd, 0xb8, 7: byte(i / 4), 15: byte(i)}
		v4 := netip.AddrFrom4([4]byte{10, 0, byte(i / 64), byte(i)})
		switch i % 4 {
		case 0:
			return netip.AddrFrom16(b)
		case 1:
			return netip.AddrFrom16(v4.As16())
		case 2:
			return netip.AddrFrom16(b).WithZone("eth0")
		}
		return v4
	}
	begin := func(f *plainFlow, s int, from, to *backend, put bool) {
		p := AffinityConfig{Timeout: timeouts[s]}
		p.Mask, _ = NewMask(bits[s][0], bits[s][1])
		prefix := plainPrefix(client(f.client), bits[s][0], bits[s][1])
		before := f.refs
		var got, want *backend
		var at *plainEntry
		if put {
			got, want = a.Put(&f.ref, NewAffinityClient(&services[s], client(f.client), p), from, to, now), to
			at = m.put(&services[s], prefix, from, to, now)
		} else {
			got = a.Get(&f.ref, NewAffinityClient(&services[s], client(f.client), p), now)
			m.release(before)
			before = nil
			at = m.find(&services[s], prefix)
		}
		if at != nil {
			want = at.Backend
			at.Expires = now + p.Timeout
			if at != before {
				at.Flows++
			}
		}
		if at != before {
			m.release(before)
		}
		if got != want || (f.ref == AffinityRef{}) != (at == nil) {
			t.Fatalf("put %v: got %p, holding %v, want %p", put, got, f.ref, want)
		}
		f.refs, f.back = at, got
	}
	end := func(i int) {
		f := flows[i]
		flows = slices.Delete(flows, i, i+1)
		a.Release(&f.ref, now)
		m.release(f.refs)
		if f.ref != (AffinityRef{}) {
			t.Fatalf("released, it holds %v", f.ref)
		}
	}
	advance := func(d time.Duration) {
		if now += d; whole {
			now = roundUp(now)
		}
		m.pass(now)
		if whole || d%3 == 0 {
			a.Expire(now)
		}
	}

	dropped := func(got, want int) {
		if got < want || whole && got > want {
			t.Fatalf("dropped %d, want %d", got, want)
		}
		// Expired entries that are not freed yet are dropped as well.
		m.stats.Dropped += uint64(got)
		m.stats.Expired -= uint64(got - want)
	}

	for step := 0; len(ops) >= 4; ops, step = ops[4:], step+1 {
		op, x, y, z := ops[0]%20, int(ops[1]), int(ops[2]), int(ops[3])
		i := 0
		if len(flows) > 0 {
			i = (x<<8 | y) % len(flows)
		}
		if z%4 > 0 { // in turn more flows begin and more end
			switch ending := step/500%2 == 1; {
			case ending && op < 6:
				op = 9
			case !ending && op >= 9 && op < 14:
				op -= 9
			}
		}
		switch {
		case op < 6: // a flow begins; perhaps its client's backend is no good
			f := &plainFlow{client: x<<8 | y}
			b := &backends[z%len(backends)]
			if op != 5 {
				begin(f, z%3, nil, nil, false)
			}
			if f.back == nil || op == 4 {
				begin(f, z%3, f.back, b, true)
			}
			flows = append(flows, f)
		case op == 6 && len(flows) > 0: // where it is has failed, or it thinks so
			from := flows[i].back
			if z%5 == 0 {
				from = &backends[x%len(backends)]
			}
			begin(flows[i], z%3, from, &backends[y%len(backends)], true)
		case op == 7 && len(flows) > 0 && z%16 == 0: // it belongs to another client now
			flows[i].client = z
			begin(flows[i], x%3, nil, &backends[y%len(backends)], y%2 == 0)
		case op < 14 && len(flows) > 0:
			end(i)
		case op == 14 && x%8 == 0:
			b := &backends[y%len(backends)]
			want := m.remove(func(t *plainEntry) bool { return t.Backend == b })
			dropped(a.Drop(b), want)
		case op == 15 && x%32 == 0:
			s := &services[y%len(services)]
			want := m.remove(func(t *plainEntry) bool { return t.Service == s })
			dropped(a.DropServices(func(other *service) bool { return other == s }), want)
		case op >= 16 && op < 19:
			advance(time.Duration(x<<8|y) * time.Millisecond / 20) // up to 3 s
		case op == 19:
			if z%16 == 0 {
				advance(time.Duration(x) * time.Minute)
			} else {
				advance(time.Duration(y) * time.Second / 8)
			}
		}
		if step%8 == 0 || len(ops) < 8 {
			compareEntries(t, a, m, now, whole)
		}
	}
	for len(flows) > 0 {
		end(len(flows) - 1)
		advance(time.Second)
	}
	for r := range a.Rows(now) {
		if r.Flows != 0 {
			t.Fatalf("all flows have ended, but %+v", r)
		}
	}
	advance(3*time.Hour + affinityExtension)
	a.Expire(now + Tick)
	compareEntries(t, a, m, now, whole)
	st := a.Stats()
	if st.Entries != 0 {
		t.Fatalf("all entries have ended, but %d are there", st.Entries)
	}
	return st
}

func compareEntries(t *testing.T, a *Affinity[service, backend], m *plainAffinity, now time.Duration, whole bool) {
	t.Helper()
	type key struct {
		*service
		netip.Prefix
	}
	rows := make(map[key]AffinityEntry[service, backend])
	n := 0
	for r := range a.Rows(now) {
		rows[key{r.Service, r.Client}] = r
		n++
	}
	if n != len(m.entries) {
		t.Fatalf("%d rows, want %d", n, len(m.entries))
	}
	for _, want := range m.entries {
		if got := rows[key{want.Service, want.Client}]; got != want.AffinityEntry {
			t.Fatalf("row %+v, want %+v", got, want.AffinityEntry)
		}
	}
	want := m.stats
	want.Entries, want.Capacity = len(m.entries), m.capacity
	got := a.Stats()
	if !whole { // some that have ended may not be taken back yet
		late := got.Entries - want.Entries
		if late < 0 {
			t.Fatalf("%d entries, want %d", got.Entries, want.Entries)
		}
		want.Entries += late
		want.Expired -= uint64(late)
	}
	if got != want {
		t.Fatalf("stats %+v, want %+v", got, want)
	}
	checkAffinity(t, a)
}

// Many goroutines use one table in all ways. When all flows have ended, no entry has any.
func TestAffinityManyGoroutines(t *testing.T) {
	t.Parallel()
	const workers = 8
	s := seed(t)
	for round, capacity := range []int{20, 1000, 16 * entriesPerShard} {
		a := NewAffinity[service, backend](capacity)
		services, backends := make([]service, 3), make([]backend, 10)
		var clock atomic.Int64 // goes on by a millisecond a flow
		var stop atomic.Bool
		var flowing, beside sync.WaitGroup
		for w := range workers {
			flowing.Go(func() {
				random := rand.New(rand.NewPCG(s, uint64(round*workers+w)))
				now := time.Duration(0)
				refs := make([]AffinityRef, 30)
				for range repeat(20_000) {
					if random.IntN(10) > 0 { // else the clock lags
						now = time.Duration(clock.Add(int64(time.Millisecond)))
					}
					h := &refs[random.IntN(len(refs))]
					a.Release(h, now)
					client := clientKey(random.Uint64N(1000), 1).Client().Addr()
					p := AffinityConfig{Timeout: time.Duration(1+random.IntN(3)) * time.Second}
					of := random.IntN(len(services))
					b := a.Get(h, NewAffinityClient(&services[of], client, p), now)
					if (b == nil) != (*h == AffinityRef{}) {
						t.Errorf("Get gives %v, %v", b, *h)
					}
					if b == nil || random.IntN(10) == 0 {
						if b = a.Put(h, NewAffinityClient(&services[of], client, p), b, &backends[random.IntN(len(backends))], now); b == nil {
							t.Error("Put gives no backend")
						}
					}
				}
				for i := range refs {
					a.Release(&refs[i], now)
				}
			})
		}
		beside.Go(func() {
			for !stop.Load() {
				a.Expire(time.Duration(clock.Load()))
				for r := range a.Rows(time.Duration(clock.Load())) {
					if r.Backend == nil || r.Service == nil || r.Flows < 0 || r.Flows > workers*30 {
						t.Errorf("row %+v", r)
					}
				}
				if st := a.Stats(); st.Entries > capacity {
					t.Errorf("%d entries of %d", st.Entries, capacity)
				}
			}
		})
		beside.Go(func() {
			random := rand.New(rand.NewPCG(s, uint64(1000+round)))
			for !stop.Load() {
				a.Drop(&backends[random.IntN(len(backends))])
				one := &services[random.IntN(len(services))]
				a.DropServices(func(s *service) bool { return s == one })
				time.Sleep(time.Millisecond) // so that entries live for a while
			}
		})
		flowing.Wait()
		stop.Store(true)
		beside.Wait()
		checkAffinity(t, a)
		now := time.Duration(clock.Load())
		for r := range a.Rows(now) {
			if r.Flows != 0 {
				t.Errorf("all flows have ended, but %+v", r)
			}
		}
		a.Expire(now + time.Hour)
		checkAffinity(t, a)
		if n := a.Len(); n != 0 {
			t.Errorf("an hour later there are %d entries", n)
		}
	}
}
