package balancer

import (
	"net/netip"
	"time"
)

// DefaultScheduler is the one that a pool uses when its options name none.
const DefaultScheduler = "rr"

// Flow is what a scheduler may look at.
type Flow struct {
	Client netip.AddrPort // not valid for the client of a unix socket
	Local  netip.AddrPort // what the client asked for
	// Now is the time on a clock that does not run backwards, since any moment. Only
	// schedulers with a memory of the past look at it: lblc, lblcr.
	Now time.Duration
	// UpOnly is of a flow that can wait, or go on with the backend that it has: it is given
	// none while no member is up, and none beside the members that is not.
	UpOnly bool
}

// member is a backend that may get new flows.
type member struct {
	*Backend
	// weight counts for this list: 1 … maxWeight, or in hundredths and up to topWeight
	// while more counts of some than of others. Schedulers that keep quiesced backends
	// in their tables see those with 0; see algorithm.quiesced.
	weight int
	// turned is the last weight that was not 0.
	turned int
	limits *Limits // as of this list, so that new limits make a new list
}

// scheduler is one algorithm at work for one pool. It owns what it derives from the
// members and publishes that itself.
type scheduler interface {
	// update takes a new list of members, which nobody changes afterwards. The pool
	// never calls it twice at once, calls it with nil before anything else, and has
	// set Backend.slot of the members before and now. The others go on meanwhile:
	// until update returns they may see either list or both, and update must not hold
	// them up for longer than one of their own kind does.
	update(members []member)

	// acquire picks an untried member that has room and reserves it, or returns nil
	// when there is none; busy then says that one had no room, or may have had none.
	// Called from any goroutine; it does not allocate.
	acquire(f Flow, tried *Tried) (b *Backend, busy bool)

	// take reserves b, a member or not, for a flow that persistence sends there, and
	// reports whether there was room; see Backend.reserve. Called from any goroutine.
	take(b *Backend, persistent bool) bool

	// release undoes the reservation. The backend may have left the members, or the
	// pool, since. Called from any goroutine; it does not allocate.
	release(b *Backend)
}

// counting is the half of a scheduler that looks at no more than the members' own
// counters.
type counting struct{}

func (counting) take(b *Backend, persistent bool) bool { return b.reserve(persistent) }
func (counting) release(b *Backend)                    { b.release() }

// latencyObserver is a scheduler that wants to know how long backends take.
type latencyObserver interface {
	accepted(b *Backend, took, now time.Duration)
	answered(b *Backend, took, now time.Duration)
}

// settings are what the options tell a scheduler.
type settings struct {
	ipvs     bool          // choose exactly as the kernel does
	port     bool          // sh-port, mh-port: only with ipvs, elsewhere it is in key
	fallback bool          // sh-fallback, mh-fallback: only with ipvs
	key      HashKey       // of hashing schedulers
	balance  int           // bounded load, in percent; 0: off
	random   func() uint64 // uniform; called from any goroutine

	count *flowCount     // of the pool, if there is a bound
	heap  *heapScheduler // of the pool; nil: it has none yet
}

// heapScheduler returns the pool's, which works in another order from now on, or a new one.
func (s settings) heapScheduler(k keyer, f fairness) *heapScheduler {
	if s.heap == nil {
		return newHeapScheduler(k, f)
	}
	s.heap.reorder(k, f)
	return s.heap
}
