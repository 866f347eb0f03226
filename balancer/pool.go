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

// Pool is the set of backends of one service and the scheduler that chooses among
// them. Any goroutine may call its methods. Acquire, AcquireSticky, Release, Observe and
// ObserveConnect do not wait for a change that Update makes.
type Pool struct {
	chooser  atomic.Pointer[chooser] // replaced by Configure
	backends atomic.Pointer[[]*Backend]

	// mu guards the specs. build makes scheduler.update run one at a time and is held for as
	// long as a table takes to build; it is taken before mu.
	mu      sync.Mutex
	rules   rules
	lastID  uint32
	now     time.Duration // the latest of all updates
	version uint64        // counts updates
	counts  bool          // the flows of backends are in count
	count   *flowCount    // nil until there is a bound; set once, before any backend counts
	// isRestored: slow starts are counted from zero, until the first Update tells the time.
	isRestored bool

	build    sync.Mutex
	options  Options
	heap     *heapScheduler // of all schedulers that have one; nil: there was none
	built    uint64         // the version that members come from
	members  []member
	last     atomic.Pointer[fallback]
	bestTier atomic.Int32 // of the members, as an index of tiers; noTier without any
}

// NewPool returns a pool without backends. The error is that of o.Check.
func NewPool(o Options) (*Pool, error) {
	p := new(Pool)
	p.backends.Store(new([]*Backend))
	p.last.Store(new(fallback))
	p.bestTier.Store(int32(noTier))
	return p, p.Configure(o)
}

// Backends returns all backends in the order given to Update. The slice is a snapshot
// that callers share and must not change.
func (p *Pool) Backends() []*Backend { return *p.backends.Load() }

// Acquire picks a backend that is not in tried, which may be nil, and reserves it for the
// flow in the same step. Without one it returns nil. busy then says that waiting may
// help: some backend would do, but its limits allow no more flows. The caller owes one
// Release. It does not allocate.
//
// A flow with an empty tried is a new flow, else a retry. Retries do not skew the
// schedule: new flows get the turns that they would get without them. A retry that has
// tried all members gets one of the others that is in service: a backup that is up, then,
// unless Flow.UpOnly, one of unknown status, and, unless the pool fails closed, one that
// is down. The package document has the rules for backends that fail.
func (p *Pool) Acquire(f Flow, tried *Tried) (b *Backend, busy bool) {
	for {
		c := p.chooser.Load()
		b, busy = p.acquire(c.scheduler, f, tried)
		if p.chooser.Load() == c {
			return b, busy
		}
		if b != nil {
			p.rekey(b)
			return b, busy
		}
	}
}

func (p *Pool) acquire(s scheduler, f Flow, tried *Tried) (b *Backend, busy bool) {
	if f.UpOnly && p.bestTier.Load() > 0 {
		return nil, false
	}
	if b, busy = s.acquire(f, tried); b != nil || busy || tried.Len() == 0 {
		return b, busy
	}
	return p.last.Load().acquire(s, &f, tried)
}

// Release gives back a backend that Acquire or AcquireSticky reserved, exactly once, however
// the set has changed since. One release too many panics as soon as the count would go
// below zero.
func (p *Pool) Release(b *Backend) {
	c := p.chooser.Load()
	c.scheduler.release(b)
	if p.chooser.Load() != c {
		p.rekey(b)
	}
}

// AffinityPolicy says which backends a flow may go back to.
type AffinityPolicy struct {
	// Quiesced and Overloaded allow backends of weight 0 or in drain, and those that
	// have reached their upper threshold. IPVS allows both.
	Quiesced, Overloaded bool
}

// AllDown reports whether no member is better than down: flows go to backends that are
// down because there are no others, or nowhere.
func (p *Pool) AllDown() bool { return int(p.bestTier.Load()) >= noTier-1 }

// AcquireSticky reserves a backend that earlier flows of the same client had, and reports
// whether it could. The backend must be in the pool, not in maintenance, and within its
// Limits.Max. It must not be down, drained or not, unless backends that are down are in
// use. A backup keeps its clients when it is no longer needed. After true the caller owes
// one Release. It does not allocate.
func (p *Pool) AcquireSticky(b *Backend, allow AffinityPolicy) bool {
	if b.pool != p || b.gone.Load() || !b.endpoint.Resolved() || b.down.Load() && !b.member.Load() {
		return false
	}
	switch b.Status() {
	case InMaint:
		return false
	case Draining:
		if !allow.Quiesced {
			return false
		}
	}
	if b.Weight() == 0 && !allow.Quiesced {
		return false
	}
	c := p.chooser.Load()
	took := c.scheduler.take(b, allow.Overloaded)
	if p.chooser.Load() != c {
		p.rekey(b)
	}
	return took
}

// UsesDestination reports whether choices depend on Flow.Local.
func (p *Pool) UsesDestination() bool { return p.chooser.Load().local }

// Scheduler returns the name of the scheduler, and whether it hashes.
func (p *Pool) Scheduler() (name string, hashes bool) {
	a := p.chooser.Load().algorithm
	return a.Name, a.Hashes
}

