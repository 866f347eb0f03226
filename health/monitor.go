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

// Report is told the first result of a target and every change after it. Err
// is why the target is down, nil when it is up. Calls come from the monitor's
// goroutines, concurrently for different targets but never for one. A Report
// must not call back into its Monitor.
type Report func(t Target, up bool, err error)

// Monitor checks a changing set of targets until it is closed. All methods
// may be called by any goroutine.
//
// It has one goroutine, and one more for each check in flight: targets that wait for
// their next check cost memory only.
type Monitor struct {
	checker Checker
	policy  Policy
	report  Report
	random  func() float64 // uniform in [0, 1), called by all checks

	slots   chan struct{} // one element for each check in flight
	wake    chan struct{} // holds one element: the loop looks again at what is due
	running sync.WaitGroup

	setting sync.Mutex // makes Set and Close one at a time; taken before mu
	mu      sync.Mutex // never held during a check or a report
	active  map[Target]*probe
	due     queue // the probes that no check is in flight for
	started bool
	closed  bool
	doubted time.Time // when policy.Inconclusive was told last
}

// doubtRest is the least time between two calls of [Policy].Inconclusive.
const doubtRest = time.Minute

// NewMonitor returns a Monitor that has nothing to do until [Monitor.Set].
func NewMonitor(c Checker, p Policy, report Report) *Monitor {
	return newMonitor(c, p, report, rand.Float64)
}

// newMonitor takes the randomness that spreads checks over time.
func newMonitor(c Checker, p Policy, report Report, random func() float64) *Monitor {
	return &Monitor{
		checker: c,
		policy:  p.withDefaults(),
		slots:   p.slotsFor(c).taken,
		report:  report,
		random:  random,
		wake:    make(chan struct{}, 1),
		active:  make(map[Target]*probe),
	}
}

// Set replaces the targets. Those that stay keep their state and rhythm, and those
// gone are never reported again after Set has returned: it waits for a report under
// way, not for a check. The first 256 new ones are checked at once; the
// others follow one after the other, 1 ms apart or so close that all are due within
// one interval. A target that comes back starts afresh. On a closed Monitor
// Set does nothing.
func (m *Monitor) Set(targets []Target) {
	m.setting.Lock()
	defer m.setting.Unlock()
	for _, p := range m.replace(targets) {
		p.stop()
	}
}

// replace returns the probes of the targets that are gone.
func (m *Monitor) replace(targets []Target) []*probe {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	wanted := make(map[Target]bool, len(targets))
	var added []*probe
	for _, t := range targets {
		if !wanted[t] && m.active[t] == nil {
			added = append(added, newProbe(t, m.policy))
		}
		wanted[t] = true
	}
	var gone []*probe
	for t, p := range m.active {
		if !wanted[t] {
			gone = append(gone, p)
			delete(m.active, t)
			m.due.drop(p)
		}
	}
	now := time.Now()
	for i, p := range added {
		m.active[p.target] = p
		p.due = now.Add(m.policy.firstDelay(i, len(added)))
		heap.Push(&m.due, p)
	}
	if len(added) > 0 {
		if !m.started {
			m.started = true
			m.running.Go(m.loop)
		}
		m.look()
	}
	return gone
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
	m.setting.Lock()
	defer m.setting.Unlock()
	for _, p := range m.replace(nil) {
		p.stop()
	}
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.look()
	m.running.Wait()
}

// look makes the loop see what is due.
func (m *Monitor) look() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// loop starts the checks that are due, as slots get free, until the monitor is closed.
func (m *Monitor) loop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		pause, some, closed := m.pause()
		switch {
		case closed:
			return
		case !some:
			<-m.wake
		case pause > 0:
			timer.Reset(pause)
			select {
			case <-timer.C:
			case <-m.wake:
			}
		default:
			select {
			case m.slots <- struct{}{}:
				m.startOne()
			case <-m.wake:
			}
		}
	}
}

// pause is the time until a check is due, if there is any.
func (m *Monitor) pause() (d time.Duration, some, closed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.due) > 0 {
		d, some = time.Until(m.due[0].due), true
	}
	return d, some, m.closed
}

// startOne starts the check that is due for the longest time in the slot that has been
// taken, or gives the slot back if none is due any more.
func (m *Monitor) startOne() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.due) == 0 || time.Until(m.due[0].due) > 0 {
		<-m.slots
		return
	}
	p := heap.Pop(&m.due).(*probe)
	m.running.Go(func() { m.check(p) })
}

// check makes one check of a target and says when the next one is due.
func (m *Monitor) check(p *probe) {
	start := time.Now()
	err := m.ask(p)
	<-m.slots
	if errors.Is(err, ErrInconclusive) {
		m.doubt(p, err)
	} else {
		p.observe(err, m.report)
	}
	next := start.Add(m.next(p))

	m.mu.Lock()
	defer m.mu.Unlock()
	if m.active[p.target] != p {
		return
	}
	p.due = next
	heap.Push(&m.due, p)
	if p.place == 0 {
		m.look()
	}
}

// doubt tells of a check that said nothing, unless it has told of another lately.
func (m *Monitor) doubt(p *probe, err error) {
	if m.policy.Inconclusive == nil || p.ctx.Err() != nil {
		return
	}
	m.mu.Lock()
	now := time.Now()
	tell := m.doubted.IsZero() || now.Sub(m.doubted) >= doubtRest
	if tell {
		m.doubted = now
	}
	m.mu.Unlock()
	if tell {
		p.tell(func() { m.policy.Inconclusive(p.target, err) })
	}
}

func (m *Monitor) ask(p *probe) error {
	ctx, cancel := context.WithTimeout(p.ctx, m.policy.Timeout)
	defer cancel()
	return m.checker.Check(ctx, p.target)
}

// next is the time from the start of a check to that of the next one. Targets of one Set
// start together: a phase, uniform in [0, interval), after the first check takes them
// apart, and jitter, uniform in [0.9, 1.1) intervals, keeps them from falling into step
// with each other or with other instances.
func (m *Monitor) next(p *probe) time.Duration {
	interval := float64(m.policy.interval(&p.tracker))
	if p.ended() {
		return time.Duration(m.random() * interval)
	}
	return time.Duration((0.9 + 0.2*m.random()) * interval)
}
