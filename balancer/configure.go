package balancer

import (
	"slices"
	"time"
)

// chooser is what flows choose by. It never changes.
type chooser struct {
	scheduler scheduler
	latency   latencyObserver // scheduler, if it is one
	heap      *heapScheduler  // scheduler's, if it has one
	local     bool
	algorithm *Algorithm
}

// rules say who is a member, and with which weight.
type rules struct {
	quiesced   bool // those of weight 0 too
	fine       bool // weights may be in hundredths
	failClosed bool
	panicShare int
	slowStart  time.Duration
}

// Configure changes the options while flows come and go. Backends stay what they are, with their flows, counters and
// latencies. A slow start that is on goes on from the share that it has reached. A scheduler that stays keeps its state;
// another one begins anew, with the flows that there are. The error is that of o.Check; nothing has changed then.
//
// The next scheduler is complete before flows see it, and no flow waits for it. It may miss what flows do to backends
// while it takes over. So each flow looks after its step whether the scheduler is still the same, and if not has the new
// one look at the backend again; and the new one looks at all of them once flows see it.
func (p *Pool) Configure(o Options) error {
	if err := o.Check(); err != nil {
		return err
	}
	a, err := lookup(o.Scheduler)
	if err != nil {
		return err
	}
	p.build.Lock()
	defer p.build.Unlock()
	next := p.prepare(&o, &a)
	p.options = o
	p.rebuild(next)
	if o.Balance == 0 {
		p.countFlows(false)
	}
	return nil
}

// prepare puts the rules of o in force, and returns the chooser that o asks for; nil if it is the present one. Caller must
// hold build.
func (p *Pool) prepare(o *Options, a *algorithm) *chooser {
	settings := o.settings()
	p.mu.Lock()
	p.setRulesLocked(rules{
		quiesced:   a.quiesced && settings.ipvs,
		fine:       a.Weighs && !settings.ipvs,
		failClosed: o.FailClosed,
		panicShare: o.Panic,
		slowStart:  o.SlowStart,
	})
	p.mu.Unlock()
	if p.chooser.Load() != nil && p.options.choosesAs(o) {
		return nil
	}
	if o.Balance > 0 {
		p.countFlows(true)
	}
	settings.count, settings.heap = p.count, p.heap
	next := &chooser{scheduler: a.make(settings), local: a.Destination || o.HashKey.Of >= LocalAddr, algorithm: &a.Algorithm}
	next.latency, _ = next.scheduler.(latencyObserver)
	if h, is := next.scheduler.(interface{ owner() *heapScheduler }); is {
		next.heap = h.owner()
		p.heap = next.heap
	}
	if next.heap == nil {
		next.scheduler.update(nil)
	}
	return next
}

// choosesAs reports whether the schedulers of two options are the same.
func (o *Options) choosesAs(x *Options) bool {
	return o.Scheduler == x.Scheduler && slices.Equal(o.Flags, x.Flags) && o.HashKey == x.HashKey && o.Balance == x.Balance
}

// setRulesLocked makes r the rules.
func (p *Pool) setRulesLocked(r rules) {
	was, before := p.rules, p.rampClock()
	p.rules = r
	now := p.rampClock()
	for _, b := range p.Backends() {
		if was.fine != r.fine {
			b.setWeight(r.fine)
		}
		switch {
		case r.slowStart == 0:
			b.ramp = ramp{share: fullShare}
		case r.slowStart != was.slowStart:
			b.ramp.since += now.begins - before.step
		}
	}
	p.version++
}

// countFlows has the flows of all backends counted or not. Caller must hold build.
func (p *Pool) countFlows(is bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.counts == is {
		return
	}
	if p.count == nil {
		p.count = new(flowCount)
	}
	p.counts = is
	for _, b := range p.Backends() {
		b.countFlows(is)
	}
}

// hand makes next the chooser of flows. Caller must hold build.
func (p *Pool) hand(next *chooser) {
	before := p.chooser.Swap(next)
	switch {
	case next.heap != nil:
		next.heap.settle()
	case before != nil && before.heap != nil:
		before.heap.clear()
	}
}

// rekey has the present scheduler look at a backend again that a flow has had by the one before.
func (p *Pool) rekey(b *Backend) {
	if h := p.chooser.Load().heap; h != nil {
		h.touch(b)
	}
}
