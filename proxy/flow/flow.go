package flow

import (
	"sync/atomic"
	"time"

	"usher/balancer"
	"usher/conntrack"
)

type (
	Table = conntrack.Table[Service, balancer.Backend]
	entry = conntrack.Entry[Service, balancer.Backend]
	// Affinity remembers which backends clients have.
	Affinity = conntrack.Affinity[Service, balancer.Backend]
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
)

// phase is where a flow stands:
//
//	greeting ── refused ──▶ ended        accepted ── dropped by a rule ──▶ silent
//	   │ let in
//	   ▼
//	            ┌──── dialFailed, attempt timed out ────┐
//	            ▼                                       │
//	start ──▶ choose ── a backend is reserved ──▶ connecting ── connected ──▶ relaying
//	            ▲  └─── none, and the client may wait ──▶ waiting
//	            └──────────── expired, woken ──────────────┘
//
// A flow ends from any of them; see endState for the ends of a relaying one.
type phase uint8

const (
	connecting phase = iota // an attempt is under way
	waiting                 // no backend was left; the client is held
	relaying                // both sides are connected
	greeting                // the client is not known yet, or what it wants; see greeting.go
	silent                  // a rule has dropped the client, which is held; see silence.go
)

// Flow is the policy of one TCP connection: which backend, for how long, what
// an end of one direction means, how it is counted. It does no I/O and reads no
// clock. An engine embeds one per connection and reports what happened; the answer
// is the action that it takes next. One goroutine at a time uses a flow; only the
// entry is shared with readers.
type Flow struct {
	// What each byte on its way needs, close together.
	Settings *Settings // of Service, when the flow began
	ent      *entry
	Service  *Service
	backend  *balancer.Backend // the last one reserved, or nil
	ID       conntrack.ID
	holding  bool // backend is reserved and has to be released
	phase    phase
	gentle   bool // a cut is to look like an end
	answered bool // the backend has, where somebody follows
	endState
	asked atomic.Int64 // when the client first sent something, where somebody follows
	idle  idleness     // where the service reclaims idle flows
	told  counted      // of its bytes

	Origin
	pass  Pass     // that its client has got at the door
	at    *Binding // while greeting: by which it came
	needs needs    // while greeting

	Feed        *Feed // that is told of the flow; nil: nobody is
	isAnnounced bool  // the feed was told that the flow has begun, if there was a reader

	isHeld   bool  // while silent: it is one of Admission.dropped
	rejoins  bool  // backend is the one that its client had
	tries    uint8 // saturates
	step     uint8 // tries since the client was last held; saturates
	portless uint8 // tries that found no local port; saturates

	accepted  time.Duration
	connected time.Duration // zero while not connected
	attempt   time.Duration // the attempt under way may take until then; a client is held until then
	redial    time.Duration // the backlog was full, so the same backend is tried again then; zero: it was not
	budget    time.Duration // all attempts together may take until then
	began     time.Duration // when the attempt under way began
	hold      time.Duration // a client without backend is held until then
	patience  time.Duration // a client in the queue waits until then; zero: it was in none
	ends      time.Duration // no flow is relayed beyond that; zero is for ever

	// The backend whose attempt was given up last, and how long that had taken: it is at
	// fault if another one accepts sooner than that, and else it may just be far.
	doubted *balancer.Backend
	given   time.Duration

	tried  balancer.Tried
	sticky conntrack.AffinityRef // on its client's persistence
	ticket *ticket               // for a service's queue; nil if there was none
}

// NeedsTicket reports whether giveTicket is to be called before begin. A client that greets may
// come to another service.
func (f *Flow) NeedsTicket(cfg *Settings, greets bool) bool {
	return f.ticket == nil && (greets || cfg.QueueLength > 0)
}

// GiveTicket lets a flow, and all that use its memory after it, wait in a queue. wake has
// the engine report woken soon. It is called with no lock held.
func (f *Flow) GiveTicket(wake func()) { f.ticket = &ticket{wake: wake} }

// Begin begins the flow of a client that was accepted at now. Its row is there.
func (f *Flow) Begin(cfg *Settings, id conntrack.ID, ent *entry, from *Origin, now time.Duration) {
	f.Origin, f.Service, f.Settings, f.ID, f.ent = *from, cfg.Service, cfg, id, ent
	f.backend, f.holding, f.doubted = nil, false, nil
	f.tries, f.step, f.portless = 0, 0, 0
	f.connected, f.redial = 0, 0
	f.endState = endState{}
	f.needs = 0
	f.patience, f.ends = 0, 0
	f.isAnnounced = false
	f.gentle, f.answered, f.idle, f.told = false, false, idleness{}, counted{}
	f.asked.Store(0)
	f.tried.Reset()
	f.start(now)
}

