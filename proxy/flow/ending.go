package flow

import (
	"time"

	"usher/conntrack"
)

const (
	// inspectInterval is how often a flow's peers are inspected at the least: whether
	// the kernel still gets answers from them, and who has finished. It leaves room
	// before keepaliveIdle: see wantsKeepalive.
	inspectInterval = KeepaliveIdle / 2
	// A flow that only waits for a peer to take the rest is inspected more often, the
	// less so the longer it takes.
	deliveryPauseMin = 10 * time.Millisecond
	deliveryPauseMax = time.Second

	never = time.Duration(1<<63 - 1)
)

// endState is what a flow knows of its end. Each side either goes on, has finished (its
// FIN was received), or has failed; a flow with a side that has failed after it had
// finished lives on until the other one has taken the rest:
//
//	relaying ──FIN──▶ half-closed ──FIN──▶ ended (Finished)
//	   │                  ├─ failure of the side that goes on ──▶ ended
//	failure               └─ failure of the side that has finished ──▶ delivering ──▶ ended
//	   ▼
//	 ended
type endState struct {
	fins     uint8 // bit s: the FIN of side s was passed on
	finished uint8 // bit s: the FIN of side s was received, if maybe not read yet
	muted    uint8 // bit s: side s has no keepalive any more

	failedSide Side          // if endsAs is not Running: the side that has failed
	endsAs     Outcome       // how the flow ends once the other side has taken the rest
	failedAt   time.Duration // when that side failed

	quiet     time.Duration // since then one direction at most is open
	inspected time.Duration // when the peers were last inspected
	settled   time.Duration // when an inspection last found nothing unacknowledged
	progress  time.Duration // when a peer last acknowledged something, as far as inspections tell

	unacked     [2]int32 // by side, at the last inspection
	undelivered [2]int32 // by side: what it will never acknowledge
}

// ReceivedFIN notes that the kernel has the FIN of side s, maybe behind unread bytes.
func (f *Flow) ReceivedFIN(s Side) { f.finished |= 1 << s }

// HasReceivedFIN reports whether the kernel has the FIN of side s, as far as is known.
func (f *Flow) HasReceivedFIN(s Side) bool { return f.finished&(1<<s) != 0 }

// HasPassedFIN reports whether the FIN of side s was passed on.
func (f *Flow) HasPassedFIN(s Side) bool { return f.fins&(1<<s) != 0 }

// PassedFIN is reported when side s has sent FIN and all before it was passed on. The
// second one ends the flow; the first one is to be passed on as well.
func (f *Flow) PassedFIN(s Side, now time.Duration) Action {
	f.fins |= 1 << s
	f.ReceivedFIN(s)
	if f.fins == 1<<Client|1<<Backend {
		return EndAs(Finished)
	}
	f.quiet = now
	f.ent.SetState(conntrack.HalfClosed)
	f.tell(Moved, now)
	return Action{}
}

// IsDelivering reports whether the flow only waits for one side to take the rest: nothing
// that this side sends can be passed on.
func (f *Flow) IsDelivering() bool { return f.endsAs != Running }

// IsDeliveringFrom reports whether it is side s that has failed.
func (f *Flow) IsDeliveringFrom(s Side) bool { return f.IsDelivering() && f.failedSide == s }

// OutcomeOf is how a flow ends whose side s fails with an error.
func (f *Flow) OutcomeOf(s Side, class Class) Outcome {
	if class == ClassResetAfterFIN {
		f.ReceivedFIN(s)
	}
	return s.Broken(class.IsLost())
}

// SideFailed is reported when a side has failed, or is cut off. If it had finished it owes
// nothing, so the other one takes what is left, and then the flow ends for the same reason.
func (f *Flow) SideFailed(s Side, why Outcome, now time.Duration) Action {
	switch {
	case f.IsDeliveringFrom(s): // that is known
	case f.IsDelivering():
		return EndAs(f.endsAs)
	case !f.HasReceivedFIN(s):
		return EndAs(why)
	default:
		f.failedSide, f.endsAs, f.failedAt = s, why, now
		f.ent.SetState(conntrack.Closing)
		f.tell(Moved, now)
	}
	return Action{Do: Deliver}
}

// DeliveryEnded is reported when nothing more can be delivered: what is left cannot be read,
// or the other side has failed as well.
func (f *Flow) DeliveryEnded() Action { return EndAs(f.endsAs) }

// WantsKeepalive reports whether the peer at side s is to be probed while it is silent.
// One that has finished is not: it owes nothing, and once its kernel has forgotten the
// connection a probe would draw a reset.
func (f *Flow) WantsKeepalive(s Side) bool { return !f.HasReceivedFIN(s) }

// active returns when the flow last passed bytes or a FIN on.
func (f *Flow) active() time.Duration { return max(f.ent.Touched(), f.quiet) }

// isSettled reports whether an inspection could find nothing new: nothing was on its way
// at the last one, and nothing has been passed on since.
func (f *Flow) isSettled() bool {
	return !f.IsDelivering() && f.settled > f.active() && f.muted == f.finished
}

