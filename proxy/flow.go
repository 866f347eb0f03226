package proxy

import (
	"net/netip"
	"sync/atomic"
	"time"

	"usher/balancer"
	"usher/conntrack"
)

type (
	table = conntrack.Table[Service, balancer.Backend]
	entry = conntrack.Entry[Service, balancer.Backend]
	// affinity remembers which backends clients have.
	affinity = conntrack.Affinity[Service, balancer.Backend]
	// Client is one client of a service that persists, and the backend that it has.
	Client = conntrack.Template[Service, balancer.Backend]
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
	began     time.Duration // when the attempt under way began
	hold      time.Duration // a client without backend is held until then
	patience  time.Duration // a client in the queue waits until then; zero: it was in none
	ends      time.Duration // no flow is relayed beyond that; zero is for ever
	quiet     time.Duration // since then one direction at most is open
	looked    time.Duration // when the peers were last looked at

	// The backend whose attempt was given up last, and how long that had taken: it is at
	// fault if another one accepts sooner than that, and else it may just be far.
	doubted *balancer.Backend
	given   time.Duration

	tried    balancer.Tried
	sticky   conntrack.Hold // on its client's persistence
	gentle   bool           // a cut is to look like an end
	answered bool           // the backend has, where somebody follows
	asked    atomic.Int64   // when the client first sent something, where somebody follows
	ticket   *ticket        // for the service's queue, from the engine; nil if there is none
}

// open begins a flow for a client that was accepted at now.
func (f *flow) open(svc *Service, client, local netip.AddrPort, offset uint16, now time.Duration) {
	f.svc, f.client, f.local, f.offset = svc, client, local, offset
	f.backend, f.holding, f.doubted = nil, false, nil
	f.phase, f.fins, f.tries, f.step = connecting, 0, 0, 0
	f.accepted, f.connected, f.quiet, f.looked = now, 0, 0, now
	f.budget = now + svc.ConnectTimeout
	f.hold = now + svc.Wait
	f.patience, f.ends = 0, 0
	f.gentle, f.answered = false, false
	f.asked.Store(0)
	f.tried.Reset()
}

// next reserves a backend to try. Running means: connect to f.backend, and ask
// again when that fails or when deadline passes. Any other outcome ends the
// flow, unless the phase became waiting: then the deadline says when to call
// next again, or the ticket's wake is called before.
func (f *flow) next(now time.Duration) Outcome {
	if f.phase == waiting && now >= f.attempt {
		f.tried.Reset()
	}
	f.phase = connecting
	b, busy := f.choose(now)
	if b != nil {
		f.reserve(b, now)
		return Running
	}
	if busy && f.svc.QueueLength > 0 {
		return f.lineUp(now)
	}
	f.svc.queue.leave(f.ticket, false)
	if now < f.hold {
		f.wait(min(now+waitStep, f.hold))
		f.budget = f.attempt + f.svc.ConnectTimeout
		return Running
	}
	switch {
	case f.tries > 0:
		return ConnectFailed
	case busy:
		return LimitReached
	}
	return NoBackend
}

// choose reserves a backend, unless the connect budget is spent or others have waited
// for one longer.
func (f *flow) choose(now time.Duration) (b *balancer.Backend, busy bool) {
	if now >= f.budget || f.tried.Full() {
		return nil, false
	}
	if f.svc.queue.closed(f.ticket) {
		return nil, true
	}
	if b, busy = f.svc.choose(balancer.Flow{Client: f.client, Local: f.local, Now: now}, &f.tried, &f.sticky); b != nil {
		if f.svc.queue.leave(f.ticket, true) {
			f.budget = now + f.svc.ConnectTimeout
		}
	}
	return b, busy
}

// lineUp has the flow wait for a backend with room. Until it has waited for queueLook
// it does not go back to a backend that it has tried: one that refuses but has room
// would be tried again and again.
func (f *flow) lineUp(now time.Duration) Outcome {
	q, back := &f.svc.queue, f.patience > 0
	if !back {
		f.patience = now + f.svc.QueueTimeout
	}
	if now >= f.patience {
		q.leave(f.ticket, false)
		return QueueTimeout
	}
	place, look := q.enter(f.ticket, back)
	if !place {
		return LimitReached
	}
	f.budget = f.patience + f.svc.ConnectTimeout
	for look || !q.stay(f.ticket) {
		look = false
		if b, _ := f.choose(now); b != nil {
			f.reserve(b, now)
			return Running
		}
	}
	f.wait(min(now+queueLook, f.patience))
	return Running
}

