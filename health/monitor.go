package health

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// maxInFlight bounds the checks that one Monitor has under way at any time.
// It caps the descriptors that health takes from the data path. Checks beyond
// it wait their turn in order, so a round of more than maxInFlight targets
// that all time out takes longer than the interval.
const maxInFlight = 256

// Policy says how often and how patiently targets are checked. A field that
// is zero or negative takes the value of [DefaultPolicy].
type Policy struct {
	Interval time.Duration // from the start of one check to the start of the next
	Timeout  time.Duration // of one check
	Rise     int           // good results in a row that bring a target up
	Fall     int           // bad results in a row that take it down
}

// DefaultPolicy takes a dead target down within 8 s, and brings one that has
// returned up within 5 s.
func DefaultPolicy() Policy {
	return Policy{Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3}
}

func (p Policy) withDefaults() Policy {
	d := DefaultPolicy()
	if p.Interval > 0 {
		d.Interval = p.Interval
	}
	if p.Timeout > 0 {
		d.Timeout = p.Timeout
	}
	if p.Rise > 0 {
		d.Rise = p.Rise
	}
	if p.Fall > 0 {
		d.Fall = p.Fall
	}
	return d
}

// Report is told the first result of a target and every change after it. Err
// is why the target is down, nil when it is up. Calls come from the monitor's
// goroutines, concurrently for different targets but never for one. A Report
// must not call back into its Monitor.
type Report func(t Target, up bool, err error)

// Monitor checks a changing set of targets until it is closed. All methods
// may be called by any goroutine.
type Monitor struct {
	checker Checker
	policy  Policy
	report  Report
	random  func() float64 // uniform in [0, 1), called by all probes

	slots  chan struct{} // one element for each check in flight
	probes sync.WaitGroup

	mu     sync.Mutex // taken before a probe's
	active map[Target]*probe
	closed bool
}

// probe is one target being watched. Its goroutine owns it, but for the end.
type probe struct {
	target Target
	first  chan struct{} // closed after the first result is reported, or at the end

	// The context is cancelled, and reports are made, only under mu: once
	// stop has returned, there is no report under way and none to come.
	mu     sync.Mutex
	ctx    context.Context
	cancel context.CancelFunc
}

// NewMonitor returns a Monitor that has nothing to do until [Monitor.Set].
func NewMonitor(c Checker, p Policy, report Report) *Monitor {
	return newMonitor(c, p, report, rand.Float64)
}

// newMonitor takes the randomness that spreads checks over time.
func newMonitor(c Checker, p Policy, report Report, random func() float64) *Monitor {
	return &Monitor{
		checker: c,
		policy:  p.withDefaults(),
		report:  report,
		random:  random,
		slots:   make(chan struct{}, maxInFlight),
		active:  make(map[Target]*probe),
	}
}

// Set replaces the targets. Those that stay keep their state and rhythm, new
// ones are checked at once, and those gone are never reported again after Set
// has returned: it waits for a report under way, not for a check. A target
// that comes back starts afresh. On a closed Monitor Set does nothing.
func (m *Monitor) Set(targets []Target) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	wanted := make(map[Target]bool, len(targets))
	for _, t := range targets {
		wanted[t] = true
	}
	for t, p := range m.active {
		if !wanted[t] {
			p.stop()
			delete(m.active, t)
		}
	}
	for t := range wanted {
		if m.active[t] != nil {
			continue
		}
		p := &probe{target: t, first: make(chan struct{})}
		p.ctx, p.cancel = context.WithCancel(context.Background())
		m.active[t] = p
		m.probes.Go(func() { m.watch(p) })
	}
}

// WaitFirst returns when the first result of every target has been reported,
// or when ctx ends. Targets that are removed meanwhile, or whose first check
// was inconclusive, are not waited for any longer.
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
	m.mu.Lock()
	m.closed = true
	for _, p := range m.active {
		p.stop()
	}
	clear(m.active)
	m.mu.Unlock()
	m.probes.Wait()
}

// stop tells a probe's goroutine to end, and does not wait for it.
func (p *probe) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cancel()
}

// watch checks one target until its probe is stopped.
func (m *Monitor) watch(p *probe) {
	known := sync.OnceFunc(func() { close(p.first) })
	defer known()

	tracker := NewTracker(m.policy.Rise, m.policy.Fall)
	timer := time.NewTimer(0) // the first check is due now
	defer timer.Stop()
	// All targets of a Set start together. A random phase after the first
	// check takes them apart, and jitter keeps them from falling into step
	// with each other or with other instances.
	pause := m.phase()
	for {
		select {
		case <-timer.C:
		case <-p.ctx.Done():
			return
		}
		select {
		case m.slots <- struct{}{}:
		case <-p.ctx.Done():
			return
		}
		start := time.Now()
		err := m.check(p)
		<-m.slots
		m.observe(p, &tracker, err)
		known()
		timer.Reset(pause - time.Since(start)) // overdue: at once
		pause = m.jittered()
	}
}

func (m *Monitor) check(p *probe) error {
	ctx, cancel := context.WithTimeout(p.ctx, m.policy.Timeout)
	defer cancel()
	return m.checker.Check(ctx, p.target)
}

// observe feeds a result to the tracker and reports what is new, unless the
// probe has been stopped.
func (m *Monitor) observe(p *probe, tracker *Tracker, err error) {
	if errors.Is(err, ErrInconclusive) {
		return
	}
	up, changed := tracker.Observe(err == nil)
	if !changed {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() == nil {
		m.report(p.target, up, err)
	}
}

// phase is uniform in [0, interval).
func (m *Monitor) phase() time.Duration {
	return time.Duration(m.random() * float64(m.policy.Interval))
}

// jittered is uniform in [0.9, 1.1) intervals.
func (m *Monitor) jittered() time.Duration {
	return time.Duration((0.9 + 0.2*m.random()) * float64(m.policy.Interval))
}
