package conntrack

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"usher/internal/race"
)

// modelFlow is a flow of the plain model that tables are compared with.
type modelFlow struct {
	id     ID
	entry  *Entry[service, backend]
	row    Row[service, backend]
	due    uint64 // tick; zero: not armed
	marked int    // when it was marked idle; zero: it is not
}

// tableModel drives a table and a list of flows, in order of insertion, with the same
// operations.
type tableModel struct {
	*testing.T
	table    *Table[service, backend]
	capacity int
	flows    []modelFlow
	services [3]service
	backends [4]backend
	now      time.Duration
	until    uint64 // tick of the last Expire
	marks    int
	most     int // flows at once
}

// TestTableAgainstModel compares both kinds of table with the model: few keys, of
// which many are inserted twice, and three times the buckets that an index begins with.
func TestTableAgainstModel(t *testing.T) {
	t.Parallel()
	s := seed(t)
	for round, size := range []struct{ capacity, clients, ports, steps int }{
		{0, 1, 1, 50}, {1, 1, 2, 200}, {5, 2, 2, 1000}, {60, 10, 5, 3000}, {3*chunkSlots + 40, 300, 20, 6000},
	} {
		for kind, table := range []func(int) *Table[service, backend]{New[service, backend], NewIndexed[service, backend]} {
			random := rand.New(rand.NewPCG(s, uint64(2*round+kind)))
			ops := make([]byte, 3*repeat(size.steps))
			for i := range ops {
				ops[i] = byte(random.Uint32())
			}
			m := &tableModel{T: t, table: table(size.capacity), capacity: size.capacity}
			m.run(ops, size.clients, size.ports)
			if t.Failed() {
				t.Fatalf("with capacity %d", size.capacity)
			}
			if want := min(size.capacity, chunkSlots+100); m.most < want && !race.Enabled {
				t.Errorf("%d flows at most: the test neither fills a table of %d nor splits buckets", m.most, size.capacity)
			}
		}
	}
}

func FuzzTable(f *testing.F) {
	f.Add([]byte{0, 1, 1, 0, 2, 1, 0, 1, 1, 9, 0, 0, 12, 0, 0, 15, 0, 0}, true)
	f.Add([]byte{0, 1, 1, 0, 2, 1, 10, 0, 0, 14, 0, 1, 15, 0, 255}, false)
	f.Fuzz(func(t *testing.T, ops []byte, isIndexed bool) {
		m := &tableModel{T: t, table: New[service, backend](20), capacity: 20}
		if isIndexed {
			m.table = NewIndexed[service, backend](20)
		}
		m.run(ops[:min(len(ops), 1<<12)], 5, 5)
	})
}

func (m *tableModel) insert(k Key, a, b int) {
	m.now++ // no two are of the same age
	s := &m.services[(a+b)%len(m.services)]
	id, e := m.table.Insert(k, s, m.now)
	if (e == nil) != (len(m.flows) == m.capacity) {
		m.Fatalf("Insert gives %p with %d of %d in use", e, len(m.flows), m.capacity)
	}
	if e == nil {
		return
	}
	state := Connecting
	if m.table.keys != nil {
		state = Unreplied
	}
	m.flows = append(m.flows, modelFlow{id: id, entry: e, row: Row[service, backend]{ID: id, generation: e.loadVersion().generation(), Key: k, Service: s, State: state, Created: m.now, Touched: m.now}})
	m.arm(len(m.flows)-1, a)
}

func (m *tableModel) arm(i, a int) {
	at := m.now + time.Duration(a-20)*time.Second
	m.table.Arm(m.flows[i].id, at)
	m.flows[i].due = max(m.until+1, uint64(max(at, 0)+Tick-1)/uint64(Tick))
}

func (m *tableModel) remove(i int) {
	m.table.Remove(m.flows[i].id)
	if m.table.Has(&m.flows[i].row) {
		m.Fatalf("flow %d lives after its end", m.flows[i].id)
	}
	m.flows = slices.Delete(m.flows, i, i+1)
}

// fire checks a deadline, and then arms, removes or leaves the flow.
func (m *tableModel) fire(id ID) {
	i := slices.IndexFunc(m.flows, func(f modelFlow) bool { return f.id == id })
	if i < 0 || m.flows[i].due == 0 || m.flows[i].due > m.until {
		m.Fatalf("fired %d in tick %d", id, m.until)
	}
	switch m.flows[i].due = 0; id % 4 {
	case 0:
		m.arm(i, int(id%200))
	case 1:
		k := m.flows[i].row.Key
		ended := m.flows[i].row
		m.remove(i)
		m.insert(k, 1, int(id)) // in the slot just freed
		if m.table.Has(&ended) {
			m.Fatalf("flow %d lives on as another one", id)
		}
	case 2, 3:
		m.remove(i)
	}
}