// reserve makes b, which the pool has just reserved, the flow's backend.
func (f *flow) reserve(b *balancer.Backend, now time.Duration) {
	step := attemptSteps[min(int(f.step), len(attemptSteps)-1)]
	f.backend, f.holding, f.began = b, true, now
	f.tried.Add(b)
	f.tries, f.step = min(f.tries, 254)+1, min(f.step, 254)+1
	f.attempt = min(now+step, f.budget)
	f.ent.SetBackend(b)
}

// wait holds the client: then next is asked again, and all backends are new to it.
func (f *flow) wait(until time.Duration) {
	f.phase, f.step, f.attempt = waiting, 0, until
}

// starved gives the reserved backend back after an attempt for which there was
// no descriptor. That is no fault of the backend: the client is held for a moment,
// for the connect budget at most.
func (f *flow) starved(now time.Duration) Outcome {
	f.release()
	if now+waitStep >= f.budget {
		return LimitReached
	}
	f.tried.Reset()
	f.wait(now + waitStep)
	return Running
}

// refused gives the reserved backend back after an attempt that failed.
func (f *flow) refused() {
	f.svc.failed(f.backend)
	f.release()
}

// unable gives the reserved backend back after an attempt that could not be made, for
// want of a local port towards it. That is no fault of the backend.
func (f *flow) unable() { f.release() }

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
		b, _ = f.svc.choose(balancer.Flow{Client: f.client, Local: f.local, Now: now}, &f.tried, &f.sticky)
	}
	if b == nil {
		f.attempt = f.budget
		return false
	}
	if f.svc.learns {
		f.svc.Pool.ObserveConnect(f.backend, now-f.began, now) // at least so long
	}
	f.doubted, f.given = f.backend, now-f.began
	f.backend.CountFailure()
	f.release()
	f.reserve(b, now)
	return true
}

// established notes that the backend has accepted.
func (f *flow) established(now time.Duration) {
	f.phase, f.connected, f.looked = relaying, now, now
	if f.doubted != nil && f.doubted != f.backend && now-f.began < f.given {
		f.svc.blame(f.doubted)
	}
	if d := f.svc.lifetime(); d > 0 {
		f.ends = now + d
	}
	f.ent.SetState(conntrack.Established)
	if f.svc.learns {
		f.svc.Pool.ObserveConnect(f.backend, now-f.began, now)
	}
}

// passed counts n bytes from side s that were passed on. The two sides may be counted
// by two goroutines.
func (f *flow) passed(s side, n int, now time.Duration) {
	if f.svc.follows {
		f.follow(s, now)
	}
	if s == client {
		f.ent.CountUp(n, now)
	} else {
		f.ent.CountDown(n, now)
	}
}

// follow notes when the client first sent something, and the first answer: that the
// backend works, and how long it took since then, or since it was connected if it
// speaks first.
func (f *flow) follow(s side, now time.Duration) {
	switch {
	case s == client:
		if f.asked.Load() == 0 {
			f.asked.Store(int64(now))
		}
	case !f.answered:
		f.answered = true
		if f.svc.learns {
			since := max(time.Duration(f.asked.Load()), f.connected)
			f.svc.Pool.Observe(f.backend, max(now-since, 0), now)
		}
		f.svc.worked(f.backend)
	}
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
	if f.ends > 0 {
		at = min(at, f.ends)
	}
	return at
}

// overdue says what a passed deadline means for a relaying flow: an outcome
// that ends it, or Running, and then whether its peers should be looked at.
func (f *flow) overdue(now time.Duration) (o Outcome, look bool) {
	touched := f.ent.Touched()
	if f.ends > 0 && now >= f.ends {
		return Aged, false
	}
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
func (f *flow) account(o Outcome, now time.Duration) {
	s := f.svc
	if f.phase == relaying && f.ent.Down() == 0 {
		switch o {
		case BackendReset, BackendLost:
			s.failed(f.backend)
		case Finished:
			s.worked(f.backend) // with nothing to say it has closed in good order
		}
	}
	f.release()
	s.queue.leave(f.ticket, false)
	s.forget(&f.sticky, now)
	s.ended[o].Add(1)
	s.up.Add(f.ent.Up())
	s.down.Add(f.ent.Down())
	s.active.Add(-1)
}

// orderly reports whether a flow that ends so is closed with FIN rather than RST.
// pending says whether bytes of it are still on their way: what was cut off must
// not look complete.
func (f *flow) orderly(o Outcome, pending bool) bool {
	switch o {
	case Finished:
		return true
	case IdleTimeout, Aged:
		return !pending
	case BackendDown:
		return f.gentle && !pending
	}
	return false
}

// release gives the reservation back, if there is one.
func (f *flow) release() {
	if f.holding {
		f.holding = false
		f.svc.release(f.backend)
	}
}
