package conntrack

import (
	"sync"
	"time"
)

// A shard is a part of an Affinity with a lock of its own, which guards all of it.
type shard[S, B any] struct {
	mu sync.Mutex

	number   uint32
	chunks   []*[chunkSlots]template[S, B]
	capacity ID
	begun    ID // slots below this one have been in use
	free     ID // none: all begun ones are in use
	stats    AffinityStats

	keys index

	// The timer of a template is not moved when the template is refreshed. When it
	// fires, the template has ended, or is armed for the rest, or has flows: then
	// it is armed when the last of them ends. All without flows are armed.
	wheel wheel
	now   time.Duration // of the call of expire
	fire  func(ID)      // sh.due, bound once

	idle     order // templates without flows, in the order in which they lost the last one
	inIdle   places
	backends map[*B]templates // only those that have any
	inOwn    places
}

// templates are those of one backend.
type templates struct {
	order
	number int
}

func newShard[S, B any](number uint32, capacity int) *shard[S, B] {
	chunks := (capacity + chunkSlots - 1) / chunkSlots
	sh := &shard[S, B]{
		number:   number,
		chunks:   make([]*[chunkSlots]template[S, B], 0, chunks),
		capacity: ID(capacity),
		free:     none,
		stats:    AffinityStats{Capacity: capacity},
		keys:     newIndex(chunks),
		wheel:    newWheel(chunks),
		idle:     newOrder(),
		inIdle:   make(places, 0, chunks),
		backends: make(map[*B]templates),
		inOwn:    make(places, 0, chunks),
	}
	sh.fire = sh.due
	return sh
}

// slot returns a slot that has begun.
func (sh *shard[S, B]) slot(id ID) *template[S, B] { return &sh.chunks[id/chunkSlots][id%chunkSlots] }

// of returns what a flow under a template holds.
func (sh *shard[S, B]) of(id ID) Hold { return Hold{sh.number, id, sh.slot(id).life} }

// find returns the template of a key, or none. One that has ended is taken back.
func (sh *shard[S, B]) find(k *stickyKey[S], hash uint32, now time.Duration) ID {
	for id := sh.keys.first(hash); id != none; id = sh.keys.after(id) {
		t := sh.slot(id)
		if t.key != *k {
			continue
		}
		if t.over(now) {
			sh.stats.Expired++
			sh.forget(id)
			return none
		}
		return id
	}
	return none
}

// begin makes a template without flows, or returns none if there is no room.
func (sh *shard[S, B]) begin(k *stickyKey[S], hash uint32, b *B, expires, now time.Duration) ID {
	sh.expireSome(now, putTimers)
	if sh.free == none && sh.begun == sh.capacity {
		if sh.idle.oldest == none {
			sh.stats.Refused++
			return none
		}
		sh.stats.Evicted++
		sh.forget(sh.idle.oldest)
	}
	id := sh.free
	if id == none {
		id = sh.begun
		if id%chunkSlots == 0 {
			sh.chunks = append(sh.chunks, new([chunkSlots]template[S, B]))
			sh.keys.grow()
			sh.wheel.grow()
			sh.inIdle.grow()
			sh.inOwn.grow()
		}
		sh.begun++
	} else {
		sh.free = ID(sh.slot(id).flows)
	}
	t := sh.slot(id)
	t.key, t.backend = *k, b
	t.created, t.expires = now, expires
	t.life = max(t.life+1, 1)
	t.flows = 0
	sh.keys.insert(id, hash)
	sh.wheel.arm(id, expires)
	sh.inIdle.join(&sh.idle, id)
	sh.own(id, b)
	sh.stats.Made++
	sh.stats.Templates++
	return id
}

// forget frees the slot of a template, with flows or without.
func (sh *shard[S, B]) forget(id ID) {
	t := sh.slot(id)
	sh.keys.remove(id)
	sh.wheel.disarm(id)
	if t.flows == 0 {
		sh.inIdle.leave(&sh.idle, id)
	}
	sh.disown(id, t.backend)
	t.key.service, t.backend = nil, nil
	t.flows, sh.free = uint32(sh.free), id
	sh.stats.Templates--
}

