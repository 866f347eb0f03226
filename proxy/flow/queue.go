package flow

import (
	"sync"
	"sync/atomic"
	"time"
)

// queueLook is how often the first in a queue looks for a backend without being woken:
// room may come in other ways than by the end of a flow of the service.
const queueLook = time.Second

// queue is where the clients of a service wait while its backends have all the flows
// that they may: first come, first served, whichever worker they came by. A client
// leaves it with a backend, with its patience at an end, or because it has gone.
type queue struct {
	n atomic.Int64 // clients in it, in line or looking; changed under mu

	mu          sync.Mutex
	first, last *ticket
	missed      bool // room came while nobody was in line but somebody was looking
}

// ticket is a flow's place in a queue. The queue's mu guards it, but for wake.
type ticket struct {
	state      ticketState
	more       bool // looking not for the room of one flow that has ended: there may be more
	prev, next *ticket
	wake       func() // has the flow's engine call next soon; called with no lock held
}

type ticketState uint8

const (
	outside ticketState = iota
	looking             // counted, and about to look for a backend
	inLine
)

// closed reports whether a client must not look for a backend, because others have
// waited longer.
func (q *queue) closed(t *ticket) bool {
	if q.n.Load() == 0 {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return t == nil || t.state == outside || t.state == inLine && t != q.first
}

// enter counts a flow in, unless there is no place. One that found the queue empty, or
// comes after room that nobody was in line for, has to look, and then to stay; behind
// others it stands in line at once. One that comes back, because the backend that it
// was given did not take it, has waited already, and nobody has taken its place: it has
// to look, too, for it may have been woken for the room of another one.
func (q *queue) enter(t *ticket, back bool, most int) (place, look bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.state != outside {
		return true, false
	}
	before := q.n.Load()
	if before >= int64(most) && !back {
		return false, false
	}
	q.n.Store(before + 1)
	if before == 0 || q.missed || back {
		q.missed = false
		t.state, t.more = looking, true // room may have come before it was counted
		return true, true
	}
	t.state, t.prev = inLine, q.last
	if q.last != nil {
		q.last.next = t
	} else {
		q.first = t
	}
	q.last = t
	return true, false
}

// stay puts a flow that has looked in vain at the front of the line, where it was woken.
// It reports false if room has come meanwhile: then it has to look again.
func (q *queue) stay(t *ticket) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.state == inLine {
		return true
	}
	if q.missed {
		q.missed = false
		return false
	}
	t.state, t.next = inLine, q.first
	if q.first != nil {
		q.first.prev = t
	} else {
		q.last = t
	}
	q.first = t
	return true
}

// leave takes a flow out of the queue, if it is in it, and reports whether it was. The
// next one is woken if this one was woken and is not served, or if it is served and
// there may be room for more.
func (q *queue) leave(t *ticket, served bool) (left bool) {
	if q.n.Load() == 0 || t == nil {
		return false
	}
	q.mu.Lock()
	state, more := t.state, t.more
	if state == inLine {
		q.unlink(t)
		more = true // it looked without being woken
	}
	if state != outside && q.n.Add(-1) == 0 {
		q.missed = false
	}
	t.state, t.more = outside, false
	q.mu.Unlock()
	if state == looking && !served || state != outside && served && more {
		q.call(more)
	}
	return state != outside
}

// wake lets the first in line look for a backend, because a flow has ended.
func (q *queue) wake() { q.call(false) }

// call is wake; more says that there may be room for others, too.
func (q *queue) call(more bool) {
	if q.n.Load() == 0 {
		return
	}
	q.mu.Lock()
	t := q.first
	if t == nil {
		q.missed = q.n.Load() > 0
		q.mu.Unlock()
		return
	}
	q.unlink(t)
	t.state, t.more = looking, more
	wake := t.wake
	q.mu.Unlock()
	wake()
}

// callAll has all in line look for a backend.
func (q *queue) callAll() {
	for {
		q.mu.Lock()
		t := q.first
		if t == nil {
			q.mu.Unlock()
			return
		}
		q.unlink(t)
		t.state = looking
		wake := t.wake
		q.mu.Unlock()
		wake()
	}
}

// unlink needs mu.
func (q *queue) unlink(t *ticket) {
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		q.first = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	} else {
		q.last = t.prev
	}
	t.prev, t.next = nil, nil
}
