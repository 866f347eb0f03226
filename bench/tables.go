package main

import (
	"context"
	"io"
	"math/rand/v2"
	"net/netip"
	"time"

	"usher/conntrack"
)

// What the flows of the measured tables belong to, and were given.
type (
	flowService struct{ _ int }
	flowBackend struct{ _ int }
)

// tablesConfig says how large the study is.
type tablesConfig struct {
	sizes []int // numbers of entries
	// bearable is the most entries of a list that is searched to be changed.
	bearable int
}

var tableStudy = tablesConfig{sizes: []int{100, 1000, 10_000, 100_000, 1_000_000}, bearable: 100_000}

// operation names what is done to what.
func operation(what, where string) string { return what + " " + where }

// What is compared.
const (
	inTable    = "table"
	inAffinity = "affinity"
	inList     = "list"
	inLump     = "list, once a second"
)

const (
	find    = "find"
	miss    = "miss"
	replace = "replace"
	refresh = "refresh"
	expire  = "expire"
)

// abouts says what each operation is, in the order of the report; short is for its drawing.
var abouts = [...]struct{ what, short, about string }{
	{find, "Find an entry", "find the entry of a client that has one, any of them; with affinity also take a hold of it and release it"},
	{miss, "Look for one that is not there", "look for a client that has none"},
	{replace, "Replace one by another", "find any entry and remove it, insert one of a new client; with affinity the one that is idle for longest makes room"},
	{refresh, "Move a deadline", "move the deadline of any entry; with the list after it has been found, with the table by its number"},
	{expire, "A deadline, until it fires", "what a deadline costs from when it is set until it fires, five minutes later, while all entries have one; " +
		"the list looks at all of them at each tick of the table, to be as punctual, or once a second, which is later and in lumps; " +
		"with affinity one is made as well, and removed"},
}

// idle is how long an entry is kept.
const idle = 5 * time.Minute

func runTables(ctx context.Context, c tablesConfig, o studyOptions, progress io.Writer) ([]byte, error) {
	var subjects []subject
	for _, n := range c.sizes {
		subjects = append(subjects, tableSubjects(n)...)
		subjects = append(subjects, affinitySubjects(n)...)
		subjects = append(subjects, listSubjects(n, n <= c.bearable)...)
	}
	times, err := newStopwatch(o).measure(ctx, subjects, progress)
	if err != nil {
		return nil, err
	}
	r := tablesResults{c, times}
	return r.text(o), nil
}

// keyOf names the flow of the i-th client.
func keyOf(i uint32) conntrack.Key {
	return conntrack.NewKey(conntrack.UDP, netip.AddrPortFrom(clientOf(i), 40000), localAddr)
}

func clientOf(i uint32) netip.Addr { return ipv4(10<<24 + i) }

var localAddr = netip.AddrPortFrom(ipv4(192<<24|2<<8|1), 53)

// missing is added to the number of a client, for one without an entry.
const missing = 1 << 25

// visits cycles through n places, in an order unrelated to the one in which they were
// filled. A few in a row are spread evenly over all. So the mean of a few searches is
// that of many.
type visits struct{ at, step, n uint32 }

func newVisits(n int) *visits {
	v := &visits{n: uint32(n), step: uint32(float64(n)*0.6180339887) | 1}
	for common(v.step, v.n) != 1 {
		v.step += 2
	}
	return v
}

func (v *visits) next() uint32 {
	v.at = (v.at + v.step) % v.n
	return v.at
}

// common returns the greatest common divisor.
func common(x, y uint32) uint32 {
	for y != 0 {
		x, y = y, x%y
	}
	return x
}

// successors are the clients that have an entry, by place, and the next one that comes.
type successors struct {
	clients []uint32
	next    uint32
}

func newSuccessors(n int) *successors {
	s := &successors{clients: make([]uint32, n), next: uint32(n)}
	for i := range s.clients {
		s.clients[i] = uint32(i)
	}
	return s
}

// replace puts the next client in a place, and returns it and the one that was there.
func (s *successors) replace(place uint32) (out, in uint32) {
	out, in = s.clients[place], s.next
	s.clients[place] = in
	// Clients return after so many others that they have no entry any more.
	s.next = (s.next + 1) % missing
	return out, in
}

// each makes a subject of an operation on one entry at a time.
func each(what, where string, n int, do func()) subject {
	return subject{operation(what, where), n, func(times int) {
		for range times {
			do()
		}
	}}
}

