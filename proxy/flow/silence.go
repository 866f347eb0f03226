package flow

import (
	"time"

	"usher/conntrack"
)

// Clients that a rule, a list or a service without a backend drops get no answer: they are held, read by nobody, until they go, or
// their time is over, or a newcomer needs their place. They were counted when they came.

const (
	// DefaultMaxDropped bounds the clients that are held so.
	DefaultMaxDropped  = 1000
	DefaultDropTimeout = 30 * time.Second
)

// HoldsMore reports whether one more dropped client may be held. The others are closed at once.
func (a *Admission) HoldsMore() bool { return a.dropped.Load() < a.MaxDropped.Load() }

// HoldNoMore has clients that are dropped from now on closed at once.
func (a *Admission) HoldNoMore() { a.MaxDropped.Store(0) }

// Dropped returns how many dropped clients are held.
func (a *Admission) Dropped() int { return int(a.dropped.Load()) }

// CanEvict reports whether there may be flows that end for others.
func (a *Admission) CanEvict() bool { return a.evicts.Load() || a.dropped.Load() > 0 }

// Silence holds the client of a flow without an answer, if one more may be held.
func (f *Flow) Silence(a *Admission, now time.Duration) Action {
	f.phase, f.needs, f.at = silent, 0, nil
	f.ent.SetState(conntrack.Silent)
	if f.isHeld = a.dropped.Add(1) <= a.MaxDropped.Load(); !f.isHeld {
		a.dropped.Add(-1)
		return EndAs(Denied)
	}
	f.attempt = now + a.DropTimeout
	return Action{Do: Hold, Until: f.attempt}
}

// IsSilent reports whether the flow is of a client that gets no answer.
func (f *Flow) IsSilent() bool { return f.phase == silent }

// breakSilence is the end of a flow whose client got no answer: it was accounted for before.
func (a *Admission) breakSilence(f *Flow) {
	if f.isHeld {
		f.isHeld = false
		a.dropped.Add(-1)
	}
}