// inspectAt says when the peers are to be inspected next: often enough for keepalive, and
// at least twice within a timeout, so that progress is seen.
func (f *Flow) inspectAt() time.Duration {
	if f.IsDelivering() {
		return f.inspected + min(max((f.inspected-f.failedAt)/4, deliveryPauseMin), deliveryPauseMax)
	}
	at := f.inspected + inspectInterval
	if f.isSettled() {
		return at
	}
	last := max(f.active(), f.progress, f.inspected)
	if d := f.Settings.IdleTimeout; d > 0 {
		at = min(at, last+d/2)
	}
	if d := f.Settings.ReclaimIdle; d > 0 {
		at = min(at, last+d/2)
	}
	if d := f.Settings.HalfCloseTimeout; d > 0 && f.fins != 0 {
		at = min(at, last+d/2)
	}
	return at
}

// Deadline says when expired must be reported next. It may come to be later while the flow
// carries bytes, never earlier without another report.
func (f *Flow) Deadline() time.Duration {
	if f.phase != relaying {
		if f.redial > 0 {
			return f.redial
		}
		return f.attempt
	}
	timeout, _ := f.timeout()
	at := min(f.inspectAt(), timeout)
	if f.ends > 0 {
		at = min(at, f.ends)
	}
	if d := f.Settings.ReclaimIdle; d > 0 && !f.isMarkedIdle() {
		at = min(at, f.lastProgress()+d)
	}
	return at
}

// lastProgress returns when the flow last made progress: when bytes were passed on, or the
// peers acknowledged some of them, as far as inspections tell.
func (f *Flow) lastProgress() time.Duration { return max(f.ent.Touched(), f.progress) }

// timeout returns when the flow ends for lack of progress, and how.
func (f *Flow) timeout() (at time.Duration, o Outcome) {
	at, o = never, Running
	last := f.lastProgress()
	if d := f.Settings.IdleTimeout; d > 0 {
		at, o = last+d, IdleTimeout
	}
	if d := f.Settings.HalfCloseTimeout; d > 0 && (f.fins != 0 || f.IsDelivering()) {
		if half := max(last, f.quiet, f.failedAt) + d; half < at {
			at, o = half, HalfCloseTimeout
		}
	}
	return at, o
}

// overdue is expired for a relaying flow.
func (f *Flow) overdue(now time.Duration) Action {
	if f.ends > 0 && now >= f.ends {
		return EndAs(Aged)
	}
	at, timedOut := f.timeout()
	switch {
	case !f.isSettled():
		if now >= min(at, f.inspectAt()) {
			return Action{Do: Inspect}
		}
	case now >= at:
		return EndAs(timedOut)
	case now >= f.inspectAt():
		f.inspected = now // with the same result
	}
	return Action{}
}

// Inspected is reported with the state of both peers at now.
func (f *Flow) Inspected(peers *[2]PeerState, now time.Duration) Action {
	// What was passed on since makes the numbers of the last inspection useless.
	isFresh := f.inspected <= f.active()
	f.inspected = now
	unacked := int32(0)
	for s, p := range peers {
		if p.HasFinished {
			f.ReceivedFIN(Side(s))
		}
		n := int32(p.Unacked)
		if isFresh || n < f.unacked[s] {
			f.progress = max(f.progress, now-p.Silent)
		}
		f.unacked[s] = n
		unacked += n
	}
	if unacked == 0 {
		f.settled = now
	}
	f.muted = f.finished
	for s := Client; s <= Backend; s++ {
		if !peers[s].HasTimedOut {
			continue
		}
		if a := f.SideFailed(s, s.Broken(true), now); a.Do == End {
			f.undelivered[s] = f.unacked[s]
			return a
		}
	}
	if f.IsDelivering() && f.HasPassedFIN(f.failedSide) && f.unacked[f.failedSide.Other()] == 0 {
		return EndAs(f.endsAs)
	}
	at, o := f.timeout()
	if now < at {
		return Action{}
	}
	if o == HalfCloseTimeout {
		f.undelivered = f.unacked
	}
	return EndAs(o)
}

// uncount takes back from the counters what a peer was sent and did not take.
func (f *Flow) uncount() {
	for s := Client; s <= Backend; s++ {
		n := int(f.undelivered[s])
		if n > 0 && f.HasPassedFIN(s.Other()) {
			n-- // the FIN
		}
		if s == Backend {
			n = min(n, int(f.ent.Up())) // a PROXY header is not counted
		}
		if n > 0 && s == Client {
			f.ent.CountDown(-n, f.ent.Touched())
		} else if n > 0 {
			f.ent.CountUp(-n, f.ent.Touched())
		}
	}
}

// IsOrderly reports whether a flow that ends so is closed with FIN rather than RST.
// pending says whether bytes of it are still on their way: what was cut off must
// not look complete.
func (f *Flow) IsOrderly(o Outcome, pending bool) bool {
	switch o {
	case Finished:
		return true
	case IdleTimeout, Aged, Reclaimed:
		return !pending
	case BackendDown, Rebalanced:
		return f.gentle && !pending
	case Denied:
		return f.phase == silent
	}
	return false
}