// start has the time of a flow begin.
func (f *Flow) start(now time.Duration) {
	f.phase = connecting
	f.accepted = now
	f.budget = now + f.Settings.ConnectTimeout
	f.hold = now + f.Settings.Wait
}

// Next has a flow that has none choose a backend: when it has begun, and with each event
// that takes the last one from it.
func (f *Flow) Next(now time.Duration) Action {
	if f.phase == waiting && now >= f.attempt {
		f.tried.Reset()
	}
	f.phase = connecting
	b, busy := f.choose(now)
	if b != nil {
		return f.dial(b, now)
	}
	waits := !f.Service.isRemoved.Load()
	if waits && busy && f.Settings.QueueLength > 0 {
		return f.enqueue(now)
	}
	f.Settings.queue.leave(f.ticket, false)
	if waits && now < f.hold {
		a := f.wait(conntrack.Waiting, min(now+waitStep, f.hold))
		f.budget = f.attempt + f.Settings.ConnectTimeout
		return a
	}
	switch {
	case f.tries > 0 && f.tries == f.portless:
		return EndAs(NoLocalPort)
	case f.tries > 0:
		return EndAs(ConnectFailed)
	case busy:
		return EndAs(BackendsFull)
	}
	return EndAs(NoBackend)
}

// choose reserves a backend, unless the connect budget is spent or others have waited
// for one longer.
func (f *Flow) choose(now time.Duration) (b *balancer.Backend, busy bool) {
	if now >= f.budget || f.tried.Full() {
		return nil, false
	}
	if f.Settings.queue.closed(f.ticket) {
		return nil, true
	}
	if b, busy = f.pick(now, f.waitsForUp(now)); b != nil {
		if f.Settings.queue.leave(f.ticket, true) {
			f.budget = now + f.Settings.ConnectTimeout
		}
	}
	return b, busy
}

// pick reserves a backend that has not been tried. While the client waits for one that is
// up, a refusal is newer than the status: then that backend has to pass a check first.
func (f *Flow) pick(now time.Duration, upOnly bool) (b *balancer.Backend, busy bool) {
	for !f.tried.Full() {
		b, busy = f.Settings.choose(balancer.Flow{Client: f.Client, Local: f.Local, Now: now, UpOnly: upOnly}, &f.tried, &f.sticky, &f.rejoins)
		if b == nil || !b.HasRefused() || !f.waitsForUp(now) {
			return b, busy
		}
		f.Settings.release(b)
		f.tried.Add(b)
	}
	return nil, false
}

// waitsForUp reports whether the client is held rather than sent to a backend that is
// not known to be up.
func (f *Flow) waitsForUp(now time.Duration) bool { return f.Settings.WaitUp && now < f.hold }

// enqueue has the flow wait for a backend with room. Until it has waited for queueLook
// it does not go back to a backend that it has tried: one that refuses but has room
// would be tried again and again.
func (f *Flow) enqueue(now time.Duration) Action {
	q, back := f.Settings.queue, f.patience > 0
	if !back {
		f.patience = now + f.Settings.QueueTimeout
	}
	if now >= f.patience {
		q.leave(f.ticket, false)
		return EndAs(QueueTimeout)
	}
	place, look := q.enter(f.ticket, back, f.Settings.QueueLength)
	if !place {
		return EndAs(QueueFull)
	}
	f.budget = f.patience + f.Settings.ConnectTimeout
	for look || !q.stay(f.ticket) {
		look = false
		if b, _ := f.choose(now); b != nil {
			return f.dial(b, now)
		}
	}
	return f.wait(conntrack.Queued, min(now+queueLook, f.patience))
}

// dial makes b, which the pool has just reserved, the flow's backend.
func (f *Flow) dial(b *balancer.Backend, now time.Duration) Action {
	step := attemptSteps[min(int(f.step), len(attemptSteps)-1)]
	f.backend, f.holding, f.began, f.redial = b, true, now, 0
	f.tried.Add(b)
	f.tries, f.step = min(f.tries, 254)+1, min(f.step, 254)+1
	f.attempt = min(now+step, f.budget)
	f.ent.SetBackend(b)
	f.ent.SetState(conntrack.Connecting)
	f.ent.SetTries(f.tries)
	if f.Service.Trace.IsOn() {
		f.trace(now)
	}
	return Action{Do: Dial, Until: f.attempt}
}

// wait holds the client in a state. Afterwards all backends are new to it.
func (f *Flow) wait(state conntrack.State, until time.Duration) Action {
	if f.Settings.AbortOnClose && f.HasReceivedFIN(Client) { // while it greeted: ClientEnded is not reported
		return EndAs(Aborted)
	}
	f.ent.SetState(state)
	f.phase, f.step, f.attempt, f.redial = waiting, 0, until, 0
	return Action{Do: Wait, Until: until}
}

