package conntrack

import "unsafe"

// IndexedBytes is what an entry of an indexed table costs on top of [EntryBytes]:
// 12 bytes for its key, and 16 for its places among the unreplied entries of the
// table and of its service.
const IndexedBytes = 28

// An index that outgrows IndexedBytes does not compile.
const _ = IndexedBytes - indexBytes - 2*unsafe.Sizeof(neighbours{})

// indexed is what an indexed table has more than a plain one.
type indexed[S any] struct {
	keys index // the members are the slots in use

	// The slots that are Unreplied, in order of insertion: those of the table, and
	// those of each service that has any. A Go map will do, as services are few
	// and no stranger chooses them.
	unreplied order
	inTable   places
	services  map[*S]order
	inService places
}

// NewIndexed returns a table as [New] does that also finds entries by their keys
// and keeps the unreplied ones in order. Its flows begin [Unreplied] instead of
// [Connecting].
//
// The keys are hashed with a seed of the table's own, so that strangers cannot
// choose keys that meet. No operation takes longer because the table is growing,
// but for the allocation of a chunk.
func NewIndexed[S, B any](capacity int) *Table[S, B] {
	t := New[S, B](capacity)
	chunks := cap(t.chunks)
	t.indexed = &indexed[S]{
		keys:      newIndex(chunks),
		unreplied: newOrder(),
		inTable:   make(places, 0, chunks),
		services:  make(map[*S]order),
		inService: make(places, 0, chunks),
	}
	return t
}

// Lookup returns the entry of a key, nil if there is none. Of several with one
// key it is the one inserted last. O(1). In a table that is not indexed it finds
// nothing.
func (t *Table[S, B]) Lookup(k Key) (ID, *Entry[S, B]) {
	x := t.indexed
	if x == nil {
		return none, nil
	}
	for id := x.keys.first(k.hash(x.keys.seed)); id != none; id = x.keys.after(id) {
		if e := t.slot(id); e.hasKey(&k) {
			return id, e
		}
	}
	return none, nil
}

// Assure makes an [Unreplied] flow [Assured]: its backend has answered. O(1). A
// flow in another state and an id that is not in use are left alone.
func (t *Table[S, B]) Assure(id ID) {
	if e := t.Entry(id); e != nil && e.State() == Unreplied {
		t.indexed.replied(id, e.Service())
		e.setVersion(e.loadVersion().withState(Assured))
	}
}

// OldestUnreplied returns the entry inserted first of those that are [Unreplied];
// ok is false if there is none, and always in a table that is not indexed. O(1).
func (t *Table[S, B]) OldestUnreplied() (id ID, ok bool) {
	if t.indexed == nil {
		return none, false
	}
	id = t.indexed.unreplied.oldest
	return id, id != none
}

// OldestUnrepliedOf is like [Table.OldestUnreplied] among the entries that were
// inserted with s. O(1).
func (t *Table[S, B]) OldestUnrepliedOf(s *S) (id ID, ok bool) {
	if t.indexed == nil {
		return none, false
	}
	o, ok := t.indexed.services[s]
	if !ok {
		return none, false
	}
	return o.oldest, true
}

// grow makes room for one more chunk of slots.
func (x *indexed[S]) grow() {
	x.keys.grow()
	x.inTable.grow()
	x.inService.grow()
}

// enter takes up a flow that begins, unreplied.
func (x *indexed[S]) enter(id ID, k Key, s *S) {
	x.keys.insert(id, k.hash(x.keys.seed))
	x.inTable.join(&x.unreplied, id)
	o, ok := x.services[s]
	if !ok {
		o = newOrder()
	}
	x.inService.join(&o, id)
	x.services[s] = o
}

// replied takes an unreplied flow of a service out of the orders.
func (x *indexed[S]) replied(id ID, s *S) {
	x.inTable.leave(&x.unreplied, id)
	o := x.services[s]
	x.inService.leave(&o, id)
	if o.oldest == none {
		delete(x.services, s)
	} else {
		x.services[s] = o
	}
}

// leave forgets a flow that ends, in the state that it is in.
func (x *indexed[S]) leave(id ID, s *S, state State) {
	x.keys.remove(id)
	if state == Unreplied {
		x.replied(id, s)
	}
}
