package app

import (
	"slices"
	"sync"
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

	members []*balancer.Backend // that the ejector knows of; of the loop alone

	news   chan struct{} // holds one
	done   chan struct{}
	ending sync.Once
	loop   sync.WaitGroup
}

// newTender returns nil if the service has nothing to tend.
func newTender(s *config.Service, pool *balancer.Pool, changed func(), log *zap.Logger) (*tender, error) {
	if s.SlowStart == 0 && s.Eject.Failures == 0 {
		return nil, nil
	}
	t := &tender{pool: pool, epoch: time.Now(), changed: changed, log: log, news: make(chan struct{}, 1), done: make(chan struct{})}
	if e := s.Eject; e.Failures > 0 {
		var err error
		if t.ejector, err = health.NewEjector[*balancer.Backend](health.EjectPolicy{
			Threshold: e.Failures, Base: e.Time, MaxShare: e.Share,
		}); err != nil {
			return nil, err
		}
	}
	t.loop.Go(t.run)
	return t, nil
}

func (t *tender) now() time.Duration { return time.Since(t.epoch) }

// tell has the tender look at the pool soon. Any goroutine may call it.
func (t *tender) tell() {
	if t == nil {
		return
	}
	select {
	case t.news <- struct{}{}:
	default:
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

// tenderRest is how much longer than a look at the pool the tender rests after it. A look takes time for each backend, and
// when thousands of them come up one by one there would be one for each report.
const tenderRest = 9

// run ends with close.
func (t *tender) run() {
	timer, rest := time.NewTimer(0), time.NewTimer(0)
	defer timer.Stop()
	defer rest.Stop()
	for {
		select {
		case <-t.news:
		case <-timer.C:
		case <-t.done:
			return
		}
		select {
		case <-rest.C:
		case <-t.done:
			return
		}
		began := t.now()
		t.eject()
		now := t.now()
		next, ok := t.pool.Advance(now)
		if t.ejector != nil {
			if at, due := t.ejector.Next(); due && (!ok || at < next) {
				next, ok = at, true
			}
		}
		if ok {
			timer.Reset(max(next-now, time.Millisecond))
		} else {
			timer.Stop()
		}
		rest.Reset(tenderRest * (t.now() - began))
	}
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
	if t == nil {
		return
	}
	t.ending.Do(func() { close(t.done) })
	t.loop.Wait()
}
