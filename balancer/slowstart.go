package balancer

import "time"

// fullShare is the whole weight of a backend in units of its ramp.
const fullShare = 100

// rampSteps is how often the weight of a backend changes in its slow start.
const rampSteps = 10

// ramp is the slow start of a backend: on only while the backend is up. Guarded by
// Pool.mu.
type ramp struct {
	share uint8 // of the weight, in percent; fullShare when there is no slow start
	since int64 // the step of the pool's clock with which it began
}

// rampClock counts the steps of a pool's slow starts.
//
// All backends of a pool take their steps at the same moments, of which there are rampSteps
// in the time of a slow start. The first one lasts until such a moment and a whole step
// more. Each step is a new list of members, which a hashing scheduler builds a table for: a
// thousand backends that came up one by one cost no more tables than one.
type rampClock struct {
	step, begins int64         // the one that is on, and that of a slow start that begins now
	next         time.Duration // when the next step begins
}

// rampClock needs mu.
func (p *Pool) rampClock() rampClock {
	step := max(p.rules.slowStart/rampSteps, 1)
	at := p.now / step
	return rampClock{step: int64(at), begins: int64((p.now + step - 1) / step), next: (at + 1) * step}
}

// begin returns the ramp of a backend whose status has changed.
func (c *rampClock) begin(slow bool) ramp {
	if !slow {
		return ramp{share: fullShare}
	}
	return ramp{share: shareOf(0), since: c.begins}
}

// advance moves a ramp on, and reports whether it goes on.
func (c *rampClock) advance(r *ramp) bool {
	if r.share < fullShare {
		r.share = max(r.share, shareOf(max(c.step-r.since, 0))) // another pace takes nothing back
	}
	return r.share < fullShare
}

// shareOf is the share in a step of a slow start: the mean of a straight line over it.
func shareOf(step int64) uint8 {
	if step >= rampSteps {
		return fullShare
	}
	return uint8((2*step + 1) * fullShare / (2 * rampSteps))
}
