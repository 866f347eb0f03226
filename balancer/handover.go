package balancer

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// PoolState is what a pool knows of its backends, as plain data. [Pool.State] takes it, and
// [Pool.Restore] makes another pool know the same, maybe in another process.
type PoolState struct {
	// Backends are those in the pool, in their order, and behind them those that were
	// removed and are still held by flows.
	Backends []BackendState `cbor:"1,keyasint,omitempty"`
	LastID   uint32         `cbor:"2,keyasint,omitempty"` // of all backends that the pool ever had
}

// BackendState is one backend of a PoolState. How many flows hold it is not part of that: the
// caller of Restore counts them.
type BackendState struct {
	ID         uint32   `cbor:"1,keyasint"`
	Spec       Spec     `cbor:"2,keyasint"` // as last given
	Removed    bool     `cbor:"3,keyasint,omitempty"`
	Turned     int      `cbor:"4,keyasint,omitempty"` // the last weight that was not 0
	RampShare  uint8    `cbor:"5,keyasint,omitempty"` // of a slow start, in percent
	RampAge    int64    `cbor:"6,keyasint,omitempty"` // steps that it has taken
	Overloaded bool     `cbor:"7,keyasint,omitempty"`
	Failing    bool     `cbor:"8,keyasint,omitempty"`
	Refused    bool     `cbor:"9,keyasint,omitempty"`
	Total      uint64   `cbor:"10,keyasint,omitempty"`
	Failures   []uint64 `cbor:"11,keyasint,omitempty"` // by FailureReason
	Accepting  uint64   `cbor:"12,keyasint,omitempty"` // words of type latency
	Answering  uint64   `cbor:"13,keyasint,omitempty"`
	Up         uint64   `cbor:"14,keyasint,omitempty"`
	Down       uint64   `cbor:"15,keyasint,omitempty"`

	Connects *HistogramCounts `cbor:"16,keyasint,omitempty"` // nil: none
	Smoothed time.Duration    `cbor:"17,keyasint,omitempty"`

	In  uint64 `cbor:"18,keyasint,omitempty"` // packets
	Out uint64 `cbor:"19,keyasint,omitempty"`
}

// State returns the state of the pool, and the backends that it tells of, in the same order.
// held are backends that flows hold; those that are in the pool, or are there twice, count
// once.
func (p *Pool) State(held []*Backend) (st PoolState, backends []*Backend) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := make(map[*Backend]bool, len(held))
	for _, list := range [...][]*Backend{p.Backends(), held} {
		for _, b := range list {
			if !seen[b] && b.pool == p {
				seen[b] = true
				backends = append(backends, b)
			}
		}
	}
	clock := p.rampClock()
	st = PoolState{LastID: p.lastID, Backends: make([]BackendState, len(backends))}
	for i, b := range backends {
		st.Backends[i] = b.state(clock)
	}
	return st, backends
}

// state needs Pool.mu.
func (b *Backend) state(clock rampClock) BackendState {
	st := BackendState{
		ID: b.id, Spec: b.lastSpec(), Removed: b.gone.Load(), Turned: int(b.turned), RampShare: b.ramp.share,
		Overloaded: load(b.flows.Load()).overloaded(), Failing: b.failing.Load(), Refused: b.refused.Load(),
		Total: b.total.Load(), Failures: b.failures.all(),
		Accepting: b.accepting.word.Load(), Answering: b.answering.word.Load(),
	}
	st.Up, st.Down = b.Bytes()
	st.In, st.Out = b.Packets()
	if c := b.traffic.connects.Load(); c != nil {
		counts := c.Counts()
		st.Connects, st.Smoothed = &counts, b.ConnectTime()
	}
	if b.ramp.share < fullShare {
		st.RampAge = max(clock.step-b.ramp.since, 0)
	}
	return st
}

// lastSpec is the spec that was given last. Caller must hold Pool.mu.
func (b *Backend) lastSpec() Spec {
	g := &b.given
	return Spec{
		Endpoint: b.endpoint, Weight: g.weight, Share: g.share, Limits: g.limits, Source: g.source,
		Check: g.check, Admin: g.admin, Backup: g.backup, Ejected: g.ejected,
	}
}

