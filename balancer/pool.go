package balancer

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxWeight is the largest weight, as in IPVS.
	maxWeight = math.MaxInt32
	// topWeight is the largest that a member can have: maxWeight in hundredths.
	topWeight = maxWeight * fullShare
)

// Spec is a backend as it is asked for.
type Spec struct {
	Endpoint Endpoint
	// Weight is the share of new flows in relation to other backends; 0 gives it
	// none and leaves existing flows alone. Values outside 0 … 2147483647 count as
	// the nearest one inside.
	Weight int
	// Share is how much of Weight counts now, in percent from 1 to 1000; 0 means all of
	// it. It is exact for small weights too where shares of flows follow weights; where
	// they do not, or follow them as in the kernel (fo, ovf, all with ipvs), Weight itself
	// becomes the whole number next above. Values outside count as the nearest one inside.
	Share int
	// Backup keeps new flows from the backend while one without it is in use.
	Backup bool
	// Limits bound its flows. Limits that do not pass their Check count as none.
	Limits Limits
}

// Pool is the set of backends of one service and the scheduler that chooses among
// them. All its methods may be called from any goroutine. Acquire, Rejoin, Release,
// Observe and ObserveConnect do not wait for the scheduler to take in a change that the
// others make.
type Pool struct {
	scheduler  scheduler
	learner    learner // scheduler, if it is one
	quiesced   bool    // backends of weight 0 are members
	fine       bool    // members may have weights in hundredths
	failClosed bool
	panicShare int
	slowStart  time.Duration
	local      bool
	initial    Status
	backends   atomic.Pointer[[]*Backend]

	// mu guards what was asked for and what was found. build makes scheduler.update
	// run one at a time; it is held for as long as a table takes to build, so no
	// caller waits for it with mu held. Where both are held, build is taken first.
	mu      sync.Mutex
	listed  map[Endpoint]*Backend
	lastID  uint32
	version uint64 // counts changes of backends, weights, limits and status

	build   sync.Mutex
	built   uint64 // the version that members come from
	members []member
	reliefs atomic.Pointer[[]*Backend] // see relief
}

// NewPool returns a pool without backends. The error is that of o.Check.
func NewPool(o Options) (*Pool, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	a, err := lookup(o.Scheduler)
	if err != nil {
		return nil, err
	}
	settings := o.settings()
	p := &Pool{
		scheduler:  a.make(settings),
		quiesced:   a.quiesced != nil && a.quiesced(settings),
		fine:       a.Weighs && !settings.ipvs,
		failClosed: o.FailClosed,
		panicShare: o.Panic,
		slowStart:  o.SlowStart,
		initial:    o.Initial,
		local:      a.Destination || o.HashKey.Of >= LocalAddr,
	}
	p.learner, _ = p.scheduler.(learner)
	p.backends.Store(new([]*Backend))
	p.reliefs.Store(new([]*Backend))
	p.scheduler.update(nil)
	return p, nil
}

// Backends returns all backends in the order given to Update. The slice is a snapshot
// that callers share and must not change.
func (p *Pool) Backends() []*Backend { return *p.backends.Load() }

// Acquire picks a backend that is not in tried (which may be nil), and reserves it
// for the flow in the same step. Without one it returns nil, and busy says whether
// waiting may help: some backend would do, but has all the flows that its limits
// allow. The caller owes one Release. It does not allocate.
func (p *Pool) Acquire(f Flow, tried *Tried) (b *Backend, busy bool) {
	if b, busy = p.scheduler.acquire(f, tried); b != nil || busy || tried.Len() == 0 {
		return b, busy
	}
	for _, b := range *p.reliefs.Load() {
		switch {
		case tried.Has(b):
		case p.scheduler.take(b, false):
			return b, false
		default:
			busy = true
		}
	}
	return nil, busy
}

// Release gives back a backend that Acquire or Rejoin reserved, exactly once, however
// the set has changed since. One release too many panics as soon as the count would go
// below zero.
func (p *Pool) Release(b *Backend) { p.scheduler.release(b) }

// Stickiness says which backends a flow may go back to.
type Stickiness struct {
	// Quiesced and Overloaded allow backends of weight 0 or in drain, and those that
	// have reached their upper threshold. IPVS allows both.
	Quiesced, Overloaded bool
}

// Rejoin reserves a backend that earlier flows of the same client had, instead of
// choosing one, and reports whether that could be: the backend is still in the pool,
// not in maintenance, and within its Limits.Max; nor is it down, drained or not, unless
// those that are down are in use. A backup keeps its clients when it is no longer
// needed. The caller owes one Release then. It does not allocate.
func (p *Pool) Rejoin(b *Backend, allow Stickiness) bool {
	if b.gone.Load() || !b.endpoint.Resolved() || b.down.Load() && !b.member.Load() {
		return false
	}
	switch b.Status() {
	case Maint:
		return false
	case Drain:
		if !allow.Quiesced {
			return false
		}
	}
	if b.Weight() == 0 && !allow.Quiesced {
		return false
	}
	return p.scheduler.take(b, allow.Overloaded)
}

// LooksAtLocal reports whether choices depend on Flow.Local.
func (p *Pool) LooksAtLocal() bool { return p.local }

// Learns reports whether Observe and ObserveConnect have an effect.
func (p *Pool) Learns() bool { return p.learner != nil }