// run reads operations of three bytes each. The second half empties the table.
func (m *tableModel) run(ops []byte, clients, ports int) {
	half, every := len(ops)/2, 1+m.capacity/50 // a check costs as much as there are flows
	for step := 0; len(ops) >= 3; ops, step = ops[3:], step+1 {
		op, a, b := ops[0]%16, int(ops[1]), int(ops[2])
		k := clientKey(uint64((a<<8|b)%clients), uint16(1+(a^b)%ports))
		if op < 9 && len(ops) < half && b%3 != 0 {
			op = 9
		}
		switch {
		case op < 8:
			m.insert(k, a, b)
		case op == 15:
			m.now += time.Duration(b%8) * 50 * time.Millisecond
			m.until = uint64(m.now) / uint64(Tick)
			m.table.Expire(m.now, m.fire)
			for _, f := range m.flows {
				if f.due != 0 && f.due <= m.until {
					m.Fatalf("%d, due in tick %d, has not fired in tick %d", f.id, f.due, m.until)
				}
			}
		case len(m.flows) == 0:
			for _, id := range []ID{ID(a), chunkSlots, 1 << 31, none} { // unused ones are ignored
				m.table.Remove(id)
				m.table.Arm(id, 1)
				m.table.Assure(id)
				m.table.MarkIdle(id)
				m.table.ClearIdle(id)
			}
		default:
			m.change(op, a, b, (a<<8|b)%len(m.flows))
		}
		if !slices.ContainsFunc(m.flows, func(f modelFlow) bool { return f.row.Key == k }) {
			if id, e := m.table.Lookup(k); e != nil {
				m.Fatalf("Lookup gives %d, want none", id)
			}
		}
		m.most = max(m.most, len(m.flows))
		if step%every == 0 {
			m.check()
		}
	}
	m.check()
}

// change carries out an operation on flow i.
func (m *tableModel) change(op byte, a, b, i int) {
	f := &m.flows[i]
	switch {
	case op == 8: // the oldest makes room
		allowed := only(&m.services[b%len(m.services)])
		if a%2 == 0 {
			allowed = nil
		}
		if id, ok := m.table.OldestUnreplied(allowed); ok {
			m.remove(slices.IndexFunc(m.flows, func(f modelFlow) bool { return f.id == id }))
		}
	case op == 9:
		m.remove(i)
	case op == 10 && a%2 == 0:
		if m.table.MarkIdle(f.id); f.row.State != Unreplied && f.marked == 0 {
			m.marks++
			f.marked = m.marks
		}
	case op == 10:
		m.arm(i, b)
	case op < 13:
		if m.table.Assure(f.id); f.row.State == Unreplied {
			f.row.State = Assured
		}
	case op == 13:
		state := State(a) % (Assured + 1)
		f.entry.SetState(state)
		if state != 0 && state != Unreplied && f.row.State != Unreplied {
			f.row.State = state
		}
		f.row.Backend = &m.backends[b%len(m.backends)]
		f.entry.SetBackend(f.row.Backend)
	default:
		if b%2 == 0 {
			m.table.ClearIdle(f.id)
			f.marked = 0
		}
		m.now++
		f.row.Touched = m.now
		f.row.Up += uint64(a)
		f.row.Down += uint64(b)
		f.row.Tries++
		f.entry.SetTries(f.row.Tries)
		f.entry.CountUp(a, m.now)
		f.entry.CountDown(b, m.now-1) // late: Touched stays
	}
}

// check holds the table to the model, and its parts to their invariants.
func (m *tableModel) check() {
	m.Helper()
	if m.table.Len() != len(m.flows) {
		m.Fatalf("Len is %d, want %d", m.table.Len(), len(m.flows))
	}
	newest, rows := make(map[Key]ID), make(map[Row[service, backend]]bool)
	armed, first := 0, uint64(1<<63)
	for _, f := range m.flows {
		if m.table.Entry(f.id) != f.entry {
			m.Fatalf("Entry(%d) is %p, want %p", f.id, m.table.Entry(f.id), f.entry)
		}
		newest[f.row.Key], rows[f.row] = f.id, true
		if f.due != 0 {
			armed++
			first = min(first, f.due)
		}
	}
	if next, ok := m.table.NextDeadline(); ok != (armed > 0) || ok && uint64(next) > first<<tickShift {
		m.Fatalf("NextDeadline gives %v %v with %d armed, the first in tick %d", next, ok, armed, first)
	}
	for r := range m.table.Rows() { // no two flows are of the same age, so no two rows are equal
		if !rows[r] || !m.table.Has(&r) {
			m.Fatalf("row %+v is of no flow, or comes twice", r)
		}
		delete(rows, r)
	}
	if len(rows) > 0 {
		m.Fatalf("no rows of %v", rows)
	}
	if m.table.keys != nil {
		for k, want := range newest {
			if id, e := m.table.Lookup(k); id != want || e == nil {
				m.Fatalf("Lookup gives %d %p, want %d", id, e, want)
			}
		}
		checkIndex(m.T, m.table.keys, len(m.flows))
	}
	m.checkSlots(armed)
	m.checkEvictable()
}

