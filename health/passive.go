package health

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// EjectPolicy says when the flows of clients themselves take a backend out, and for how
// long. A field that is zero takes the value of [DefaultEjectPolicy].
type EjectPolicy struct {
	Threshold int           // failures in a row that eject
	Base      time.Duration // the first ejection; the nth in short order takes n times as long
	Max       time.Duration // the longest ejection
	Forgive   time.Duration // in service without an ejection: one of those before is forgotten

	// MaxShare is the share of the pool, in percent from 1 to 100, that may be
	// ejected at once. It is rounded down, to one backend if that leaves none: a small
	// pool would otherwise have no passive health at all. Whatever it says, the
	// last backend in service is never ejected.
	MaxShare int
}

// DefaultEjectPolicy ejects after 5 failures in a row for 10 s and up to 5 min, at most
// half of the pool.
//
// Ten seconds are a little more than checks need to find a backend down, which then
// stays out for as long as it is; and one that is well again is not missed for long. Half
// of the pool is what two or three backends can do without: with a small share, the second
// one to break in a pool of five would go on to fail clients.
func DefaultEjectPolicy() EjectPolicy {
	return EjectPolicy{Threshold: 5, Base: 10 * time.Second, Max: 5 * time.Minute, Forgive: time.Minute, MaxShare: 50}
}

const (
	maxThreshold = 1 << 30                    // far from the end of the 32 bits that count
	maxEjection  = 100 * 365 * 24 * time.Hour // far from the end of a Duration
)

func (p EjectPolicy) check() error {
	for _, field := range []struct {
		name  string
		value int64
	}{
		{"threshold", int64(p.Threshold)}, {"base", int64(p.Base)}, {"max", int64(p.Max)},
		{"forgive", int64(p.Forgive)}, {"share", int64(p.MaxShare)},
	} {
		if field.value < 0 {
			return fmt.Errorf("ejection %s is negative", field.name)
		}
	}
	if p.MaxShare > 100 {
		return fmt.Errorf("ejection share of %d %% is more than the whole pool", p.MaxShare)
	}
	if p.Max > maxEjection {
		return fmt.Errorf("the longest ejection of %s is out of range", p.Max)
	}
	if p.Threshold > maxThreshold {
		return fmt.Errorf("ejection threshold of %d is out of range", p.Threshold)
	}
	if p.Max < p.Base {
		return fmt.Errorf("the longest ejection of %s is shorter than the first of %s", p.Max, p.Base)
	}
	return nil
}

func (p EjectPolicy) withDefaults() EjectPolicy {
	d := DefaultEjectPolicy()
	p.Threshold = cmp.Or(p.Threshold, d.Threshold)
	p.Base = cmp.Or(p.Base, d.Base)
	p.Max = cmp.Or(p.Max, max(d.Max, p.Base)) // a long base alone is no mistake
	p.Forgive = cmp.Or(p.Forgive, d.Forgive)
	p.MaxShare = cmp.Or(p.MaxShare, d.MaxShare)
	return p
}

// Ejector is passive health, the outlier detection of one pool: a backend that fails
// for clients again and again is ejected for a while, whatever its checks say. It has
// no clock: now is the time since any fixed moment, and does not run backwards.
//
// All methods may be called by any goroutine. Success takes no lock, and writes
// nothing when there is nothing to forget; Failure takes one from the threshold on;
// all others take it too. What is ejected and what comes back is for the owner
// to carry to the pool; news of two calls that overlap may overtake each other there, so
// an owner asks [Ejector.Ejected] or makes its calls one at a time.
type Ejector[B comparable] struct {
	policy EjectPolicy
	pool   atomic.Pointer[map[B]*member[B]] // replaced, never written to

	mu      sync.Mutex
	out     []*member[B] // ejected, the first to come back first
	serving int          // neither ejected nor away
}

type member[B comparable] struct {
	backend B
	streak  atomic.Int32 // failures in a row; at most the threshold, but for a moment

	// Under the mutex of the Ejector:
	gone    bool
	away    bool // out of service for another reason
	ejected bool
	until   time.Duration // end of the ejection
	since   time.Duration // end of the last one
	times   int           // ejections not forgotten
}

// NewEjector returns an Ejector of an empty pool. The error names what is wrong with the
// policy.
func NewEjector[B comparable](p EjectPolicy) (*Ejector[B], error) {
	p = p.withDefaults()
	if err := p.check(); err != nil {
		return nil, err
	}
	e := &Ejector[B]{policy: p}
	e.pool.Store(new(map[B]*member[B]))
	return e, nil
}