// Observe tells a scheduler that learns how long b took to begin its answer to a flow,
// the time to accept it left out; see Flow.Now for now. It does not allocate.
func (p *Pool) Observe(b *Backend, took, now time.Duration) {
	if p.learner != nil {
		p.learner.answered(b, took, now)
	}
}

// ObserveConnect is Observe for how long b took to accept a flow, or for how long it has
// not accepted one that is given up.
func (p *Pool) ObserveConnect(b *Backend, took, now time.Duration) {
	if p.learner != nil {
		p.learner.accepted(b, took, now)
	}
}

// Update makes specs the backends of the pool. A backend whose endpoint stays keeps its
// identity, status and counters; an endpoint listed again after an Update without it
// starts anew. Of equal endpoints the first counts. When Update returns, no later
// Acquire gives a removed backend.
func (p *Pool) Update(specs []Spec) (added, removed []*Backend) {
	p.mu.Lock()
	next := make([]*Backend, 0, len(specs))
	listed := make(map[Endpoint]*Backend, len(specs))
	for _, spec := range specs {
		e := spec.Endpoint.canonical()
		if listed[e] != nil {
			continue
		}
		b := p.listed[e]
		if b == nil {
			b = p.newBackend(e)
			added = append(added, b)
		}
		b.weigh(spec.Weight, spec.Share, p.fine)
		if w := b.Weight(); w > 0 {
			b.turned = w
		}
		b.backup.Store(spec.Backup)
		limits := spec.Limits
		if limits.Check() != nil {
			limits = Limits{}
		}
		b.limit(limits)
		listed[e] = b
		next = append(next, b)
	}
	for _, b := range p.Backends() {
		if listed[b.endpoint] != b {
			b.gone.Store(true)
			removed = append(removed, b)
		}
	}
	p.listed = listed
	p.backends.Store(&next)
	v := p.changed()
	p.mu.Unlock()

	p.apply(v)
	return added, removed
}

// SetStatus records a finding (Unknown, Up, Down) or an order (Drain, Maint) and
// reports whether b.Status() changed by it. Under an order a finding is kept, and
// counts once Resume lifts the order. A backend that is no longer in the pool does not
// change. When SetStatus returns, later choices follow it.
func (p *Pool) SetStatus(b *Backend, s Status) (changed bool) {
	switch s {
	case Unknown, Up, Down:
		return p.set(b, func() { b.health = s })
	case Drain, Maint:
		return p.set(b, func() { b.order = s })
	}
	return false
}

// Resume lifts the order that SetStatus gave, if any, and reports whether b.Status()
// changed by it.
func (p *Pool) Resume(b *Backend) (changed bool) {
	return p.set(b, func() { b.order = Unknown })
}

// Eject makes a backend Down whatever health checks find, until Readmit; an order still
// stands above it. Both report whether b.Status() changed by it.
func (p *Pool) Eject(b *Backend) (changed bool) {
	return p.set(b, func() { b.ejected.Store(true) })
}

// Readmit ends what Eject began.
func (p *Pool) Readmit(b *Backend) (changed bool) {
	return p.set(b, func() { b.ejected.Store(false) })
}

// set runs change, which writes to b.health, b.order or b.ejected, and makes it count.
func (p *Pool) set(b *Backend, change func()) bool {
	p.mu.Lock()
	if p.listed[b.endpoint] != b {
		p.mu.Unlock()
		return false
	}
	change()
	s := b.health
	if b.ejected.Load() {
		s = Down
	}
	b.down.Store(s == Down)
	if b.order != Unknown {
		s = b.order
	}
	v, changed := p.version, s != b.Status()
	if changed {
		b.ramp = ramp{share: fullShare}
		if s == Up {
			p.beginRamp(b)
		}
		b.status.Store(uint32(s))
		v = p.changed()
	}
	p.mu.Unlock()

	p.apply(v) // also what another caller found before, and is still being built
	return changed
}

// newBackend needs mu.
func (p *Pool) newBackend(e Endpoint) *Backend {
	p.lastID++
	b := &Backend{id: p.lastID, endpoint: e, name: e.String(), health: p.initial, slot: -1, share: fullShare, ramp: ramp{share: fullShare}}
	if !e.Resolved() {
		b.health = Down
	}
	if b.health == Up {
		p.beginRamp(b)
	}
	b.status.Store(uint32(b.health))
	b.down.Store(b.health == Down)
	b.node.place = -1
	return b
}

// changed needs mu. It returns the version to apply.
func (p *Pool) changed() uint64 {
	p.version++
	return p.version
}

// apply returns when the scheduler works with version v or a later one. Callers that
// wait here while another one builds are served together by the next build: when ten
// thousand checks report at once, a Maglev table is not built ten thousand times.
func (p *Pool) apply(v uint64) {
	p.build.Lock()
	defer p.build.Unlock()
	if p.built >= v {
		return
	}
	p.mu.Lock()
	members := p.eligible()
	changed := !slices.Equal(members, p.members)
	if changed {
		for _, m := range p.members {
			m.slot = -1
		}
		for i, m := range members {
			m.slot = i
			m.member.Store(true)
		}
	}
	relief := p.relief()
	p.built = p.version
	p.mu.Unlock()
	p.reliefs.Store(&relief)
	if !changed {
		return
	}
	for _, m := range p.members {
		if m.slot < 0 {
			m.member.Store(false)
		}
	}
	p.scheduler.update(members)
	p.members = members
}