// hold counts one flow more, and tells it by h.
func (sh *shard[S, B]) hold(id ID, h *Hold) {
	t := sh.slot(id)
	if t.flows == 0 {
		sh.inIdle.leave(&sh.idle, id)
	}
	t.flows++
	*h = sh.of(id)
}

// release counts one flow less, if the template that it was under is still there.
func (sh *shard[S, B]) release(h Hold, now time.Duration) {
	t := sh.slot(h.id)
	if t.backend == nil || t.life != h.life {
		return
	}
	if t.flows == 0 {
		panic("conntrack: a template was released more often than held")
	}
	t.expires = t.settled(now)
	if t.flows--; t.flows == 0 {
		sh.inIdle.join(&sh.idle, h.id)
		sh.wheel.armBy(h.id, t.expires)
	}
}

// move gives a template another backend.
func (sh *shard[S, B]) move(id ID, to *B) {
	t := sh.slot(id)
	sh.disown(id, t.backend)
	t.backend = to
	sh.own(id, to)
	sh.stats.Moved++
}

// own and disown keep the lists of the backends' templates.
func (sh *shard[S, B]) own(id ID, b *B) {
	own, ok := sh.backends[b]
	if !ok {
		own.order = newOrder()
	}
	sh.inOwn.join(&own.order, id)
	own.number++
	sh.backends[b] = own
}

func (sh *shard[S, B]) disown(id ID, b *B) {
	own := sh.backends[b]
	sh.inOwn.leave(&own.order, id)
	if own.number--; own.number == 0 {
		delete(sh.backends, b)
	} else {
		sh.backends[b] = own
	}
}

// expireSome takes back templates that have ended, seeing to so many timers at
// most. It reports whether nothing is left to do.
func (sh *shard[S, B]) expireSome(now time.Duration, most int) (done bool) {
	sh.now = now
	return sh.wheel.expireSome(now, most, sh.fire)
}

// due takes a template back whose timer has fired, if it has ended.
func (sh *shard[S, B]) due(id ID) {
	t := sh.slot(id)
	switch {
	case t.over(sh.now):
		sh.stats.Expired++
		sh.forget(id)
	case t.flows == 0:
		sh.wheel.arm(id, t.expires)
	}
}

// The methods below take the lock.

func (sh *shard[S, B]) expire(now time.Duration) (done bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.expireSome(now, expireTimers)
}

func (sh *shard[S, B]) countOf(b *B) int {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.backends[b].number
}

// drop forgets so many of a backend's templates, the oldest first, or all that
// there are if they are fewer.
func (sh *shard[S, B]) drop(b *B, most int) (n int) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for ; n < most; n++ {
		own, ok := sh.backends[b]
		if !ok {
			break
		}
		sh.forget(own.oldest)
	}
	sh.stats.Dropped += uint64(n)
	return n
}

// dropService forgets the templates of a service in some slots, and reports
// whether there are slots after them.
func (sh *shard[S, B]) dropService(s *S, from, to ID) (n int, more bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for id := from; id < min(to, sh.begun); id++ {
		if t := sh.slot(id); t.backend != nil && t.key.service == s {
			sh.forget(id)
			n++
		}
	}
	sh.stats.Dropped += uint64(n)
	return n, to < sh.begun
}

// rows appends the templates in some slots, and reports whether there are slots
// after them.
func (sh *shard[S, B]) rows(rows []Template[S, B], from, to ID, now time.Duration) (_ []Template[S, B], more bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for id := from; id < min(to, sh.begun); id++ {
		t := sh.slot(id)
		if t.backend == nil || t.over(now) {
			continue
		}
		rows = append(rows, Template[S, B]{
			Client:  t.key.client.prefix(),
			Service: t.key.service,
			Backend: t.backend,
			Flows:   int(t.flows),
			Created: t.created,
			Expires: t.settled(now),
		})
	}
	return rows, to < sh.begun
}