// Set replaces the pool. Those that stay keep their state. It returns who comes back
// before its time, because the new pool has room for fewer ejections.
func (e *Ejector[B]) Set(pool []B, now time.Duration) (back []B) {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := *e.pool.Load()
	members := make(map[B]*member[B], len(pool))
	for _, b := range pool {
		switch {
		case members[b] != nil: // there twice
		case old[b] != nil:
			members[b] = old[b]
		default:
			members[b] = &member[B]{backend: b}
		}
	}
	for b, m := range old {
		m.gone = members[b] == nil
	}
	e.out = slices.DeleteFunc(e.out, func(m *member[B]) bool { return m.gone })
	e.pool.Store(&members)
	e.serving = 0
	for m := range maps.Values(members) {
		if !m.ejected && !m.away {
			e.serving++
		}
	}
	return e.settle(now)
}

// Away tells whether a backend is out of service for another reason: its checks fail, it
// drains, it is in maintenance. It is not ejected then, and not counted on when
// others are. Away returns who comes back before its time, because nobody else would be
// left.
func (e *Ejector[B]) Away(b B, away bool, now time.Duration) (back []B) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := (*e.pool.Load())[b]
	if m == nil || m.away == away {
		return nil
	}
	m.away = away
	if !away {
		m.streak.Store(0)
	}
	switch {
	case m.ejected:
	case away:
		e.serving--
	default:
		e.serving++
	}
	return e.settle(now)
}

// Success tells of a flow that got through to its backend. It ends a run of failures.
func (e *Ejector[B]) Success(b B) {
	if m := (*e.pool.Load())[b]; m != nil && m.streak.Load() != 0 {
		m.streak.Store(0)
	}
}

// Failure tells of a connect that failed or a flow that the backend has reset. It reports
// whether the backend is ejected for it now. Failures of a backend that is
// ejected or away already count for nothing, and those of one that may not be ejected make
// it the first to go at its next failure when there is room.
func (e *Ejector[B]) Failure(b B, now time.Duration) (ejected bool) {
	m := (*e.pool.Load())[b]
	if m == nil {
		return false
	}
	streak := m.streak.Add(1)
	if int(streak) < e.policy.Threshold {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if m.gone || m.away || m.ejected || len(e.out) >= e.allowed() || e.serving < 2 {
		// One below the threshold, unless there was a success meanwhile: the count
		// stays small, and the next failure asks again.
		m.streak.CompareAndSwap(streak, int32(e.policy.Threshold)-1)
		return false
	}
	e.eject(m, now)
	return true
}

// allowed is how many of the pool may be ejected at once.
func (e *Ejector[B]) allowed() int {
	n := len(*e.pool.Load())
	return max(0, min(n-1, max(1, n*e.policy.MaxShare/100)))
}

func (e *Ejector[B]) eject(m *member[B], now time.Duration) {
	if forgiven := max(0, now-m.since) / e.policy.Forgive; int64(forgiven) < int64(m.times) {
		m.times -= int(forgiven)
	} else {
		m.times = 0
	}
	// More ejections than reach Max are not remembered, so that a backend which is
	// well again is forgiven in bounded time.
	if time.Duration(m.times)*e.policy.Base < e.policy.Max {
		m.times++
	}
	m.streak.Store(0)
	m.ejected = true
	m.until = now + min(time.Duration(m.times)*e.policy.Base, e.policy.Max)
	at, _ := slices.BinarySearchFunc(e.out, m.until, func(o *member[B], until time.Duration) int {
		if o.until <= until { // among equals the last to come back is the last to be ejected
			return -1
		}
		return 1
	})
	e.out = slices.Insert(e.out, at, m)
	e.serving--
}

// Return ends the ejections whose time is over, and returns the backends in the order in
// which they were due.
func (e *Ejector[B]) Return(now time.Duration) (back []B) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.out) > 0 && e.out[0].until <= now {
		back = append(back, e.readmit(0, now))
	}
	return back
}

// Next is when the next ejection ends, if there is one.
func (e *Ejector[B]) Next() (at time.Duration, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.out) == 0 {
		return 0, false
	}
	return e.out[0].until, true
}

// Ejected reports whether a backend is.
func (e *Ejector[B]) Ejected(b B) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := (*e.pool.Load())[b]
	return m != nil && m.ejected
}

// settle brings back, the earliest due first, those who may not be ejected any more:
// more than the share, or the last that could serve.
func (e *Ejector[B]) settle(now time.Duration) (back []B) {
	for len(e.out) > e.allowed() {
		back = append(back, e.readmit(0, now))
	}
	if e.serving == 0 {
		if i := slices.IndexFunc(e.out, func(m *member[B]) bool { return !m.away }); i >= 0 {
			back = append(back, e.readmit(i, now))
		}
	}
	return back
}

// readmit ends the ejection that is the ith to end.
func (e *Ejector[B]) readmit(i int, now time.Duration) B {
	m := e.out[i]
	e.out = slices.Delete(e.out, i, i+1)
	m.ejected = false
	m.since = now
	m.streak.Store(0)
	if !m.away {
		e.serving++
	}
	return m.backend
}
