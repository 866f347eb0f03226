package balancer

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// maxWeight is the largest weight, as in IPVS.
const maxWeight = math.MaxInt32

// Spec is a backend as it is asked for.
type Spec struct {
	Endpoint Endpoint
	// Weight is the share of new flows in relation to other backends; 0 gives it
	// none and leaves existing flows alone. Values outside 0 … 2147483647 count as
	// the nearest one inside.
	Weight int
}

// Options are fixed for the life of a pool.
type Options struct {
	// Scheduler is one of Schedulers(); empty means DefaultScheduler.
	Scheduler string
	// FailClosed leaves backends that are down alone even when there is no other.
	FailClosed bool
	// Initial is the status of new backends: Up for a pool without health checks,
	// Unknown (the zero value) for one with.
	Initial Status
}

// Pool is the set of backends of one service and the scheduler that chooses among
// them. All its methods may be called from any goroutine. Acquire and Release do not
// wait for the scheduler to take in a change that the others make.
type Pool struct {
	scheduler  scheduler
	failClosed bool
	initial    Status
	backends   atomic.Pointer[[]*Backend]

	// mu guards what was asked for and what was found. build makes scheduler.update
	// run one at a time; it is held for as long as a table takes to build, so no
	// caller waits for it with mu held. Where both are held, build is taken first.
	mu      sync.Mutex
	listed  map[Endpoint]*Backend
	lastID  uint32
	version uint64 // counts changes of backends, weights and status

	build   sync.Mutex
	built   uint64 // the version that members come from
	members []member
}

// NewPool returns a pool without backends. The error names the option that is wrong.
func NewPool(o Options) (*Pool, error) {
	if o.Initial > Down {
		return nil, fmt.Errorf("initial status %q: one of unknown, up, down", o.Initial)
	}
	s, err := newScheduler(o.Scheduler)
	if err != nil {
		return nil, err
	}
	p := &Pool{scheduler: s, failClosed: o.FailClosed, initial: o.Initial}
	p.backends.Store(new([]*Backend))
	p.scheduler.update(nil)
	return p, nil
}

// Backends returns all backends in the order given to Update. The slice is a snapshot
// that callers share and must not change.
func (p *Pool) Backends() []*Backend { return *p.backends.Load() }

// Acquire picks a backend that is not in tried (which may be nil), and reserves it
// for the flow in the same step. It returns nil when there is none left. The caller
// owes one Release. It does not allocate.
func (p *Pool) Acquire(f Flow, tried *Tried) *Backend { return p.scheduler.acquire(f, tried) }

// Release gives back a backend that Acquire returned, exactly once, however the set
// has changed since. One release too many panics as soon as the count would go
// below zero.
func (p *Pool) Release(b *Backend) { p.scheduler.release(b) }

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
		b.weight.Store(int64(min(max(spec.Weight, 0), maxWeight)))
		listed[e] = b
		next = append(next, b)
	}
	for _, b := range p.Backends() {
		if listed[b.endpoint] != b {
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

// set runs change, which writes to b.health or b.order, and makes it count.
func (p *Pool) set(b *Backend, change func()) bool {
	p.mu.Lock()
	if p.listed[b.endpoint] != b {
		p.mu.Unlock()
		return false
	}
	change()
	s := b.health
	if b.order != Unknown {
		s = b.order
	}
	if s == b.Status() {
		p.mu.Unlock()
		return false
	}
	b.status.Store(uint32(s))
	v := p.changed()
	p.mu.Unlock()

	p.apply(v)
	return true
}

// newBackend needs mu.
func (p *Pool) newBackend(e Endpoint) *Backend {
	p.lastID++
	b := &Backend{id: p.lastID, endpoint: e, name: e.String(), health: p.initial, slot: -1}
	if !e.Resolved() {
		b.health = Down
	}
	b.status.Store(uint32(b.health))
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
	p.built = p.version
	p.mu.Unlock()
	if slices.Equal(members, p.members) {
		return
	}
	for _, m := range p.members {
		m.slot = -1
	}
	for i, m := range members {
		m.slot = i
	}
	p.scheduler.update(members)
	p.members = members
}

// eligible returns the members by the rule in the package documentation. It needs mu.
func (p *Pool) eligible() []member {
	members := make([]member, 0, len(p.Backends()))
	for _, s := range []Status{Up, Unknown, Down} {
		if s == Down && p.failClosed {
			break
		}
		for _, b := range p.Backends() {
			if w := b.Weight(); w > 0 && b.Status() == s && b.endpoint.Resolved() {
				members = append(members, member{b, w})
			}
		}
		if len(members) > 0 {
			break
		}
	}
	return members
}
