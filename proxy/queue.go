package proxy

import (
	"sync"
	"sync/atomic"
	"time"
)

// queueLook is how often a client in a queue looks for a backend without being woken:
// room may come in other ways than by the end of a flow of the service.
const queueLook = time.Second

// queue is where the clients of a service wait while its backends have all the flows
// that they may: first come, first served, whichever worker they came by. A client
// leaves it with a backend, with its patience at an end, or because it has gone.
type queue struct {
	most int64        // clients at once; zero: there is no queue
	n    atomic.Int64 // clients in it, in line or looking; changed under mu

	mu          sync.Mutex
	first, last *ticket
	missed      bool // room came while nobody was in line but somebody was looking
}

// ticket is a flow's place in a queue. The queue's mu guards it.
type ticket struct {
	state      ticketState
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
	return t.state == outside
}

// enter counts a flow in, unless there is no place. One that found the queue empty has
// to look again, because room may have come before it was counted, and then to stay;
// behind others it stands in line at once.
func (q *queue) enter(t *ticket, wake func()) (place, look bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.state != outside {
		return true, false
	}
	before := q.n.Load()
	if before >= q.most {
		return false, false
	}
	q.n.Store(before + 1)
	t.wake = wake
	if before == 0 {
		t.state = looking
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

// leave takes a flow out of the queue, if it is in it. If it was woken and is not
// served, the next one is woken in its place. It reports whether it was.
func (q *queue) leave(t *ticket, served bool) (left bool) {
	if q.n.Load() == 0 {
		return false
	}
	q.mu.Lock()
	state := t.state
	if state == inLine {
		q.unlink(t)
	}
	if state != outside && q.n.Add(-1) == 0 {
		q.missed = false
	}
	*t = ticket{}
	q.mu.Unlock()
	if state == looking && !served {
		q.wake()
	}
	return state != outside
}

// wake lets the first in line look for a backend.
func (q *queue) wake() {
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
	t.state = looking
	wake := t.wake
	q.mu.Unlock()
	wake()
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