// ObservesLatency reports whether Observe and ObserveConnect have an effect.
func (p *Pool) ObservesLatency() bool { return p.chooser.Load().latency != nil }

// Observe notes how long b took to begin its answer to a flow, without the time to accept
// it. now is as in Flow.Now. It does not allocate.
func (p *Pool) Observe(b *Backend, took, now time.Duration) {
	if l := p.chooser.Load().latency; l != nil {
		l.answered(b, took, now)
	}
}

// ObserveConnect is Observe for how long b took to accept a flow, or for how long a flow
// waited until it gave up.
func (p *Pool) ObserveConnect(b *Backend, took, now time.Duration) {
	if l := p.chooser.Load().latency; l != nil {
		l.accepted(b, took, now)
	}
}

// Update makes specs the backends of the pool, and is the only way to change what a backend
// is. A backend whose endpoint stays keeps its identity and counters; an endpoint listed
// again after an Update without it starts anew. Of equal endpoints the first counts. When
// Update returns, later choices follow it: no later Acquire gives a removed backend.
// Updates that wait while another one builds a table share the next build.
//
// Slow starts follow now, a time on a clock that does not run backwards: an earlier one
// counts as the latest. The same specs are due again at next, which is later than now; 0
// means that no slow start is on.
func (p *Pool) Update(specs []Spec, now time.Duration) (removed []*Backend, next time.Duration) {
	p.mu.Lock()
	removed, next = p.updateLocked(specs, now)
	v := p.version
	p.mu.Unlock()

	p.apply(v)
	return removed, next
}

func (p *Pool) updateLocked(specs []Spec, now time.Duration) (removed []*Backend, next time.Duration) {
	p.now = max(p.now, now)
	p.resumeRamps()
	clock := p.rampClock()
	if p.isListed(specs) {
		for i, b := range p.Backends() {
			next = max(next, p.set(b, specs[i], clock))
		}
		p.version++
		return nil, next
	}
	before := make(map[Endpoint]*Backend, len(p.Backends()))
	for _, b := range p.Backends() {
		before[b.endpoint] = b
	}
	backends := make([]*Backend, 0, len(specs))
	listed := make(map[Endpoint]*Backend, len(specs))
	for _, spec := range specs {
		e := spec.Endpoint.canonical()
		if listed[e] != nil {
			continue
		}
		b := before[e]
		if b == nil {
			p.lastID++
			b = newBackend(p.lastID, e)
			b.pool = p
			b.countFlows(p.counts)
		}
		next = max(next, p.set(b, spec, clock))
		listed[e] = b
		backends = append(backends, b)
	}
	for _, b := range p.Backends() {
		if listed[b.endpoint] != b {
			b.gone.Store(true)
			removed = append(removed, b)
		}
	}
	p.backends.Store(&backends)
	p.version++
	return removed, next
}

// isListed reports whether specs are of the same backends in the same order. Caller must hold mu.
func (p *Pool) isListed(specs []Spec) bool {
	return slices.EqualFunc(specs, p.Backends(), func(s Spec, b *Backend) bool { return s.Endpoint == b.endpoint })
}

// set makes a backend what spec says, and returns when its slow start goes on; 0: none is on. Caller must hold mu.
func (p *Pool) set(b *Backend, spec Spec, clock rampClock) (next time.Duration) {
	spec.Endpoint = b.endpoint
	if b.set(spec, p.rules.fine) {
		b.ramp = clock.begin(b.Status() == Up && p.rules.slowStart > 0)
	}
	if clock.advance(&b.ramp) {
		next = clock.next
	}
	return next
}

// apply returns when the scheduler works with version v or a later one. Callers that wait
// for a build share the next one.
func (p *Pool) apply(v uint64) {
	p.build.Lock()
	defer p.build.Unlock()
	if p.built < v {
		p.rebuild(nil)
	}
}

// rebuild makes the scheduler, or the next one if there is one, work with the members of the moment. Caller must hold
// build.
func (p *Pool) rebuild(next *chooser) {
	p.mu.Lock()
	members := p.eligible()
	changed := next != nil || !slices.Equal(members, p.members)
	if changed {
		for _, m := range p.members {
			m.slot = -1
		}
		for i, m := range members {
			m.slot = i
			m.member.Store(true)
		}
	}
	last := p.fallback()
	tier := noTier
	for _, m := range members {
		tier = min(tier, m.tier())
	}
	p.built = p.version
	p.mu.Unlock()
	p.last.Store(last)
	if int32(tier) > p.bestTier.Load() { // raised before flows get a worse member
		p.bestTier.Store(int32(tier))
	}
	if changed {
		p.replace(members, next)
	}
	p.bestTier.Store(int32(tier)) // lowered after they get better ones
}

// replace makes members the list that the scheduler works with, or the next one. Caller must hold build.
func (p *Pool) replace(members []member, next *chooser) {
	for _, m := range p.members {
		if m.slot < 0 {
			m.member.Store(false)
		}
	}
	if next != nil {
		next.scheduler.update(members)
		p.hand(next)
	} else {
		p.chooser.Load().scheduler.update(members)
	}
	p.members = members
}
