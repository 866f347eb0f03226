package balancer

import "sync/atomic"

// Status is the condition of a backend. Unknown, Up and Down are findings of health
// checks; Drain and Maint are orders of an operator and stand above any finding.
type Status uint8

const (
	Unknown Status = iota // no check has ended yet
	Up
	Down
	Drain // no new flows, those that exist go on
	Maint // out of service
)

func (s Status) String() string {
	switch s {
	case Unknown:
		return "unknown"
	case Up:
		return "up"
	case Down:
		return "down"
	case Drain:
		return "drain"
	case Maint:
		return "maint"
	}
	return "invalid"
}

// cacheLine separates what every flow writes from what every flow only reads. 64
// bytes is the line of amd64 and most arm64 cores; on others it costs speed only.
const cacheLine = 64

// Backend is one place that flows are sent to. It belongs to one pool, which keeps
// it for as long as its endpoint is listed; flows may hold it for longer. Its methods
// may be called from any goroutine.
type Backend struct {
	id       uint32
	endpoint Endpoint
	name     string

	weight  atomic.Int64
	status  atomic.Uint32 // order if there is one, else Down while ejected, else health
	backup  atomic.Bool
	ejected atomic.Bool
	down    atomic.Bool            // found Down or ejected, whatever the order
	member  atomic.Bool            // in the newest list of members
	gone    atomic.Bool            // no longer in the pool
	limits  atomic.Pointer[Limits] // nil: never had any

	// Guarded by Pool.mu:
	health Status // Unknown, Up or Down
	order  Status // Drain, Maint, or Unknown for none
	turned int    // the last weight that was not 0; 0: there was none
	share  int    // of the weight, in percent
	ramp   ramp

	// slot is the index in the newest list of members, -1 when the backend is not
	// in it. Guarded by Pool.build, so it is for scheduler.update alone.
	slot int

	_ [cacheLine]byte

	flows    atomic.Uint64 // a load
	total    atomic.Uint64
	failures atomic.Uint64
	// Of ewma: how long it takes to accept a flow, and then to begin its answer.
	accepting, answering latency

	node rankNode
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

// weigh sets weight and share. Where shares cannot be fine, the weight takes them in: one
// that is not 0 stays above it. It needs Pool.mu.
func (b *Backend) weigh(weight, share int, fine bool) {
	w := int64(min(max(weight, 0), maxWeight))
	if share == 0 {
		share = fullShare
	}
	share = min(max(share, 1), maxShare)
	if !fine {
		w, share = min((w*int64(share)+fullShare-1)/fullShare, maxWeight), fullShare
	}
	b.weight.Store(w)
	b.share = share
}

// Status returns the operator's order if there is one, else what health checks found;
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

// Active returns how many flows hold the backend now.
func (b *Backend) Active() int64 { return load(b.flows.Load()).active() }

// Overloaded reports whether the backend is between its thresholds: it reached the
// upper one, and is not yet below the lower one.
func (b *Backend) Overloaded() bool {
	return load(b.flows.Load()).overloaded()
}

// Total returns how often the backend has been acquired, including flows whose
// connect failed.
func (b *Backend) Total() uint64 { return b.total.Load() }

// Failures returns how often CountFailure has been called.
func (b *Backend) Failures() uint64 { return b.failures.Load() }

// CountFailure counts a flow that the backend did not take up, or broke off at once.
func (b *Backend) CountFailure() { b.failures.Add(1) }
