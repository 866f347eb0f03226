package health

import (
	"container/heap"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Report receives the first result of a target and every change after it. Err says
// why the target is down; it is nil when the target is up.
//
// Calls come from the monitor's goroutines, concurrently for different targets, one at
// a time for each. No lock of the monitor is held, but a Report must not call Set or
// Close, which wait for it. It should return soon: its check keeps waiting.
type Report func(t Target, up bool, err error)

// Monitor checks a changing set of targets until it is closed. All methods are safe
// for concurrent use.
//
// It has one goroutine, and one for each check in flight. A target that waits for its
// next check costs memory only.
type Monitor struct {
	checker Checker
	async   asyncChecker // checker, if it is one
	policy  Policy
	report  Report
	random  func() float64 // uniform in [0, 1), safe for concurrent use

	slots   chan struct{} // one element for each check in flight
	wake    chan struct{} // capacity 1: the loop looks again at what is due
	running sync.WaitGroup

	setting sync.Mutex // serialises Set and Close; taken before mu
	mu      sync.Mutex // never held during a check or a report
	active  map[Target]*probe
	due     queue // probes without a check in flight

	isStarted, isClosed bool
	lastInconclusive    time.Time // last call of policy.OnInconclusive
}

const (
	// inconclusivePause is the least time between two calls of OnInconclusive.
	inconclusivePause = time.Minute

	// asyncSlack is how long a cheap check may wait for others, because a wake-up would
	// cost more than the check.
	asyncSlack = 20 * time.Millisecond
)

// asyncChecker is a Checker that needs no goroutine for each check. [ConnectLoop]
// describes begin.
type asyncChecker interface {
	Checker
	begin(ctx context.Context, t Target, timeout time.Duration, conclude func(error)) bool
}

// NewMonitor returns a Monitor that has nothing to do until [Monitor.Set].
func NewMonitor(c Checker, p Policy, report Report) *Monitor {
	return newMonitor(c, p, report, rand.Float64)
}

func newMonitor(c Checker, p Policy, report Report, random func() float64) *Monitor {
	m := &Monitor{
		checker: c,
		policy:  p.withDefaults(),
		slots:   p.slotsFor(c).taken,
		report:  report,
		random:  random,
		wake:    make(chan struct{}, 1),
		active:  make(map[Target]*probe),
	}
	m.async, _ = c.(asyncChecker)
	return m
}

// Set replaces the targets. Those that stay keep their state and rhythm. No report of
// a removed target runs after Set has returned: it waits for a report, but not for a
// check. A target that comes back starts in state unknown.
//
// The first 256 new targets are checked at once; the others follow 1 ms apart, or
// closer, so that all are due within one interval. On a closed Monitor Set does
// nothing.
func (m *Monitor) Set(targets []Target) { m.SetKnown(targets, nil) }

// SetKnown is Set for targets of which is known whether they are up, from other checks.
// Those begin in that state: it takes Rise or Fall results to change it, and only changes
// are reported.
func (m *Monitor) SetKnown(targets []Target, known map[Target]bool) {
	m.setting.Lock()
	defer m.setting.Unlock()
	for _, p := range m.replace(targets, known) {
		p.stop()
	}
}

// replace returns the probes of removed targets.
func (m *Monitor) replace(targets []Target, known map[Target]bool) []*probe {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.isClosed {
		return nil
	}
	wanted := make(map[Target]bool, len(targets))
	var added []*probe
	for _, t := range targets {
		if !wanted[t] && m.active[t] == nil {
			p := newProbe(t, m.policy)
			if up, is := known[t]; is {
				p.begin(up)
			}
			added = append(added, p)
		}
		wanted[t] = true
	}
	var gone []*probe
	for t, p := range m.active {
		if !wanted[t] {
			gone = append(gone, p)
			delete(m.active, t)
			m.due.remove(p)
		}
	}
	now := time.Now()
	for i, p := range added {
		m.active[p.target] = p
		p.due = now.Add(m.policy.firstDelay(i, len(added)))
		heap.Push(&m.due, p)
	}
	if len(added) > 0 {
		if !m.isStarted {
			m.isStarted = true
			m.running.Go(m.loop)
		}
		m.wakeLoop()
	}
	return gone
}

// WaitFirst waits until the first result of each target is reported, or ctx ends. It
// does not wait for targets that are removed or whose first check is inconclusive.
func (m *Monitor) WaitFirst(ctx context.Context) {
	m.mu.Lock()
	probes := slices.Collect(maps.Values(m.active))
	m.mu.Unlock()
	for _, p := range probes {
		select {
		case <-p.first:
		case <-ctx.Done():
			return
		}
	}
}

// Close stops all checks and waits for the monitor's goroutines.
func (m *Monitor) Close() {
	m.setting.Lock()
	defer m.setting.Unlock()
	for _, p := range m.replace(nil, nil) {
		p.stop()
	}
	m.mu.Lock()
	m.isClosed = true
	m.mu.Unlock()
	m.wakeLoop()
	m.running.Wait()
}

func (m *Monitor) wakeLoop() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// loop starts due checks as slots become free, until the monitor is closed.
func (m *Monitor) loop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		pause, hasDue, isClosed := m.untilDue()
		switch {
		case isClosed:
			return
		case !hasDue:
			<-m.wake
		case pause > 0:
			if m.async != nil {
				pause += min(asyncSlack, m.policy.Interval/20)
			}
			timer.Reset(pause)
			select {
			case <-timer.C:
			case <-m.wake:
			}
		default:
			select {
			case m.slots <- struct{}{}:
				m.startCheck()
			case <-m.wake:
			}
		}
	}
}

