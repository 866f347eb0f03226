package flow

import (
	"time"

	"usher/balancer"
)

// CutShare is how many slots of a table are looked at for flows of a backend before
// other flows get their turn.
const CutShare = 4096

// EndShare is how many flows end before others get their turn: each takes about 20 µs.
const EndShare = 128

// CutTarget is whose flows end: a service's, or else a backend's.
type CutTarget struct {
	Service *Service
	Backend *balancer.Backend
}

// has reports whether a flow is to end.
func (t CutTarget) has(svc *Service, b *balancer.Backend) bool {
	if t.Service != nil {
		return svc == t.Service
	}
	return b == t.Backend
}

// Cut says what becomes of the flows of a backend that is down, or was removed.
type Cut uint8

const (
	// Keep leaves them alone.
	Keep Cut = iota
	// Fin closes both sides of a connection as if it had come to its end, unless bytes
	// are on their way: then it is reset, because what was cut off must not look
	// complete. A udp flow just ends.
	Fin
	// Reset resets both sides.
	Reset
)

// String returns the word that the command line takes.
func (c Cut) String() string {
	switch c {
	case Keep:
		return "keep"
	case Fin:
		return "fin"
	case Reset:
		return "reset"
	}
	return "invalid"
}

// IsCutBy reports whether the flow is to be cut, with the service or with the backend that
// it has, or had last.
func (f *Flow) IsCutBy(t CutTarget) bool { return t.has(f.Service, f.backend) }

// Cut is reported when the flow's backend goes out of service, or its service ends.
func (f *Flow) Cut(t CutTarget, how Cut, now time.Duration) Action {
	switch {
	case f.phase == relaying:
		f.gentle = how == Fin
		return f.SideFailed(Backend, BackendDown, now)
	case t.Service != nil:
		return EndAs(BackendDown)
	case f.phase == connecting:
		f.release()
		return f.Next(now)
	}
	return Action{Until: f.attempt}
}

// Terminate is reported when an operator has the flow end, as Killed or Rebalanced. A
// killed flow is reset. A rebalanced one ends as by [Fin], and only while it is relayed.
func (f *Flow) Terminate(as Outcome, now time.Duration) Action {
	switch {
	case as == Killed:
		return EndAs(as)
	case f.phase != relaying:
		return Action{Until: f.Deadline()}
	}
	f.gentle = true
	return f.SideFailed(Backend, as, now)
}