// checkSlots checks that each slot is in use or once in the list of free ones, and
// that no free slot is armed or holds anything.
func (m *tableModel) checkSlots(armed int) {
	m.Helper()
	table, free := m.table, make(map[ID]bool)
	for id := table.free; id != none; id = table.slot(id).next() {
		e := table.slot(id)
		if free[id] || e.State() != 0 || e.Service() != nil || e.Backend() != nil || table.wheel.timer(id).due != 0 {
			m.Fatalf("slot %d is in the free list twice, or not free: %v %v %v", id, e.State(), e.Service(), e.Backend())
		}
		free[id] = true
	}
	if len(free)+table.Len() != int(table.highWater) || table.highWater > table.capacity {
		m.Fatalf("%d free and %d in use make %d begun of %d", len(free), table.Len(), table.highWater, table.capacity)
	}
	checkWheel(m.T, &table.wheel, armed)
}

// checkEvictable checks the queue of each service, both ways, and its head.
func (m *tableModel) checkEvictable() {
	m.Helper()
	type queue struct {
		*service
		queueKind
	}
	want := make(map[queue][]modelFlow)
	queued := make(map[*service]bool)
	for _, f := range m.flows {
		switch {
		case f.row.State == Unreplied:
			want[queue{f.row.Service, unreplied}] = append(want[queue{f.row.Service, unreplied}], f)
		case f.marked > 0:
			want[queue{f.row.Service, idle}] = append(want[queue{f.row.Service, idle}], f)
		default:
			continue
		}
		queued[f.row.Service] = true
	}
	q := &m.table.evictable
	if len(q.services) != len(queued) || len(q.position) != len(queued) {
		m.Fatalf("%d services have queues, want %d", len(q.services), len(queued))
	}
	for kind, oldest := range []func(func(*service) bool) (ID, bool){m.table.OldestUnreplied, m.table.OldestIdle} {
		var first *modelFlow
		for i := range m.services {
			s := &m.services[i]
			flows := want[queue{s, queueKind(kind)}]
			slices.SortStableFunc(flows, func(a, b modelFlow) int { return a.marked - b.marked })
			ids := make([]ID, 0, len(flows))
			for j := range flows {
				ids = append(ids, flows[j].id)
			}
			id, ok := oldest(only(s))
			if ok != (len(ids) > 0) || ok && id != ids[0] {
				m.Fatalf("the oldest of kind %d is %d %v, want that of %d", kind, id, ok, ids)
			}
			if !ok {
				continue
			}
			checkList(m.T, q.links, &q.services[q.position[s]].queues[kind], ids)
			if f := &flows[0]; first == nil || m.table.queuedSince(f.id, queueKind(kind)) < m.table.queuedSince(first.id, queueKind(kind)) {
				first = f
			}
		}
		if id, ok := oldest(nil); ok != (first != nil) || ok && id != first.id {
			m.Fatalf("the oldest of kind %d is %d %v, want %+v", kind, id, ok, first)
		}
	}
}

// checkList checks that a list holds these slots, both ways.
func checkList(t *testing.T, l listLinks, list *slotList, want []ID) {
	t.Helper()
	got, prev := slotsOf(l, *list), none
	for _, id := range got {
		if l.at(id).prev != prev {
			t.Fatalf("%d has %d before it, want %d", id, l.at(id).prev, prev)
		}
		prev = id
	}
	if !slices.Equal(got, want) || list.last != prev {
		t.Fatalf("the list holds %d up to %d, want %d", got, list.last, want)
	}
}

// slotsOf returns the slots of a list, up to as many as there are links.
func slotsOf(l listLinks, list slotList) (ids []ID) {
	for id := list.first; id != none && len(ids) <= len(l)*chunkSlots; id = l.at(id).next {
		ids = append(ids, id)
	}
	return ids
}

// checkIndex checks that the index has so many members, each in the bucket where
// it belongs, and returns the longest chain.
func checkIndex(t *testing.T, x *hashIndex, members int) (longest int) {
	t.Helper()
	linked := 0
	for b := range x.buckets {
		chain := 0
		for id := *x.head(b); id != none; id = x.link(id).next {
			if got := x.bucket(x.link(id).hash); got != b {
				t.Fatalf("%d, of bucket %d, lies in bucket %d", id, got, b)
			}
			if chain++; linked+chain > members {
				t.Fatalf("more than %d members are linked", members)
			}
		}
		linked += chain
		longest = max(longest, chain)
	}
	if linked != members || int(x.members) != members {
		t.Fatalf("%d members are linked, %d counted, want %d", linked, x.members, members)
	}
	// As many buckets as there ever were members, in chunks, and no more.
	if int(x.buckets) < members || len(x.heads) != int(x.buckets+chunkSlots-1)/chunkSlots {
		t.Fatalf("%d buckets in %d chunks for %d members", x.buckets, len(x.heads), members)
	}
	if x.buckets-1 > x.mask || x.buckets-1 <= x.mask>>1 {
		t.Fatalf("%d buckets, mask %#x", x.buckets, x.mask)
	}
	return longest
}
