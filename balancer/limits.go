package balancer

import "fmt"

// Limits bound the flows of one backend; 0 is no bound. The zero value is no limit.
type Limits struct {
	// Max is never exceeded, not by one.
	Max int `cbor:",omitempty"`
	// Upper and Lower are the thresholds of IPVS (ipvsadm -x, -y): a backend that
	// reaches Upper gets no new flows until it has fewer than Lower; Lower 0 means
	// three quarters of Upper. Flows that persistence sends there may pass them.
	Upper, Lower int `cbor:",omitempty"`
}

// Check returns an error that names the value that is wrong, or that would have no
// effect.
func (l Limits) Check() error {
	switch {
	case l.Max < 0:
		return fmt.Errorf("maximum of %d flows is negative", l.Max)
	case l.Upper < 0:
		return fmt.Errorf("upper threshold %d is negative", l.Upper)
	case l.Lower < 0:
		return fmt.Errorf("lower threshold %d is negative", l.Lower)
	case l.Lower > 0 && l.Upper == 0:
		return fmt.Errorf("lower threshold %d without an upper one", l.Lower)
	case l.Lower > l.Upper:
		return fmt.Errorf("lower threshold %d over the upper one, %d", l.Lower, l.Upper)
	case l.Max > 0 && l.Upper > l.Max:
		return fmt.Errorf("upper threshold %d over the maximum of %d flows is never reached", l.Upper, l.Max)
	}
	return nil
}

// updateOverload returns what the overload becomes when a backend has n flows: from Upper on it
// is there, below Lower it is not, between them it stays what it was. A flow that
// begins can only bring it on and one that ends can only end it, so one rule does for
// both and for new limits.
func (l *Limits) updateOverload(n int64, was bool) bool {
	lower := int64(l.Lower)
	if lower == 0 {
		lower = int64(l.Upper - l.Upper/4)
	}
	switch {
	case l.Upper == 0 || n < lower:
		return false
	case n >= int64(l.Upper):
		return true
	}
	return was
}

// load is what a backend carries, in one word so that all of it changes in one step:
// the number of its flows, whether they overload it, whether they are in the pool's
// count, and how often its limits were edited. Without the overload in it, a flow that
// ends while another one begins could leave a backend overloaded that has no flow at
// all. Without the edits, a flow could begin by limits that are no longer in force.
type load uint64

const (
	overloadBit load = 1
	countedBit  load = 1 << 1
	oneEdit     load = 1 << 2
	oneFlow     load = 1 << 17 // 15 bits of edits wrap; nobody sleeps through them all
	editBits    load = oneFlow - oneEdit
)

// maxFlows is beyond any number of flows, and its load fits into a word.
const maxFlows = 1 << 46

func (l load) active() int64    { return int64(l / oneFlow) }
func (l load) overloaded() bool { return l&overloadBit != 0 }
func (l load) counted() bool    { return l&countedBit != 0 }

func (l load) overload(is bool) load {
	if is {
		return l | overloadBit
	}
	return l &^ overloadBit
}

// edited is another load than l, whatever else is the same.
func (l load) edited() load { return l&^editBits | (l+oneEdit)&editBits }

// reserve and release are called by schedulers only, once each per flow. reserve
// reports false when the backend has no room; a flow that persistence sends passes
// the thresholds, but nobody passes Max.
func (b *Backend) reserve(persistent bool) bool {
	return b.reserveBelow(maxFlows, persistent)
}

// reserveBelow is reserve for a backend with fewer than most flows.
func (b *Backend) reserveBelow(most int64, persistent bool) bool {
	return b.reserveCounted(most, persistent, false)
}

// reserveCounted is reserveBelow for a flow that the pool's count may have in it already: it has it afterwards if there
// is room and the backend's flows are counted. Without room it leaves the count as it was.
//
// It and release read the load before the limits, and an edit writes them the other way
// round: when the load is still the same at the end, no edit was completed in between.
func (b *Backend) reserveCounted(most int64, persistent, isCounted bool) bool {
	was := isCounted
	for {
		before := load(b.flows.Load())
		n, after := before.active(), before+oneFlow
		l := b.limits.Load()
		if n >= most || l != nil && (l.Max > 0 && n >= int64(l.Max) || before.overloaded() && !persistent) {
			b.recount(isCounted, was)
			return false
		}
		if l != nil {
			after = after.overload(l.updateOverload(n+1, before.overloaded()))
		}
		b.recount(isCounted, before.counted()) // before the flow, so that the count is never too low
		isCounted = before.counted()
		if b.flows.CompareAndSwap(uint64(before), uint64(after)) {
			b.total.Add(1)
			return true
		}
	}
}

// release panics like a negative sync.WaitGroup: a count that went wrong would
// steer flows for as long as the process lives, and never be noticed.
func (b *Backend) release() {
	for {
		before := load(b.flows.Load())
		if before < oneFlow {
			panic("balancer: backend " + b.name + " released more often than acquired")
		}
		after := before - oneFlow
		if l := b.limits.Load(); l != nil {
			after = after.overload(l.updateOverload(after.active(), before.overloaded()))
		}
		if b.flows.CompareAndSwap(uint64(before), uint64(after)) {
			b.recount(before.counted(), false)
			return
		}
	}
}

// busy reports whether the backend has no room for a new flow.
func (b *Backend) busy() bool {
	l := b.limits.Load()
	if l == nil {
		return false
	}
	now := load(b.flows.Load())
	return now.overloaded() || l.Max > 0 && now.active() >= int64(l.Max)
}

// limit puts new limits in force and judges the overload anew, as IPVS does on an edit.
// When it returns, no later flow begins by the old limits, not even one that was
// looking at them. Caller must hold Pool.mu. Limits that were taken away are a new pointer as
// well: two edits between two builds do not look like none.
func (b *Backend) limit(l Limits) {
	if b.Limits() == l {
		return
	}
	b.limits.Store(&l)
	for {
		before := load(b.flows.Load())
		after := before.edited().overload(l.updateOverload(before.active(), before.overloaded()))
		if b.flows.CompareAndSwap(uint64(before), uint64(after)) {
			return
		}
	}
}
