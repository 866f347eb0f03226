package health

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// probe is one target being watched. It belongs to the check that is in flight for it,
// or else to its place in the queue.
type probe struct {
	target  Target
	tracker Tracker
	begun   bool // there has been a check

	due   time.Time // of the next check
	place int       // in the queue, -1 if not there

	known sync.Once
	first chan struct{} // closed by known: after the first result is reported, or at the end

	// The context is cancelled, and reports are made, only under mu: once
	// stop has returned, there is no report under way and none to come.
	mu     sync.Mutex
	ctx    context.Context
	cancel context.CancelFunc
}

func newProbe(t Target, policy Policy) *probe {
	p := &probe{target: t, tracker: NewTracker(policy.Rise, policy.Fall), first: make(chan struct{}), place: -1}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// observe feeds a result to the tracker and reports what is new.
func (p *probe) observe(err error, report Report) {
	up, changed := p.tracker.Observe(err == nil)
	if changed {
		p.tell(func() { report(p.target, up, err) })
	}
}

// tell makes a report, unless the probe has been stopped.
func (p *probe) tell(report func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() == nil {
		report()
	}
}

// ended takes note of the end of a check, and reports whether it was the first.
func (p *probe) ended() (first bool) {
	p.known.Do(func() { close(p.first) })
	first = !p.begun
	p.begun = true
	return first
}

// stop ends a probe: a check in flight is told to end, and not waited for.
func (p *probe) stop() {
	p.mu.Lock()
	p.cancel()
	p.mu.Unlock()
	p.known.Do(func() { close(p.first) })
}

// queue orders probes by when they are due. It is a [heap.Interface].
type queue []*probe

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

func (q *queue) Push(x any) {
	p := x.(*probe)
	p.place = len(*q)
	*q = append(*q, p)
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	p := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	p.place = -1
	return p
}

// drop takes a probe out, if it is there.
func (q *queue) drop(p *probe) {
	if p.place >= 0 {
		heap.Remove(q, p.place)
	}
}
