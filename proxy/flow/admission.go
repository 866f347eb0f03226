package flow

import (
	"sync/atomic"
	"time"

	"usher/conntrack"
	"usher/proxy/rules"
)

// Admission is who may come in: the places of a server, and who has them. It accounts for
// those who have been.
type Admission struct {
	Idle   chan struct{} // signalled when the last flow ends; buffered
	Record func(Record)  // gets each flow that has ended or was refused; nil: nobody does
	// RecordSome has Record get the flows of services with LogAccess alone, and all while Trace is on.
	RecordSome bool
	Trace      *Trace // nil: it is never on

	Seed uint64        // of ids; no two servers have the same
	ids  atomic.Uint64 // given so far

	MaxDropped  atomic.Int64  // clients held without an answer; see silence.go
	DropTimeout time.Duration // how long, at the most
	dropped     atomic.Int64  // that are held

	rules    atomic.Pointer[rules.Set] // of newcomers; nil: there are none
	clients  clientFlows
	maxConns atomic.Int64 // flows that may be
	evicts   atomic.Bool  // flows of some service may end for others
	places   quota        // of all flows
	ports    quota        // of udp flows: each has a local port of its own
	Open     atomic.Int64 // flows admitted and not yet settled
}

// MaxConns returns how many flows there may be at any one time.
func (a *Admission) MaxConns() int { return int(a.maxConns.Load()) }

// Admit makes room for a client. The outcome says what there is none for: the
// client is refused then, unless the engine can have another flow make room.
func (a *Admission) Admit(c *Settings) Outcome {
	c.Service.accepted.Add(1)
	return a.Place(c)
}

// Place takes a place for a flow. Any outcome but Running says what there is none for.
// More than there may be in all are never let in, not even within a reserve that has come
// to be while others had more.
func (a *Admission) Place(c *Settings) (o Outcome) {
	svc := c.Service
	isGone := svc.isRemoved.Load() // then it has no share any more, but its last clients have come before
	n, ok := a.places.enter(&svc.places)
	if !ok && !isGone {
		o = ServerFull
	}
	if c.IsUDP() {
		if _, ok := a.ports.enter(&svc.ports); !ok && !isGone {
			o = NoLocalPort
		}
	}
	if most := c.UDP.MaxFlows; most > 0 && n > int64(most) {
		o = ServiceFull
	}
	if o == Running && a.Open.Add(1) > a.maxConns.Load() {
		a.Open.Add(-1)
		o = ServerFull
	}
	if o != Running {
		a.giveBack(c)
	}
	return o
}

// makeRoomTries bounds the flows that end for one newcomer.
const makeRoomTries = 8

// MakeRoom takes a place that there was none of before, once evict has ended another flow
// for it. Where another newcomer takes what has become free, one more flow ends.
func (a *Admission) MakeRoom(sh Shortage, evict func(Shortage) bool) Outcome {
	for range makeRoomTries {
		if !evict(sh) {
			break
		}
		if sh.Of = a.Place(sh.Settings); sh.Of == Running {
			break
		}
	}
	return sh.Of
}

// leave gives back the place of a flow whose row is gone.
func (a *Admission) leave(c *Settings) {
	left := a.Open.Add(-1)
	if a.giveBack(c); left == 0 {
		select {
		case a.Idle <- struct{}{}:
		default:
		}
	}
}

// giveBack leaves the quotas that place has entered.
func (a *Admission) giveBack(c *Settings) {
	a.places.leave(&c.Service.places)
	if c.IsUDP() {
		a.ports.leave(&c.Service.ports)
	}
}

// Shortage is what a newcomer of a service finds no room for, and what another flow may
// end for.
type Shortage struct {
	Settings *Settings
	Of       Outcome
}

// Eases reports whether the end of a flow of other would make room.
func (s Shortage) Eases(other *Service) bool {
	own := other == s.Settings.Service
	switch s.Of {
	case ServerFull:
		return own || other.places.isBeyond()
	case NoLocalPort:
		return own || other.ports.isBeyond()
	case NoResources:
		return true
	}
	return own
}

// Lasts reports whether there is no room still. Of what the kernel is short of, nobody knows.
func (a *Admission) Lasts(sh Shortage) bool {
	svc := sh.Settings.Service
	switch sh.Of {
	case ServerFull:
		return a.places.isFull(&svc.places) || a.Open.Load() >= a.maxConns.Load()
	case ServiceFull:
		return svc.Active() >= int64(sh.Settings.UDP.MaxFlows)
	}
	return true
}

// idleGrace is how long an answered udp flow must have been silent before a new one can
// take its place in a full table. What has more to say mostly says it sooner; what comes
// back later begins a new flow.
const idleGrace = 5 * time.Second

// EvictStale bounds the flows that one newcomer finds marked as idle, but in use since.
const EvictStale = 16

// idleness is whether a flow is marked in its table as one that may make room.
type idleness struct {
	marked bool
	since  time.Duration // when it was last active, at the time it was marked
}

// isCurrent reports whether a flow that was last active at that time has been idle since
// it was marked.
func (i *idleness) isCurrent(active time.Duration) bool { return i.marked && i.since == active }

// update marks a flow that has been idle for so long, and clears the mark of one that has
// not. active is when it was last active.
func (i *idleness) update(t rows, id conntrack.ID, active, after, now time.Duration) {
	if i.isCurrent(active) {
		return
	}
	if i.marked {
		i.marked = false
		t.ClearIdle(id)
	}
	if now >= active+after {
		*i = idleness{true, active}
		t.MarkIdle(id)
	}
}

// markIdle marks a flow that has been idle for so long that it may make room for others. One
// that gets no answer may at once.
func (f *Flow) markIdle(t rows, now time.Duration) {
	if f.phase == silent {
		f.idle.update(t, f.ID, f.lastProgress(), 0, now)
	}
	if d := f.Settings.ReclaimIdle; d > 0 && f.phase == relaying {
		f.idle.update(t, f.ID, f.lastProgress(), d, now)
	}
}

// Reclaim is reported when a newcomer needs room and the flow is marked as idle, after an
// inspection: it ends unless it was in use since.
func (f *Flow) Reclaim(t rows, now time.Duration) Action {
	if f.markIdle(t, now); f.isMarkedIdle() {
		return EndAs(Reclaimed)
	}
	return Action{}
}

// isMarkedIdle reports whether the flow has made no progress since it was marked.
func (f *Flow) isMarkedIdle() bool { return f.idle.isCurrent(f.lastProgress()) }
