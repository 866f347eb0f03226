package app

import (
	"slices"
	"time"

	"go.uber.org/zap"

	"usher/balancer"
	"usher/health"
	"usher/internal/config"
)

// tender sees to what changes in a pool with time alone: slow starts go on, and backends that failed flow after flow are
// ejected and come back. It is the data path's witness; what that says costs it no more than a signal, because to take a
// backend out of a pool may mean to build a table.
type tender struct {
	pool    *balancer.Pool
	ejector *health.Ejector[*balancer.Backend] // nil: nothing is ejected
	epoch   time.Time
	changed func() // is told when ejections begin or end
	log     *zap.Logger

	members []*balancer.Backend // that the ejector knows of; of the errand alone
	errand  *errand
}

// newTender returns nil if the service has nothing to tend.
func newTender(s *config.Service, pool *balancer.Pool, changed func(), log *zap.Logger) (*tender, error) {
	if s.SlowStart == 0 && s.Eject.Failures == 0 {
		return nil, nil
	}
	t := &tender{pool: pool, epoch: time.Now(), changed: changed, log: log}
	if e := s.Eject; e.Failures > 0 {
		var err error
		if t.ejector, err = health.NewEjector[*balancer.Backend](health.EjectPolicy{
			Threshold: e.Failures, Base: e.Time, MaxShare: e.Share,
		}); err != nil {
			return nil, err
		}
	}
	t.errand = newErrand(true, t.tend)
	return t, nil
}

func (t *tender) now() time.Duration { return time.Since(t.epoch) }

// tell has the tender look at the pool soon. Any goroutine may call it.
func (t *tender) tell() {
	if t != nil {
		t.errand.tell()
	}
}

// Success is called by the data path.
func (t *tender) Success(b *balancer.Backend) { t.ejector.Success(b) }

// Failure is called by the data path.
func (t *tender) Failure(b *balancer.Backend) {
	if t.ejector.Failure(b, t.now()) {
		t.tell()
	}
}

// tend brings the pool in line with the ejector and the time.
func (t *tender) tend() (next time.Duration, ok bool) {
	t.eject()
	now := t.now()
	at, ok := t.pool.Advance(now)
	if t.ejector != nil {
		if back, due := t.ejector.Next(); due && (!ok || back < at) {
			at, ok = back, true
		}
	}
	return at - now, ok
}

// eject brings the pool in line with the ejector.
func (t *tender) eject() {
	if t.ejector == nil {
		return
	}
	backends, now := t.pool.Backends(), t.now()
	if !slices.Equal(backends, t.members) {
		t.members = backends
		t.ejector.Set(backends, now)
	}
	for _, b := range backends {
		t.ejector.Away(b, b.Status() != balancer.Up && !b.Ejected() || b.Weight() == 0, now)
	}
	t.ejector.Return(now)
	news := false
	for _, b := range backends {
		switch out := t.ejector.Ejected(b); {
		case out == b.Ejected():
			continue
		case out:
			t.pool.Eject(b)
			t.log.Warn("backend ejected: flow after flow failed there", zap.Stringer("backend", b))
		default:
			t.pool.Readmit(b)
			t.log.Info("backend readmitted", zap.Stringer("backend", b))
		}
		news = true
	}
	if news {
		t.changed()
	}
}

// close ends the tender; nil has nothing to end.
func (t *tender) close() {
	if t != nil {
		t.errand.close()
	}
}