// untilDue returns the time until a check is due, if any waits.
func (m *Monitor) untilDue() (d time.Duration, hasDue, isClosed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.due) > 0 {
		d, hasDue = time.Until(m.due[0].due), true
	}
	return d, hasDue, m.isClosed
}

// startCheck starts the check that has been due longest. The caller has taken a slot,
// which it gives back if none is due any more.
func (m *Monitor) startCheck() {
	p := m.popDue()
	if p == nil {
		<-m.slots
		return
	}
	start := time.Now()
	if m.async != nil {
		m.running.Add(1)
		if m.async.begin(p.ctx, p.target, m.policy.Timeout, func(err error) {
			defer m.running.Done()
			m.concludeAsync(p, start, err)
		}) {
			return
		}
		m.running.Done()
	}
	m.running.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, m.policy.Timeout)
		defer cancel()
		m.conclude(p, start, m.checker.Check(ctx, p.target))
	})
}

// popDue returns the check that has been due longest, nil if none is due.
func (m *Monitor) popDue() *probe {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.due) == 0 || time.Until(m.due[0].due) > 0 {
		return nil
	}
	return heap.Pop(&m.due).(*probe)
}

// concludeAsync is conclude for a caller that must not wait for a report.
func (m *Monitor) concludeAsync(p *probe, start time.Time, err error) {
	if err == nil && p.tracker.isUp {
		m.conclude(p, start, nil) // no change to report
		return
	}
	m.running.Go(func() { m.conclude(p, start, err) })
}

// conclude takes the result of a check and queues the next one.
func (m *Monitor) conclude(p *probe, start time.Time, err error) {
	<-m.slots
	if errors.Is(err, ErrInconclusive) {
		m.reportInconclusive(p, err)
	} else {
		p.observe(err, m.report)
	}
	if err == nil && m.policy.OnPass != nil {
		p.report(func() { m.policy.OnPass(p.target) })
	}
	next := start.Add(m.nextInterval(p))

	m.mu.Lock()
	defer m.mu.Unlock()
	if m.active[p.target] != p {
		return
	}
	p.due = next
	heap.Push(&m.due, p)
	if p.index == 0 {
		m.wakeLoop()
	}
}

// reportInconclusive reports a check that could not be made, at most one a minute.
func (m *Monitor) reportInconclusive(p *probe, err error) {
	if m.policy.OnInconclusive == nil || p.ctx.Err() != nil {
		return
	}
	m.mu.Lock()
	now := time.Now()
	isDue := m.lastInconclusive.IsZero() || now.Sub(m.lastInconclusive) >= inconclusivePause
	if isDue {
		m.lastInconclusive = now
	}
	m.mu.Unlock()
	if isDue {
		p.report(func() { m.policy.OnInconclusive(p.target, err) })
	}
}

// nextInterval returns the time from the start of a check to that of the next one. A
// random phase after the first check spreads targets of one Set. Later jitter of 10 %
// keeps them from falling into step with each other or with other instances.
func (m *Monitor) nextInterval(p *probe) time.Duration {
	interval := float64(m.policy.interval(&p.tracker))
	if p.endCheck() {
		return time.Duration(m.random() * interval)
	}
	return time.Duration((0.9 + 0.2*m.random()) * interval)
}
