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

// OutlierPolicy says when failing flows eject a backend, and for how long. A field that
// is zero takes the value of [DefaultOutlierPolicy].
type OutlierPolicy struct {
	Threshold int           // failures in a row that eject
	Base      time.Duration // the first ejection; the nth in short order takes n times as long
	Max       time.Duration // the longest ejection
	Forgive   time.Duration // each such time in service without ejection forgets one

	// MaxShare is the percentage of the pool, 1 to 100, that may be ejected at once. It
	// is rounded down, but to at least one backend. The last backend in service is never
	// ejected.
	MaxShare int
}

// DefaultOutlierPolicy ejects after 5 failures in a row, for 10 s up to 5 min, at most
// half of the pool.
//
// In 10 s, checks find a dead backend down and keep it out; a healthy one returns soon.
// Two or three backends can do without half of their pool. With a smaller share, the
// second broken backend of five would keep failing clients.
func DefaultOutlierPolicy() OutlierPolicy {
	return OutlierPolicy{Threshold: 5, Base: 10 * time.Second, Max: 5 * time.Minute, Forgive: time.Minute, MaxShare: 50}
}

// minEjection is how long an ejection lasts at least. An answer that was under way when
// the backend failed proves nothing.
const minEjection = 100 * time.Millisecond

const (
	maxThreshold = 1 << 30                    // far below the range of the 32-bit counter
	maxEjection  = 100 * 365 * 24 * time.Hour // far below the range of a Duration
)

// Check returns an error that names the invalid field.
func (p OutlierPolicy) Check() error {
	p = p.withDefaults()
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

func (p OutlierPolicy) withDefaults() OutlierPolicy {
	d := DefaultOutlierPolicy()
	p.Threshold = cmp.Or(p.Threshold, d.Threshold)
	p.Base = cmp.Or(p.Base, d.Base)
	p.Max = cmp.Or(p.Max, max(d.Max, p.Base)) // a long base alone is valid
	p.Forgive = cmp.Or(p.Forgive, d.Forgive)
	p.MaxShare = cmp.Or(p.MaxShare, d.MaxShare)
	return p
}

// OutlierDetector is passive health for one pool: it ejects a backend whose flows fail
// several times in a row, whatever its checks say. Envoy has the same under this name.
// It has no clock: now is the time since any fixed moment, and does not run backwards.
//
//	in service ──Threshold failures in a row──▶ ejected
//	ejected    ──time over, OnLive, Set────────▶ in service
//
// All methods are safe for concurrent use. OnSuccess takes no lock, and writes only to
// reset a count; OnFailure takes the lock from the threshold on. The owner applies
// ejections to the pool. Results of overlapping calls may arrive in any order, so it
// reads [OutlierDetector.IsEjected] or serialises its calls.
type OutlierDetector[B comparable] struct {
	policy atomic.Pointer[OutlierPolicy]    // complete; replaced, never modified
	pool   atomic.Pointer[map[B]*member[B]] // the same

	mu        sync.Mutex
	ejected   []*member[B] // by the end of the ejection
	inService int          // members neither ejected nor unavailable
}

type member[B comparable] struct {
	backend  B
	failures atomic.Int32 // in a row; exceeds the threshold only for a moment

	// The detector's mu guards the rest.
	isRemoved     bool
	isUnavailable bool // out of service for another reason
	isEjected     bool
	began         time.Duration // of the ejection
	until         time.Duration // end of the ejection
	since         time.Duration // end of the last ejection
	ejections     int           // not forgiven
}

// NewOutlierDetector returns a detector for an empty pool. The error names the invalid
// field of the policy.
func NewOutlierDetector[B comparable](p OutlierPolicy) (*OutlierDetector[B], error) {
	d := new(OutlierDetector[B])
	d.pool.Store(new(map[B]*member[B]))
	if err := d.SetPolicy(p); err != nil {
		return nil, err
	}
	return d, nil
}

// SetPolicy replaces the policy. Ejections keep their end; the next Set or SetUnavailable
// ends those beyond the new share. On an error nothing has changed.
func (d *OutlierDetector[B]) SetPolicy(p OutlierPolicy) error {
	if err := p.Check(); err != nil {
		return err
	}
	p = p.withDefaults()
	d.policy.Store(&p)
	return nil
}

// Set replaces the pool. Members that stay keep their state. It returns those whose
// ejection ends early, because the new pool allows fewer.
func (d *OutlierDetector[B]) Set(pool []B, now time.Duration) (unejected []B) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := *d.pool.Load()
	members := make(map[B]*member[B], len(pool))
	for _, b := range pool {
		switch {
		case members[b] != nil: // a duplicate
		case old[b] != nil:
			members[b] = old[b]
		default:
			members[b] = &member[B]{backend: b}
		}
	}
	for b, m := range old {
		m.isRemoved = members[b] == nil
	}
	d.ejected = slices.DeleteFunc(d.ejected, func(m *member[B]) bool { return m.isRemoved })
	d.pool.Store(&members)
	d.inService = 0
	for m := range maps.Values(members) {
		if !m.isEjected && !m.isUnavailable {
			d.inService++
		}
	}
	return d.enforceLimitsLocked(now)
}

