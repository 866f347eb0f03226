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

	weight atomic.Int64
	status atomic.Uint32 // order if there is one, else health

	health Status // Unknown, Up or Down; guarded by Pool.mu
	order  Status // Drain, Maint, or Unknown for none; guarded by Pool.mu

	// slot is the index in the newest list of members, -1 when the backend is not
	// in it. Guarded by Pool.build, so it is for scheduler.update alone.
	slot int

	_ [cacheLine]byte

	active   atomic.Int64
	total    atomic.Uint64
	failures atomic.Uint64

	node heapNode
}

// ID returns a number that no other backend of the pool has or ever had.
func (b *Backend) ID() uint32 { return b.id }

// Endpoint returns how the backend is reached.
func (b *Backend) Endpoint() Endpoint { return b.endpoint }

// String returns the endpoint as text, without formatting it anew.
func (b *Backend) String() string { return b.name }

// Weight returns the backend's share in relation to others; 0: no new flows.
func (b *Backend) Weight() int { return int(b.weight.Load()) }

// Status returns the operator's order if there is one, else what health checks found.
func (b *Backend) Status() Status { return Status(b.status.Load()) }

// Active returns how many flows hold the backend now.
func (b *Backend) Active() int64 { return b.active.Load() }

// Total returns how often the backend has been acquired, including flows whose
// connect failed.
func (b *Backend) Total() uint64 { return b.total.Load() }

// Failures returns how often CountFailure has been called.
func (b *Backend) Failures() uint64 { return b.failures.Load() }

// CountFailure counts one connect to the backend that failed.
func (b *Backend) CountFailure() { b.failures.Add(1) }

// reserve and release are called by schedulers only, once each per flow.
func (b *Backend) reserve() {
	b.active.Add(1)
	b.total.Add(1)
}

// release panics like a negative sync.WaitGroup: a count that went wrong would
// steer flows for as long as the process lives, and never be noticed.
func (b *Backend) release() {
	if b.active.Add(-1) < 0 {
		panic("balancer: backend " + b.name + " released more often than acquired")
	}
}