// tableSubjects are those of tables that find n entries by their keys. One is only
// searched and refreshed, in one the entries change, and in one their deadlines pass.
func tableSubjects(n int) []subject {
	s := &flowService{}
	fill := func() (*conntrack.Table[flowService, flowBackend], []conntrack.ID) {
		table := conntrack.NewIndexed[flowService, flowBackend](n)
		ids := make([]conntrack.ID, n)
		for i := range ids {
			ids[i], _ = table.Insert(keyOf(uint32(i)), s, 0)
		}
		return table, ids
	}
	random := rand.New(rand.NewPCG(5, 6))
	table, ids := fill()
	passing, passingIDs := fill()
	for i := range n {
		at := time.Duration(random.Int64N(int64(idle)))
		table.Arm(ids[i], at)
		passing.Arm(passingIDs[i], at)
	}
	now, fired, wanted := time.Duration(0), 0, 0
	fire := func(id conntrack.ID) {
		fired++
		passing.Arm(id, now+idle)
	}
	expireOne := func() {
		for wanted++; fired < wanted; {
			now, _ = passing.NextDeadline()
			passing.Expire(now, fire)
		}
	}
	for range n { // from then on all come from five minutes away
		expireOne()
	}

	changing, _ := fill()
	clients := newSuccessors(n)
	found, changed, refreshed := newVisits(n), newVisits(n), newVisits(n)
	absent := uint32(missing)
	return []subject{
		each(find, inTable, n, func() {
			if _, e := table.Lookup(keyOf(found.next())); e == nil {
				panic("bench: an entry of the table is lost")
			}
		}),
		each(miss, inTable, n, func() {
			absent++
			if _, e := table.Lookup(keyOf(missing + absent%missing)); e != nil {
				panic("bench: the table has an entry too many")
			}
		}),
		each(replace, inTable, n, func() {
			out, in := clients.replace(changed.next())
			id, _ := changing.Lookup(keyOf(out))
			changing.Remove(id)
			changing.Insert(keyOf(in), s, 0)
		}),
		each(refresh, inTable, n, func() {
			table.Arm(ids[refreshed.next()], time.Duration(random.Uint64N(uint64(idle))))
		}),
		each(expire, inTable, n, expireOne),
	}
}

// affinitySubjects are those of tables of n templates, likewise.
func affinitySubjects(n int) []subject {
	s, to := &flowService{}, &flowBackend{}
	persistence := conntrack.AffinityConfig{Timeout: idle}
	var h conntrack.AffinityRef
	fill := func(a *conntrack.Affinity[flowService, flowBackend]) {
		for i := range n {
			a.Put(&h, conntrack.NewAffinityClient(s, clientOf(uint32(i)), persistence), nil, to, 0)
			a.Release(&h, 0)
		}
	}
	// Room for more, since a table that has shards makes room before it is full.
	standing := conntrack.NewAffinity[flowService, flowBackend](2 * n)
	fill(standing)
	changing := conntrack.NewAffinity[flowService, flowBackend](n)
	fill(changing)

	passing := conntrack.NewAffinity[flowService, flowBackend](2 * n)
	now, next := time.Duration(0), uint32(0)
	pass := func() {
		now += idle / time.Duration(n) // so that n are there
		passing.Put(&h, conntrack.NewAffinityClient(s, clientOf(next), persistence), nil, to, now)
		passing.Release(&h, now)
		next = (next + 1) % missing
		if next%expireEvery == 0 {
			passing.Expire(now)
		}
	}
	for range 2 * n {
		pass()
	}
	found, newcomer := newVisits(n), uint32(n)
	return []subject{
		each(find, inAffinity, n, func() {
			if standing.Get(&h, conntrack.NewAffinityClient(s, clientOf(found.next()), persistence), 0) == nil {
				panic("bench: a template is lost")
			}
			standing.Release(&h, 0)
		}),
		each(replace, inAffinity, n, func() {
			changing.Put(&h, conntrack.NewAffinityClient(s, clientOf(newcomer), persistence), nil, to, 0)
			changing.Release(&h, 0)
			newcomer = (newcomer + 1) % missing
		}),
		each(expire, inAffinity, n, pass),
	}
}

// expireEvery is after how many templates those that have ended are taken back at once.
const expireEvery = 1000

// listSubjects are those of a list of n flows: all of them, or only the searches.
func listSubjects(n int, all bool) []subject {
	fill := func() *flowList {
		l, random := &flowList{}, rand.New(rand.NewPCG(5, 6))
		for i := range n {
			l.insert(keyOf(uint32(i)), nil, 0)
			l.deadlines[i] = time.Duration(random.Int64N(int64(idle)))
		}
		return l
	}
	l := fill()
	found := newVisits(n)
	absent := uint32(missing)
	subjects := []subject{
		each(find, inList, n, func() {
			if l.lookup(keyOf(found.next())) < 0 {
				panic("bench: a flow of the list is lost")
			}
		}),
		each(miss, inList, n, func() {
			absent++
			if l.lookup(keyOf(missing+absent%missing)) >= 0 {
				panic("bench: the list has a flow too many")
			}
		}),
		each(expire, inList, n, l.expirer(conntrack.Tick)),
		each(expire, inLump, n, fill().expirer(time.Second)),
	}
	if !all {
		return subjects
	}
	changing := fill()
	clients, changed, refreshed := newSuccessors(n), newVisits(n), newVisits(n)
	return append(subjects,
		each(replace, inList, n, func() {
			out, in := clients.replace(changed.next())
			changing.remove(changing.lookup(keyOf(out)))
			changing.insert(keyOf(in), nil, 0)
		}),
		each(refresh, inList, n, func() {
			changing.deadlines[changing.lookup(keyOf(clients.clients[refreshed.next()]))]++
		}),
	)
}

// expirer returns a function that lets one more deadline pass, as time goes on in steps.
// They fire in lumps: a call whose deadline fired with an earlier one does nothing.
func (l *flowList) expirer(step time.Duration) func() {
	now, fired, wanted := time.Duration(0), 0, 0
	fire := func(i int) {
		fired++
		l.deadlines[i] = now + idle
	}
	return func() {
		for wanted++; fired < wanted; {
			now += step
			l.expire(now, fire)
		}
	}
}

// The bytes of an entry.
const (
	tableEntryBytes    = conntrack.EntryBytes + conntrack.IndexedBytes
	affinityEntryBytes = conntrack.AffinityBytes
)
