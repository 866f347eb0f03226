package proxy

import (
	"net/netip"
	"time"

	"usher/balancer"
	"usher/conntrack"
)

type (
	table = conntrack.Table[Service, balancer.Backend]
	entry = conntrack.Entry[Service, balancer.Backend]
	// Row is one flow as readers of the connection table see it.
	Row = conntrack.Row[Service, balancer.Backend]
)

// How long an attempt may take before the next backend is tried, by number of
// the attempt. The last candidate gets all that is left of the connect budget.
var attemptSteps = [...]time.Duration{
	250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
}

const (
	// waitStep is how often a held client's service is asked for a backend again.
	waitStep = 100 * time.Millisecond
	// busyRetry is how soon a unix backend is tried again whose backlog was full:
	// the kernel refuses such a connect at once and offers nothing to wait for.
	busyRetry = 10 * time.Millisecond
	// vigilance is how often a silent flow's peers are looked at: whether the
	// kernel still gets answers from them.
	vigilance = 30 * time.Second
)

// phase is where a flow stands.
type phase uint8

const (
	connecting phase = iota // an attempt is under way
	waiting                 // no backend was left; the client is held
	relaying                // both sides are connected
)

// flow is the policy of one TCP connection: which backend, for how long, what
// an end of one direction means, how it is counted. It does no I/O and reads no
// clock. Both engines embed one per connection and tell it what happened; what
// to do next is its answer. The engine sees to it that one goroutine at a time
// uses a flow; only the entry is shared with readers.
type flow struct {
	svc     *Service
	ent     *entry
	id      conntrack.ID
	backend *balancer.Backend // the last one reserved, or nil
	holding bool              // backend is reserved and has to be released

	client netip.AddrPort // invalid for a client on a unix socket
	local  netip.AddrPort // the listener's address, port of the range included
	offset uint16         // of the listener's port within its range

	phase phase
	fins  uint8 // bit s: side s has sent FIN, and it was passed on
	tries uint8 // saturates
	step  uint8 // tries since the client was last held; saturates

	accepted  time.Duration
	connected time.Duration // zero while not connected
	attempt   time.Duration // the attempt under way may take until then
	budget    time.Duration // all attempts together may take until then
	hold      time.Duration // a client without backend is held until then
	quiet     time.Duration // since then one direction at most is open
	looked    time.Duration // when the peers were last looked at

	tried balancer.Tried
}

// open begins a flow for a client that was accepted at now.
func (f *flow) open(svc *Service, client, local netip.AddrPort, offset uint16, now time.Duration) {
	f.svc, f.client, f.local, f.offset = svc, client, local, offset
	f.backend, f.holding = nil, false
	f.phase, f.fins, f.tries, f.step = connecting, 0, 0, 0
	f.accepted, f.connected, f.quiet, f.looked = now, 0, 0, now
	f.budget = now + svc.ConnectTimeout
	f.hold = now + svc.Wait
	f.tried.Reset()
}

// next reserves a backend to try. Running means: connect to f.backend, and ask
// again when that fails or when deadline passes. Any other outcome ends the
// flow, unless the phase became waiting: then the deadline says when to call
// next again.
func (f *flow) next(now time.Duration) Outcome {
	f.phase = connecting
	if now < f.budget && !f.tried.Full() {
		if b := f.svc.Pool.Acquire(balancer.Flow{Client: f.client, Local: f.local}, &f.tried); b != nil {
			f.reserve(b, now)
			return Running
		}
	}
	if now < f.hold {
		f.attempt = min(now+waitStep, f.hold)
		f.budget = f.attempt + f.svc.ConnectTimeout
		f.wait()
		return Running
	}
	if f.tries == 0 {
		return NoBackend
	}
	return ConnectFailed
}

// reserve makes b, which the pool has just reserved, the flow's backend.
func (f *flow) reserve(b *balancer.Backend, now time.Duration) {
	step := attemptSteps[min(int(f.step), len(attemptSteps)-1)]
	f.backend, f.holding = b, true
	f.tried.Add(b)
	f.tries, f.step = min(f.tries, 254)+1, min(f.step, 254)+1
	f.attempt = min(now+step, f.budget)
	f.ent.SetBackend(b)
}

// wait holds the client: until f.attempt, when next is asked again, and all
// backends are new to it.
func (f *flow) wait() {
	f.phase, f.step = waiting, 0
	f.tried.Reset()
}