// Check returns an error if no pool can have such a state at now, which is as of Flow.Now.
func (st *PoolState) Check(now time.Duration) error {
	ids, listed := make(map[uint32]bool, len(st.Backends)), make(map[Endpoint]bool, len(st.Backends))
	for i := range st.Backends {
		b := &st.Backends[i]
		e := b.Spec.Endpoint
		switch {
		case b.ID == 0 || b.ID > st.LastID || ids[b.ID]:
			return fmt.Errorf("backend %v: number %d of %d is invalid or taken", e, b.ID, st.LastID)
		case e != e.canonical() || !b.Removed && listed[e]:
			return fmt.Errorf("backend %v is there twice", e)
		case e.Addr.IsValid() && int(e.Addr.Port())+int(max(e.Ports, 1)) > 1<<16:
			return fmt.Errorf("backend %v: a range of ports ends at 65535", e)
		case len(b.Failures) > int(FailureReasons):
			return fmt.Errorf("backend %v: failures for %d reasons", e, len(b.Failures))
		case b.Turned < 0 || b.Turned > maxWeight:
			return fmt.Errorf("backend %v: weight %d", e, b.Turned)
		case b.RampShare < 1 || b.RampShare > fullShare || b.RampAge < 0:
			return fmt.Errorf("backend %v: %d%% of its weight after %d steps of a slow start", e, b.RampShare, b.RampAge)
		case !isEstimate(b.Accepting, now) || !isEstimate(b.Answering, now):
			return fmt.Errorf("backend %v: its latency is no number, or from the future", e)
		}
		ids[b.ID] = true
		if !b.Removed {
			listed[e] = true
		}
	}
	return nil
}

// isEstimate reports whether a word of a latency is a number of before now.
func isEstimate(word uint64, now time.Duration) bool {
	e := unpackEstimate(word)
	return !math.IsInf(e.mean, 0) && !math.IsNaN(e.mean) && e.at <= now
}

// Restore makes a new pool, which has had no Update, know what another one has known. active
// is how many flows hold each backend. It returns the backends in the order of the state.
// The pool works at once; a later Update with the same specs changes nothing. The error is
// that of st.Check, and then nothing has changed.
//
// What a scheduler remembers of its choices begins anew: turns, and who was picked last.
func (p *Pool) Restore(st *PoolState, active []int64, now time.Duration) ([]*Backend, error) {
	if err := st.Check(now); err != nil {
		return nil, err
	}
	if len(active) != len(st.Backends) {
		return nil, fmt.Errorf("%d counts of flows for %d backends", len(active), len(st.Backends))
	}
	p.mu.Lock()
	if p.lastID > 0 {
		p.mu.Unlock()
		return nil, errors.New("the pool is in use already")
	}
	all := make([]*Backend, len(st.Backends))
	backends := make([]*Backend, 0, len(st.Backends))
	for i := range st.Backends {
		b := restoreBackend(&st.Backends[i], min(max(active[i], 0), maxFlows-1), p.rules.fine)
		b.pool = p
		b.countFlows(p.counts)
		if all[i] = b; !b.gone.Load() {
			backends = append(backends, b)
		}
	}
	p.lastID, p.isRestored = st.LastID, true
	p.backends.Store(&backends)
	p.version++
	v := p.version
	p.mu.Unlock()
	p.apply(v)
	return all, nil
}

func restoreBackend(st *BackendState, active int64, fine bool) *Backend {
	b := newBackend(st.ID, st.Spec.Endpoint)
	b.set(st.Spec, fine)
	b.turned = int32(st.Turned)
	b.ramp = ramp{share: st.RampShare, since: -st.RampAge}
	b.gone.Store(st.Removed)
	b.flows.Store(uint64((load(active) * oneFlow).overload(st.Overloaded && st.Spec.Limits.Upper > 0)))
	b.failing.Store(st.Failing)
	b.refused.Store(st.Refused)
	b.total.Store(st.Total)
	for why, n := range st.Failures {
		b.failures.add(FailureReason(why), n)
	}
	b.accepting.word.Store(st.Accepting)
	b.answering.word.Store(st.Answering)
	b.CountBytes(st.Up, st.Down)
	b.CountPackets(st.In, st.Out)
	if st.Connects != nil {
		c := new(connects)
		c.Restore(*st.Connects)
		c.smoothed.Store(int64(st.Smoothed))
		b.traffic.connects.Store(c)
	}
	return b
}

// resumeRamps has slow starts of a restored pool go on from now: the clock may be another one
// than that of before. Caller must hold mu.
func (p *Pool) resumeRamps() {
	if !p.isRestored {
		return
	}
	p.isRestored = false
	step := p.rampClock().step
	for _, b := range p.Backends() {
		b.ramp.since += step
	}
}
