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
	fresh bool  // begins with the next Advance
	since int64 // the step of the pool's clock with which it began
}

// beginRamp has the slow start of a backend begin. It needs mu.
func (p *Pool) beginRamp(b *Backend) {
	b.ramp = ramp{share: fullShare}
	if p.slowStart > 0 {
		b.ramp = ramp{share: shareOf(0), fresh: true}
	}
}

// shareOf is the share in a step of a slow start: the mean of a straight line over it.
func shareOf(step int64) uint8 {
	if step >= rampSteps {
		return fullShare
	}
	return uint8((2*step + 1) * fullShare / (2 * rampSteps))
}

// Advance moves slow starts on to now, on a clock that does not run backwards. A
// backend that has come up since the last call begins here, so the first call after
// SetStatus, Resume, Readmit or Update must not be long in coming. It returns when to
// be called next, which is later than now; ok is false while no slow start is on, until
// a backend comes up.
//
// All backends of a pool take their steps at the same moments, of which there are
// rampSteps in the time of a slow start, and the first one lasts until such a moment
// and a whole step more. Each step is a new list of members, which a hashing scheduler
// builds a table for: a thousand backends that came up one by one cost no more tables
// than one.
func (p *Pool) Advance(now time.Duration) (next time.Duration, ok bool) {
	if p.slowStart == 0 {
		return 0, false
	}
	step := max(p.slowStart/rampSteps, 1)
	at := int64(now / step)
	p.mu.Lock()
	moved := false
	for _, b := range p.Backends() {
		r := &b.ramp
		if r.share == fullShare {
			continue
		}
		if r.fresh {
			r.fresh, r.since = false, int64((now+step-1)/step)
		}
		// Two callers may come in the wrong order; a share never goes back.
		if share := shareOf(max(at-r.since, 0)); share > r.share {
			r.share, moved = share, true
		}
		if r.share < fullShare {
			next, ok = time.Duration(at+1)*step, true
		}
	}
	if !moved {
		p.mu.Unlock()
		return next, ok
	}
	v := p.changed()
	p.mu.Unlock()

	p.apply(v)
	return next, ok
}