// starved gives the reserved backend back after an attempt for which there was
// no descriptor. That is no fault of the backend: the client is held for a moment,
// for the connect budget at most.
func (f *flow) starved(now time.Duration) Outcome {
	f.release()
	if f.attempt = now + waitStep; f.attempt >= f.budget {
		return LimitReached
	}
	f.wait()
	return Running
}

// refused gives the reserved backend back after an attempt that failed.
func (f *flow) refused() {
	f.backend.CountFailure()
	f.release()
}

// slow is asked when an attempt has used up its step. It reports whether to
// give the attempt up: either another backend is reserved in its place, or the
// budget is spent and the caller asks next. While there is no other backend the
// attempt may go on.
func (f *flow) slow(now time.Duration) (giveUp bool) {
	if now >= f.budget {
		f.refused()
		return true
	}
	var b *balancer.Backend
	if !f.tried.Full() {
		b = f.svc.Pool.Acquire(balancer.Flow{Client: f.client, Local: f.local}, &f.tried)
	}
	if b == nil {
		f.attempt = f.budget
		return false
	}
	f.refused()
	f.reserve(b, now)
	return true
}

// established notes that the backend has accepted.
func (f *flow) established(now time.Duration) {
	f.phase, f.connected, f.looked = relaying, now, now
	f.ent.SetState(conntrack.Established)
}

// finished notes that side s has sent FIN and that it was passed on. It reports
// whether that was the second one, which ends the flow.
func (f *flow) finished(s side, now time.Duration) (done bool) {
	f.fins |= 1 << s
	if f.fins == 1<<client|1<<backend {
		return true
	}
	f.quiet = now
	f.ent.SetState(conntrack.HalfClosed)
	return false
}

// deadline says when overdue must be asked next. It may come to be later while
// the flow carries bytes, never earlier without a call of established, finished,
// next or slow.
func (f *flow) deadline() time.Duration {
	if f.phase != relaying {
		return f.attempt
	}
	at := max(f.ent.Touched(), f.looked) + vigilance
	if d := f.svc.IdleTimeout; d > 0 {
		at = min(at, f.ent.Touched()+d)
	}
	if d := f.svc.HalfCloseTimeout; d > 0 && f.fins != 0 {
		at = min(at, max(f.ent.Touched(), f.quiet)+d)
	}
	return at
}

// overdue says what a passed deadline means for a relaying flow: an outcome
// that ends it, or Running, and then whether its peers should be looked at.
func (f *flow) overdue(now time.Duration) (o Outcome, look bool) {
	touched := f.ent.Touched()
	if d := f.svc.IdleTimeout; d > 0 && now >= touched+d {
		return IdleTimeout, false
	}
	if d := f.svc.HalfCloseTimeout; d > 0 && f.fins != 0 && now >= max(touched, f.quiet)+d {
		return HalfCloseTimeout, false
	}
	if now >= max(touched, f.looked)+vigilance {
		f.looked = now
		return Running, true
	}
	return Running, false
}

// account closes the flow's accounts: the reservation is given back, the outcome
// and the bytes are counted. The entry is still the caller's to remove.
func (f *flow) account(o Outcome) {
	f.release()
	s := f.svc
	s.ended[o].Add(1)
	s.up.Add(f.ent.Up())
	s.down.Add(f.ent.Down())
	s.active.Add(-1)
}

// target returns where the reserved backend is reached by this flow: a path for
// a unix socket, else an address. A backend without a port gets the port that
// the client asked for; one with a range, the port at the listener's offset.
func (f *flow) target() (addr netip.AddrPort, path string) {
	return endpointFor(f.backend, f.local, f.offset)
}

func endpointFor(b *balancer.Backend, local netip.AddrPort, offset uint16) (addr netip.AddrPort, path string) {
	ep := b.Endpoint()
	switch {
	case ep.Path != "":
		return netip.AddrPort{}, ep.Path
	case ep.Addr.Port() == 0:
		return netip.AddrPortFrom(ep.Addr.Addr(), local.Port()), ""
	case ep.Ports > 1:
		return netip.AddrPortFrom(ep.Addr.Addr(), ep.Addr.Port()+offset), ""
	default:
		return ep.Addr, ""
	}
}

// release gives the reservation back, if there is one.
func (f *flow) release() {
	if f.holding {
		f.holding = false
		f.svc.Pool.Release(f.backend)
	}
}
