package reconcile

import (
	"strconv"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"usher/balancer"
)

// Kind says what has changed.
type Kind string

const (
	KindStatus     Kind = "status"     // of a backend, or of the service if no backend is named
	KindEjected    Kind = "ejected"    // flow after flow failed at a backend
	KindReadmitted Kind = "readmitted" // its ejection has ended
	KindAdded      Kind = "added"      // a backend; To is its status
	KindRemoved    Kind = "removed"    // a backend; From is its status
	KindWeight     Kind = "weight"     // of a backend
	KindOverride   Kind = "override"   // of a backend, as it is shown; empty: none
)

// Transition is a change of a service or of one of its backends.
type Transition struct {
	Time     time.Time
	Service  string
	Backend  string // empty: the service itself
	Kind     Kind
	From, To string
	Reason   string
}

// line is one line of the log.
type line struct {
	level   zapcore.Level
	message string
	fields  []zap.Field
}

func write(log *zap.Logger, lines []line) {
	for _, l := range lines {
		log.Log(l.level, l.message, l.fields...)
	}
}

// change is what the log and readers of transitions get to know of one change. Either part may be empty: a line without a
// message, a transition without a kind.
type change struct {
	line
	Transition
}

// logChanges writes the lines of changes.
func (s *Service) logChanges(changes []change) {
	for i := range changes {
		if l := &changes[i].line; l.message != "" {
			s.log.Log(l.level, l.message, l.fields...)
		}
	}
}

// report hands changes to whoever follows transitions.
func (s *Service) report(changes ...[]change) {
	if s.owner.onTransition == nil {
		return
	}
	var all []Transition
	at := time.Now()
	for _, some := range changes {
		for i := range some {
			if t := some[i].Transition; t.Kind != "" {
				t.Time, t.Service = at, s.config.Name
				all = append(all, t)
			}
		}
	}
	if len(all) > 0 {
		s.owner.onTransition(all)
	}
}

// reason adds a line about a backend, which explains what follows from it.
func (p *planner) reason(r *row, level zapcore.Level, message string, fields ...zap.Field) {
	p.change(r, line{level, message, fields}, Transition{})
}

// change adds a line, if it has a message, and a transition, if it has a kind, of a backend.
func (p *planner) change(r *row, l line, t Transition) {
	if l.message != "" {
		l.fields = append([]zap.Field{zap.Stringer("backend", r.spec.Endpoint)}, l.fields...)
	}
	if t.Kind != "" {
		t.Backend = r.spec.Endpoint.String()
	}
	p.reasons = append(p.reasons, change{l, t})
}

// isAdded reports whether a backend has come after the service was known.
func (p *planner) isAdded(r *row) bool { return !r.logged.isKnown && p.last.isKnown }

// reportAdded adds the transition of a backend that has come.
func (p *planner) reportAdded(r *row) {
	if p.isAdded(r) {
		p.change(r, line{zap.DebugLevel, "backend added", nil}, Transition{Kind: KindAdded, To: r.spec.Status().String(), Reason: r.why})
	}
}

// reportStatus adds the transitions to what a row is from what was last known of it. A backend that is up when it is first
// known is none.
func (p *planner) reportStatus(r *row) {
	status, before := r.spec.Status(), r.logged
	switch {
	case before.isKnown && before.weight != r.spec.Weight:
		p.change(r, line{}, Transition{Kind: KindWeight, From: strconv.Itoa(before.weight), To: strconv.Itoa(r.spec.Weight)})
	case p.isAdded(r), !before.isKnown && status == balancer.Up:
		return
	}
	if status != before.status {
		p.change(r, line{}, Transition{Kind: KindStatus, From: before.status.String(), To: status.String(), Reason: r.why})
	}
}

// reportRemoved adds the transitions of backends that are gone.
func (p *planner) reportRemoved(rows []row) {
	for i := range rows {
		if r := &rows[i]; r.logged.isKnown {
			p.change(r, line{zap.DebugLevel, "backend removed", nil}, Transition{Kind: KindRemoved, From: r.logged.status.String()})
		}
	}
}
