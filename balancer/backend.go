package balancer

import (
	"net/netip"
	"sync/atomic"
)

// cacheLine separates what every flow writes from what every flow only reads. 64
// bytes is the line of amd64 and most arm64 cores; on others it costs speed only.
const cacheLine = 64

// Backend is one place that flows are sent to. It belongs to one pool, which keeps
// it for as long as its endpoint is listed; flows may hold it for longer. Its methods
// may be called from any goroutine.
type Backend struct {
	id       uint32
	pool     *Pool // that it belongs to
	endpoint Endpoint
	name     string

	weight  atomic.Int64
	status  atomic.Uint32 // admin state unless ready, else Down while ejected, else what checks found
	backup  atomic.Bool
	ejected atomic.Bool
	down    atomic.Bool                // found Down or ejected, whatever the admin state
	failing atomic.Bool                // a flow has failed since one was last taken up
	refused atomic.Bool                // a connection has failed since a check last passed
	member  atomic.Bool                // in the newest list of members
	gone    atomic.Bool                // no longer in the pool
	limits  atomic.Pointer[Limits]     // nil: never had any
	source  atomic.Pointer[netip.Addr] // nil: never had one

	// What only updates use fills the cache line between what flows read and what they write.
	// Guarded by Pool.mu:
	given  specSettings // last; isSet says whether there were any
	isSet  bool
	share  int16 // of the weight, in percent
	turned int32 // the last weight that was not 0; 0: there was none
	ramp   ramp

	// slot is the index in the newest list of members, -1 when the backend is not
	// in it. Guarded by Pool.build, so it is for scheduler.update alone.
	slot int

	flows    atomic.Uint64 // a load
	total    atomic.Uint64
	failures failures
	traffic  traffic
	// Of ewma: how long it takes to accept a flow, and then to begin its answer.
	accepting, answering latency

	node heapNode
}

func newBackend(id uint32, e Endpoint) *Backend {
	b := &Backend{id: id, endpoint: e, name: e.String(), slot: -1, ramp: ramp{share: fullShare}}
	b.node.place = -1
	return b
}

// set makes the backend what spec says, and reports whether its status is another one. Fine
// is that of the pool. Caller must hold Pool.mu.
func (b *Backend) set(spec Spec, fine bool) (changed bool) {
	given := spec.settings()
	if b.isSet && given == b.given {
		return false
	}
	b.given, b.isSet = given, true
	b.setWeight(fine)
	b.backup.Store(spec.Backup)
	if spec.Source != b.Source() {
		b.source.Store(&spec.Source)
	}
	limits := spec.Limits
	if limits.Check() != nil {
		limits = Limits{}
	}
	b.limit(limits)

	b.ejected.Store(spec.Ejected)
	b.down.Store(spec.found() == Down)
	status := spec.Status()
	if status == b.Status() {
		return false
	}
	if status == Up {
		b.ClearFailing()
	}
	b.status.Store(uint32(status))
	return true
}

// ID returns a number that no other backend of the pool has or ever had.
func (b *Backend) ID() uint32 { return b.id }

// Endpoint returns how the backend is reached.
func (b *Backend) Endpoint() Endpoint { return b.endpoint }

// String returns the endpoint as text, without formatting it anew.
func (b *Backend) String() string { return b.name }

// Weight returns the backend's share in relation to others; 0: no new flows. It is the
// weight asked for, also while a slow start or its Spec.Share counts less of it.
func (b *Backend) Weight() int { return int(b.weight.Load()) }

// maxShare bounds Spec.Share.
const maxShare = 10 * fullShare

// setWeight sets weight and share by the spec. Where shares cannot be fine, the weight takes them in: one
// that is not 0 stays above it. Caller must hold Pool.mu.
func (b *Backend) setWeight(fine bool) {
	w, share := int64(min(max(b.given.weight, 0), maxWeight)), b.given.share
	if share == 0 {
		share = fullShare
	}
	share = min(max(share, 1), maxShare)
	if !fine {
		w, share = min((w*int64(share)+fullShare-1)/fullShare, maxWeight), fullShare
	}
	b.weight.Store(w)
	b.share = int16(share)
	if w > 0 {
		b.turned = int32(w)
	}
}

// Status follows the admin state unless that is Ready, else it is what health checks found;
// a backend that is ejected is Down.
func (b *Backend) Status() Status { return Status(b.status.Load()) }

// Backup reports whether the backend waits until no other one is up.
func (b *Backend) Backup() bool { return b.backup.Load() }

// Ejected reports whether the backend is left alone because flows failed at it.
func (b *Backend) Ejected() bool { return b.ejected.Load() }

// Limits returns how many flows the backend may have; the zero value is no limit.
func (b *Backend) Limits() Limits {
	if l := b.limits.Load(); l != nil {
		return *l
	}
	return Limits{}
}

// Source returns the local address of connections to the backend. It is not valid where the kernel chooses.
func (b *Backend) Source() netip.Addr {
	if source := b.source.Load(); source != nil {
		return *source
	}
	return netip.Addr{}
}

// Active returns how many flows hold the backend now.
func (b *Backend) Active() int64 { return load(b.flows.Load()).active() }

// Total returns how often the backend has been acquired, including flows whose
// connect failed.
func (b *Backend) Total() uint64 { return b.total.Load() }

// NoteRefusal notes that the backend has not accepted a connection, CheckPassed that a
// check passed. HasRefused is true between the two: the backend may listen again before it
// is ready. Callers that can wait ask for it; no choice of the pool depends on it.
func (b *Backend) NoteRefusal() {
	if !b.refused.Load() {
		b.refused.Store(true)
	}
}

// HasRefused is described at NoteRefusal.
func (b *Backend) HasRefused() bool { return b.refused.Load() }

// CheckPassed is described at NoteRefusal.
func (b *Backend) CheckPassed() {
	if b.refused.Load() {
		b.refused.Store(false)
	}
}

// ClearFailing notes that the backend has taken a flow up.
func (b *Backend) ClearFailing() {
	if b.failing.Load() {
		b.failing.Store(false)
	}
}
