package health

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// probe is one target of a Monitor. The check in flight owns it; between checks it is
// in the queue.
type probe struct {
	target  Target
	tracker tracker
	isBegun bool // a check has ended

	due   time.Time // of the next check
	index int       // in the queue, -1 if not there

	closeFirst sync.Once
	first      chan struct{} // closed after the first result is reported, or by stop

	// mu orders stop and report: once stop has returned, no report runs or begins. No
	// report runs under mu.
	mu      sync.Mutex
	ctx     context.Context
	cancel  context.CancelFunc
	reports sync.WaitGroup
}

func newProbe(t Target, policy Policy) *probe {
	p := &probe{target: t, tracker: tracker{rise: policy.Rise, fall: policy.Fall}, first: make(chan struct{}), index: -1}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// begin has a new probe go on from a known state.
func (p *probe) begin(isUp bool) {
	p.tracker.isKnown, p.tracker.isUp = true, isUp
	p.closeFirst.Do(func() { close(p.first) })
}

// observe feeds a result to the tracker and reports a change.
func (p *probe) observe(err error, report Report) {
	if p.tracker.observe(err == nil) {
		p.report(func() { report(p.target, err == nil, err) })
	}
}

// report makes a callback, unless the probe is stopped.
func (p *probe) report(callback func()) {
	p.mu.Lock()
	if p.ctx.Err() != nil {
		p.mu.Unlock()
		return
	}
	p.reports.Add(1)
	p.mu.Unlock()
	defer p.reports.Done()
	callback()
}

// endCheck notes the end of a check, and returns whether it was the first.
func (p *probe) endCheck() (isFirst bool) {
	p.closeFirst.Do(func() { close(p.first) })
	isFirst = !p.isBegun
	p.isBegun = true
	return isFirst
}

// stop ends a probe. It cancels a check in flight without waiting, and waits for a
// report.
func (p *probe) stop() {
	p.mu.Lock()
	p.cancel()
	p.mu.Unlock()
	p.reports.Wait()
	p.closeFirst.Do(func() { close(p.first) })
}

// queue orders probes by when they are due. It implements [heap.Interface].
type queue []*probe

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue) Push(x any) {
	p := x.(*probe)
	p.index = len(*q)
	*q = append(*q, p)
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	p := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	p.index = -1
	return p
}

// remove takes a probe out of the queue, if it is there.
func (q *queue) remove(p *probe) {
	if p.index >= 0 {
		heap.Remove(q, p.index)
	}
}
