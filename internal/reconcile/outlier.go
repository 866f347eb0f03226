package reconcile

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"usher/balancer"
	"usher/health"
	"usher/internal/config"
)

// outliers is outlier detection: backends that failed flow after flow are ejected and come back. It is the data path's
// result observer, and what that says costs it no more than a signal.
//
// Where refusals are heeded, as of datagrams, one failure ejects. Such a backend is doubted until something gets through to
// it, which ends its ejection too.
type outliers struct {
	service  *Service
	detector atomic.Pointer[health.OutlierDetector[*balancer.Backend]] // nil: nothing is ejected
	doubted  atomic.Pointer[map[*balancer.Backend]bool]                // replaced, never written to

	members []*balancer.Backend // that the detector knows of; of Service.reconcile alone
}

// refusalPolicy is how long a backend is left alone that refuses. What is sent there again costs little, since what is
// refused once more goes to another backend, so even the longest time is short.
var refusalPolicy = health.OutlierPolicy{Threshold: 1, Base: time.Second, Max: 10 * time.Second, MaxShare: 50}

// refusalRest is the least time between two outages of a backend that are logged: one that refuses some flows and answers
// others would have a line for each.
const refusalRest = 10 * time.Second

// ejectPolicy is when backends of a service are ejected; with Threshold 0 they never are.
func ejectPolicy(c *config.Service) health.OutlierPolicy {
	if c.HeedsRefusals() {
		return refusalPolicy
	}
	return health.OutlierPolicy{Threshold: c.Eject.Failures, Base: c.Eject.Time, MaxShare: c.Eject.Share}
}

func newOutliers(s *Service) *outliers {
	o := &outliers{service: s}
	o.doubted.Store(new(map[*balancer.Backend]bool))
	return o
}

// setPolicy replaces the policy, which newParts has checked. Without one all ejections end. Service.reconcile alone calls
// it, and NewService.
func (o *outliers) setPolicy(p health.OutlierPolicy) {
	d := o.detector.Load()
	switch {
	case p.Threshold == 0:
		o.detector.Store(nil)
		o.members = nil
	case d != nil:
		_ = d.SetPolicy(p)
	default:
		d, _ = health.NewOutlierDetector[*balancer.Backend](p)
		o.detector.Store(d)
	}
}

// OnSuccess is called by the data path.
func (o *outliers) OnSuccess(b *balancer.Backend) {
	if d := o.detector.Load(); d != nil {
		d.OnSuccess(b)
		o.onLive(b)
	}
}

// OnFailure is called by the data path.
func (o *outliers) OnFailure(b *balancer.Backend) {
	if d := o.detector.Load(); d != nil && d.OnFailure(b, o.service.now()) {
		o.service.enqueue()
	}
}

// onLive takes a sign of life from a backend. Any goroutine may call it; without doubts it costs next to nothing.
func (o *outliers) onLive(b *balancer.Backend) {
	d := o.detector.Load()
	if d == nil || !(*o.doubted.Load())[b] || b.Ejected() && !d.OnLive(b, o.service.now()) {
		return
	}
	o.service.observe(liveBackend(b))
}

// follow brings the detector in line with the backends and the time, and returns who is ejected.
func (o *outliers) follow(rows []row, now time.Duration) map[*balancer.Backend]bool {
	d := o.detector.Load()
	if d == nil {
		return nil
	}
	pool, away := make([]*balancer.Backend, len(rows)), make(map[*balancer.Backend]bool)
	for i := range rows {
		pool[i] = rows[i].backend
		spec := rows[i].spec
		if spec.Ejected = false; spec.Status() != balancer.Up || spec.Weight == 0 {
			away[pool[i]] = true
		}
	}
	if !slices.Equal(pool, o.members) {
		o.members = pool
		d.Set(pool, now)
	}
	d.SetUnavailable(func(b *balancer.Backend) bool { return away[b] }, now)
	d.UnejectDue(now)
	ejected := make(map[*balancer.Backend]bool)
	for _, b := range pool {
		if d.IsEjected(b) {
			ejected[b] = true
		}
	}
	return ejected
}

// publish tells the data path whom signs of life are awaited from, and returns when the next plan is due for ejections
// other than those of the last one; 0: nothing is.
func (o *outliers) publish(rows []row, ejected map[*balancer.Backend]bool, now time.Duration) (next time.Duration) {
	d := o.detector.Load()
	if d == nil {
		return 0
	}
	doubted := make(map[*balancer.Backend]bool)
	for i := range rows {
		if rows[i].refusal.doubted {
			doubted[rows[i].backend] = true
		}
	}
	o.doubted.Store(&doubted)
	if !maps.Equal(o.follow(rows, now), ejected) {
		return now // what the plan has changed brings some back
	}
	next, _ = d.NextUneject()
	return next
}

// refusal is what is known of a backend at which nobody may listen.
type refusal struct {
	doubted   bool // ejected, with no sign of life since
	logged    bool // and that was logged
	hasLogged bool // once at least,
	at        time.Duration
}

// logRefusal logs the first refusal of an outage and the sign of life that ends it.
func (p *planner) logRefusal(row *row) {
	r := &row.refusal
	if r.doubted && p.seen.live[row.backend] {
		if r.logged {
			p.reason(row, zap.InfoLevel, "backend answers again")
		}
		r.doubted, r.logged = false, false
	}
	if !row.spec.Ejected || r.doubted {
		return
	}
	r.doubted = true
	if !r.hasLogged || p.now >= r.at+refusalRest {
		r.logged, r.hasLogged, r.at = true, true, p.now
		p.reason(row, zap.WarnLevel, "backend refuses datagrams, which go to others")
	}
}