// SetUnavailable records which backends are out of service for another reason: down,
// drain or maint. They are then not ejected, and do not count as in service. It returns
// backends whose ejection ends early because no other is left.
func (d *OutlierDetector[B]) SetUnavailable(isUnavailable func(B) bool, now time.Duration) (unejected []B) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for b, m := range *d.pool.Load() {
		is := isUnavailable(b)
		if m.isUnavailable == is {
			continue
		}
		m.isUnavailable = is
		if !is {
			m.failures.Store(0)
		}
		switch {
		case m.isEjected:
		case is:
			d.inService--
		default:
			d.inService++
		}
	}
	return d.enforceLimitsLocked(now)
}

// OnSuccess records a flow that reached its backend. It ends a run of failures.
func (d *OutlierDetector[B]) OnSuccess(b B) {
	if m := (*d.pool.Load())[b]; m != nil && m.failures.Load() != 0 {
		m.failures.Store(0)
	}
}

// OnFailure records a failed connect, or a flow that the backend reset. It returns
// whether this ejects the backend. Failures of an ejected or unavailable backend do not
// count. One that may not be ejected yet is ejected by its next failure that may.
func (d *OutlierDetector[B]) OnFailure(b B, now time.Duration) (isEjected bool) {
	m := (*d.pool.Load())[b]
	if m == nil {
		return false
	}
	threshold, failures := d.policy.Load().Threshold, m.failures.Add(1)
	if int(failures) < threshold {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if m.isRemoved || m.isUnavailable || m.isEjected || len(d.ejected) >= d.maxEjectedLocked() || d.inService < 2 {
		// One below the threshold, unless a success came meanwhile: the count stays small,
		// and the next failure tries again.
		m.failures.CompareAndSwap(failures, int32(threshold)-1)
		return false
	}
	d.ejectLocked(m, now)
	return true
}

// OnLive ends the ejection of a backend that has proved to work, unless the ejection
// has just begun. It returns whether the ejection ended.
func (d *OutlierDetector[B]) OnLive(b B, now time.Duration) (isUnejected bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.IndexFunc(d.ejected, func(m *member[B]) bool { return m.backend == b })
	if i < 0 || now < d.ejected[i].began+minEjection {
		return false
	}
	d.unejectLocked(i, now)
	return true
}

// UnejectDue ends the ejections whose time is over, and returns the backends in the
// order in which they were due.
func (d *OutlierDetector[B]) UnejectDue(now time.Duration) (unejected []B) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.ejected) > 0 && d.ejected[0].until <= now {
		unejected = append(unejected, d.unejectLocked(0, now))
	}
	return unejected
}

// NextUneject returns when the next ejection ends, if there is one.
func (d *OutlierDetector[B]) NextUneject() (at time.Duration, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.ejected) == 0 {
		return 0, false
	}
	return d.ejected[0].until, true
}

