package flow

import (
	"strings"
	"sync/atomic"
	"time"

	"usher/balancer"
)

// Trace has flows recorded while it is on: each backend that one gets, with Running as the outcome, and how each ends. A
// choice costs one load while it is off.
type Trace struct {
	isOn   atomic.Bool
	record func(Record)
}

// NewTrace returns a Trace that is off. record may be called by any goroutine.
func NewTrace(record func(Record)) *Trace { return &Trace{record: record} }

// Set turns a trace on or off, for flows that run, too.
func (t *Trace) Set(on bool) { t.isOn.Store(on) }

// IsOn reports whether flows are recorded; a nil Trace never records any.
func (t *Trace) IsOn() bool { return t != nil && t.isOn.Load() }

// Why is what has led to a choice of a backend, beside the scheduler. Several may hold.
type Why uint8

const (
	// WhyAffinity: the client has had the backend before; the scheduler was not asked.
	WhyAffinity Why = 1 << iota
	// WhyQueue: the client has waited in the queue.
	WhyQueue
	// WhyBackup: the backend is a backup.
	WhyBackup
	// WhyUnchecked: no check of the backend has had a result yet.
	WhyUnchecked
	// WhyLastResort: the backend is down, and so are all others that may be had.
	WhyLastResort

	whys = iota // the number of reasons
)

var whyNames = [whys]string{"affinity", "queue", "backup", "unchecked", "last resort"}

// String returns the reasons in words; empty: the scheduler alone.
func (w Why) String() string {
	var words []string
	for i, name := range whyNames {
		if w&(1<<i) != 0 {
			words = append(words, name)
		}
	}
	return strings.Join(words, ", ")
}

// whyOf returns why a flow has got b, which its client had before if it rejoins.
func whyOf(b *balancer.Backend, rejoins bool) (w Why) {
	if rejoins {
		w |= WhyAffinity
	}
	if b.Backup() {
		w |= WhyBackup
	}
	switch b.Status() {
	case balancer.Unknown:
		w |= WhyUnchecked
	case balancer.Down:
		w |= WhyLastResort
	}
	return w
}

// trace records which backend a flow has got. It is out of line, since it is rarely called.
//
//go:noinline
func (f *Flow) trace(now time.Duration) {
	why := whyOf(f.backend, f.rejoins)
	if f.patience > 0 {
		why |= WhyQueue
	}
	f.Service.Trace.record(Record{
		Origin: f.Origin, Settings: f.Settings, Backend: f.backend, Connect: -1, Duration: now - f.accepted, Tries: f.tries, Why: why,
	})
}

// trace records which backend a session has got.
//
//go:noinline
func (x *Session) trace(now time.Duration) {
	x.Service.Trace.record(Record{
		Origin: x.Origin, Settings: x.Settings, Backend: x.backend, Connect: -1, Duration: now - x.opened, Tries: x.tries(),
		Why: whyOf(x.backend, x.rejoins),
	})
}