// DialFailed is reported when an attempt has failed.
func (f *Flow) DialFailed(class Class, now time.Duration) Action {
	switch verdicts[class].dial {
	case dialAgain:
		f.redial = min(now+busyRetry, f.attempt)
		return Action{Do: Wait, Until: f.redial}
	case dialNoResources:
		// That is no fault of the backend. The client is held for the connect budget at most.
		f.release()
		if now+waitStep >= f.budget {
			return EndAs(NoResources)
		}
		f.tried.Reset()
		return f.wait(conntrack.Waiting, now+waitStep)
	case dialNoLocalPort:
		f.portless = min(f.portless, 254) + 1
		f.release()
	default:
		f.attemptFailed(verdicts[class].why)
	}
	return f.Next(now)
}

// attemptFailed blames the reserved backend and gives it back.
func (f *Flow) attemptFailed(why balancer.FailureReason) {
	if f.Settings.WaitUp {
		f.backend.NoteRefusal()
	}
	f.Settings.onFailure(f.backend, why)
	f.release()
}

// Expired is reported when the time of an action has come.
func (f *Flow) Expired(now time.Duration) Action {
	switch f.phase {
	case connecting:
		return f.attemptTimeout(now)
	case waiting:
		return f.Next(now)
	case greeting:
		return f.unheard()
	case silent:
		return EndAs(Denied)
	}
	return f.overdue(now)
}

// attemptTimeout moves a flow whose attempt has used up its step on to another backend.
// While there is none the attempt goes on, until the budget is spent.
func (f *Flow) attemptTimeout(now time.Duration) Action {
	a := Action{Do: GoOn}
	if f.redial > 0 {
		a.Do, f.redial = Dial, 0
	}
	a.Until = f.attempt
	if now < f.attempt {
		return a
	}
	if now >= f.budget {
		f.attemptFailed(balancer.FailedTimeout)
		return f.Next(now)
	}
	// Those that are down get what is left of the budget only in its last moment.
	last := f.budget - attemptSteps[0]
	upOnly := now < last && f.backend.Status() == balancer.Up || f.waitsForUp(now)
	b, _ := f.pick(now, upOnly)
	if b == nil {
		if f.attempt = f.budget; upOnly && now < last {
			f.attempt = last
		}
		a.Until = f.attempt
		return a
	}
	f.Settings.Pool.ObserveConnect(f.backend, now-f.began, now) // at least so long
	f.doubted, f.given = f.backend, now-f.began
	f.backend.CountFailure(balancer.FailedTimeout)
	f.release()
	return f.dial(b, now)
}

// Woken is reported when the ticket's wake was called. The flow may have another place by
// now, or be another one: a look for a backend before its time does no harm.
func (f *Flow) Woken(now time.Duration) Action {
	if f.phase != waiting {
		return Action{Until: f.Deadline()}
	}
	return f.Next(now)
}

// ClientEnded is reported when the FIN of a client is seen before a backend has accepted:
// unless the flow ends, it is to be passed on.
func (f *Flow) ClientEnded() Action {
	if f.phase == silent {
		return EndAs(Denied)
	}
	if f.Settings.AbortOnClose {
		return EndAs(Aborted)
	}
	return Action{Until: f.Deadline()}
}

// IsRelaying reports whether a backend has accepted.
func (f *Flow) IsRelaying() bool { return f.phase == relaying }

// Connected is reported when the backend has accepted.
func (f *Flow) Connected(now time.Duration) Action {
	f.phase, f.connected, f.inspected = relaying, now, now
	f.backend.ClearFailing()
	if f.doubted != nil && f.doubted != f.backend && now-f.began < f.given {
		f.Settings.reportFailure(f.doubted)
	}
	if d := f.Settings.lifetime(f.ID, now); d > 0 {
		f.ends = now + d
	}
	f.Announce(now)
	f.ent.SetState(conntrack.Established)
	f.tell(Moved, now)
	f.backend.CountConnect(now - f.began)
	f.Service.connects.Observe(&balancer.ConnectBounds, now-f.accepted)
	f.Settings.Pool.ObserveConnect(f.backend, now-f.began, now)
	return Action{Do: Relay}
}

// rows is the table that a flow has its row in. The engine guards it.
type rows interface {
	Arm(id conntrack.ID, at time.Duration)
	MarkIdle(id conntrack.ID)
	ClearIdle(id conntrack.ID)
}

// Arm sets the flow's timer, after every action but end. Traffic does not move it.
func (f *Flow) Arm(t rows, now time.Duration) {
	f.markIdle(t, now)
	t.Arm(f.ID, f.Deadline())
}

// release gives the reservation back, if there is one.
func (f *Flow) release() {
	if f.holding {
		f.holding = false
		f.Settings.release(f.backend)
	}
}