// IsEjected reports whether a backend is ejected.
func (d *OutlierDetector[B]) IsEjected(b B) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := (*d.pool.Load())[b]
	return m != nil && m.isEjected
}

// Ejection is what a detector knows of a backend that was ejected, as plain data.
type Ejection struct {
	IsEjected bool
	Count     int           // of ejections that are not forgiven
	Age       time.Duration // since it began; of one that is over, since its end
	Left      time.Duration // until it ends
}

// Ejection returns what is known of a backend, if it was ever ejected.
func (d *OutlierDetector[B]) Ejection(b B, now time.Duration) (e Ejection, has bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := (*d.pool.Load())[b]
	switch {
	case m == nil || m.ejections == 0:
		return Ejection{}, false
	case m.isEjected:
		return Ejection{true, m.ejections, now - m.began, max(m.until-now, 0)}, true
	}
	return Ejection{Count: m.ejections, Age: now - m.since}, true
}

// Restore makes a member know of an ejection from before. What the policy does not allow
// counts as the nearest that it does; the next Set ends ejections beyond the share.
func (d *OutlierDetector[B]) Restore(b B, e Ejection, now time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := (*d.pool.Load())[b]
	if m == nil || m.isEjected {
		return
	}
	policy := d.policy.Load()
	age := min(max(e.Age, 0), maxEjection)
	m.ejections = int(min(max(int64(e.Count), 0), int64(policy.Max/policy.Base)+1))
	m.since = now - age
	if e.IsEjected {
		m.isEjected, m.began, m.until = true, now-age, now+min(max(e.Left, 0), policy.Max)
		d.insertLocked(m)
	}
}

// insertLocked adds a member to those that are ejected.
func (d *OutlierDetector[B]) insertLocked(m *member[B]) {
	at, _ := slices.BinarySearchFunc(d.ejected, m.until, func(o *member[B], until time.Duration) int {
		if o.until <= until { // of equals, the one ejected last returns last
			return -1
		}
		return 1
	})
	d.ejected = slices.Insert(d.ejected, at, m)
	if !m.isUnavailable {
		d.inService--
	}
}

// maxEjectedLocked returns how many of the pool may be ejected at once.
func (d *OutlierDetector[B]) maxEjectedLocked() int {
	n := len(*d.pool.Load())
	return max(0, min(n-1, max(1, n*d.policy.Load().MaxShare/100)))
}

func (d *OutlierDetector[B]) ejectLocked(m *member[B], now time.Duration) {
	policy := d.policy.Load()
	if forgiven := max(0, now-m.since) / policy.Forgive; int64(forgiven) < int64(m.ejections) {
		m.ejections -= int(forgiven)
	} else {
		m.ejections = 0
	}
	// Count only as many as reach Max, so that a recovered backend is forgiven in bounded
	// time.
	if time.Duration(m.ejections)*policy.Base < policy.Max {
		m.ejections++
	}
	m.failures.Store(0)
	m.isEjected = true
	m.began = now
	m.until = now + min(time.Duration(m.ejections)*policy.Base, policy.Max)
	d.insertLocked(m)
}

// enforceLimitsLocked ends ejections beyond the share and the one that would leave no
// backend in service, in the order in which they are due.
func (d *OutlierDetector[B]) enforceLimitsLocked(now time.Duration) (unejected []B) {
	for len(d.ejected) > d.maxEjectedLocked() {
		unejected = append(unejected, d.unejectLocked(0, now))
	}
	if d.inService == 0 {
		if i := slices.IndexFunc(d.ejected, func(m *member[B]) bool { return !m.isUnavailable }); i >= 0 {
			unejected = append(unejected, d.unejectLocked(i, now))
		}
	}
	return unejected
}

// unejectLocked ends the ith ejection to end.
func (d *OutlierDetector[B]) unejectLocked(i int, now time.Duration) B {
	m := d.ejected[i]
	d.ejected = slices.Delete(d.ejected, i, i+1)
	m.isEjected = false
	m.since = now
	m.failures.Store(0)
	if !m.isUnavailable {
		d.inService++
	}
	return m.backend
}
