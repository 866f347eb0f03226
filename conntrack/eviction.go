package conntrack

// evictionQueues hold the flows that may make room for others: per service, the
// unreplied ones by insertion and the idle ones by when they were marked. A flow is
// in one queue at most.
type evictionQueues[S any] struct {
	services []serviceQueues[S] // those with queued flows
	position map[*S]int         // of a service in services; strangers cannot choose it
	links    listLinks
	cursor   int // where the next search begins
}

type serviceQueues[S any] struct {
	service *S
	queues  [idle + 1]slotList
}

// queueKind says why a flow may be evicted.
type queueKind int

const (
	unreplied queueKind = iota
	idle
)

// servicesPerSearch bounds one search. The next one continues where it stopped.
const servicesPerSearch = 16

// push appends a flow to a queue of its service.
func (q *evictionQueues[S]) push(id ID, s *S, kind queueKind) {
	i, ok := q.position[s]
	if !ok {
		i = len(q.services)
		if q.position == nil {
			q.position = make(map[*S]int)
		}
		q.position[s] = i
		q.services = append(q.services, serviceQueues[S]{s, [...]slotList{newSlotList(), newSlotList()}})
	}
	q.links.pushBack(&q.services[i].queues[kind], id)
}

// remove takes a flow out of its queue.
func (q *evictionQueues[S]) remove(id ID, s *S, kind queueKind) {
	i := q.position[s]
	own := &q.services[i].queues
	q.links.unlink(&own[kind], id)
	q.links.at(id).prev = unlinked
	if own[unreplied].first != none || own[idle].first != none {
		return
	}
	last := len(q.services) - 1
	delete(q.position, s)
	if i != last {
		q.services[i] = q.services[last]
		q.position[q.services[i].service] = i
	}
	q.services[last] = serviceQueues[S]{}
	q.services = q.services[:last]
}

// has reports whether a flow is queued.
func (q *evictionQueues[S]) has(id ID) bool {
	return int(id/chunkSlots) < len(q.links) && q.links.at(id).prev != unlinked
}

// MarkIdle queues a flow for eviction behind its service's idle ones. It ignores
// unused IDs, [Unreplied] flows and those already marked. O(1).
func (t *Table[S, B]) MarkIdle(id ID) {
	e := t.Entry(id)
	if e == nil || t.evictable.has(id) {
		return
	}
	for int(id/chunkSlots) >= len(t.evictable.links) {
		t.evictable.links.grow() // a table that is not indexed has none before
	}
	t.evictable.push(id, e.Service(), idle)
}

// ClearIdle reverses MarkIdle. O(1).
func (t *Table[S, B]) ClearIdle(id ID) {
	if e := t.Entry(id); e != nil && e.State() != Unreplied && t.evictable.has(id) {
		t.evictable.remove(id, e.Service(), idle)
	}
}

// OldestUnreplied returns the [Unreplied] entry that was inserted first among the
// services that isAllowed accepts; nil accepts all. Of more than 16 services it looks
// at 16, the next call at the next ones. ok is false if it finds none.
func (t *Table[S, B]) OldestUnreplied(isAllowed func(*S) bool) (id ID, ok bool) {
	return t.oldest(unreplied, isAllowed)
}

// OldestIdle is like [Table.OldestUnreplied] for flows marked by MarkIdle. Of each
// service it takes the one marked first, and of those the one touched first.
func (t *Table[S, B]) OldestIdle(isAllowed func(*S) bool) (id ID, ok bool) {
	return t.oldest(idle, isAllowed)
}

func (t *Table[S, B]) oldest(kind queueKind, isAllowed func(*S) bool) (id ID, ok bool) {
	q := &t.evictable
	n := len(q.services)
	id = none
	for range min(n, servicesPerSearch) {
		if q.cursor++; q.cursor >= n {
			q.cursor = 0
		}
		own := &q.services[q.cursor]
		first := own.queues[kind].first
		if first == none || isAllowed != nil && !isAllowed(own.service) {
			continue
		}
		if id == none || t.queuedSince(first, kind) < t.queuedSince(id, kind) {
			id = first
		}
	}
	return id, id != none
}

// NextEvictable returns the flow behind id in its queue. ok is false at the end of the
// queue, and if id is not queued.
func (t *Table[S, B]) NextEvictable(id ID) (next ID, ok bool) {
	if !t.evictable.has(id) {
		return none, false
	}
	next = t.evictable.links.at(id).next
	return next, next != none
}

// queuedSince orders the heads of different services' queues.
func (t *Table[S, B]) queuedSince(id ID, kind queueKind) int64 {
	if kind == unreplied {
		return int64(t.slot(id).Created())
	}
	return int64(t.slot(id).Touched())
}
