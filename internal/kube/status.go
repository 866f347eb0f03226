package kube

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"

	"usher/internal/kube/planner"
)

// statusWriter writes the addresses of a load balancer into the status of its Service.
type statusWriter interface {
	SetLoadBalancer(ctx context.Context, key planner.Key, ips []netip.Addr) error
}

// statusRetry is how long a status that cannot be written waits.
const statusRetry = 5 * time.Second

// status writes addresses into the statuses of Services, apart from the engine: the API server may be slow. A nil one
// writes nothing. Any goroutine may call its methods.
type status struct {
	writer statusWriter
	log    *zap.Logger
	news   chan struct{} // has room for one

	mu     sync.Mutex
	wanted map[planner.Key]netip.Addr
	dirty  map[planner.Key]bool
}

func newStatus(w statusWriter, log *zap.Logger) *status {
	return &status{
		writer: w, log: log, news: make(chan struct{}, 1),
		wanted: make(map[planner.Key]netip.Addr), dirty: make(map[planner.Key]bool),
	}
}

// set gives a Service its address. The zero Addr: it has none of ours, and its status is left alone.
func (s *status) set(key planner.Key, addr netip.Addr) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !addr.IsValid() {
		delete(s.wanted, key)
		delete(s.dirty, key)
		return
	}
	s.wanted[key], s.dirty[key] = addr, true // the writer knows whether the status has it
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// run writes until ctx ends.
func (s *status) run(ctx context.Context) {
	logged := ""
	for {
		err := s.write(ctx)
		var again <-chan time.Time
		switch {
		case err == nil:
			logged = ""
		case ctx.Err() == nil:
			if err.Error() != logged {
				logged = err.Error()
				s.log.Warn("the address of a load balancer is not written, usher tries again (it needs to patch services/status)", zap.Error(err))
			}
			again = time.After(statusRetry)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.news:
		case <-again:
		}
	}
}

// write writes what is due, and returns the last error.
func (s *status) write(ctx context.Context) (failed error) {
	s.mu.Lock()
	due := make(map[planner.Key]netip.Addr, len(s.dirty))
	for key := range s.dirty {
		due[key] = s.wanted[key]
	}
	clear(s.dirty)
	s.mu.Unlock()
	for key, addr := range due {
		err := s.writer.SetLoadBalancer(ctx, key, []netip.Addr{addr})
		if err == nil {
			continue
		}
		failed = err
		s.mu.Lock()
		if s.wanted[key] == addr {
			s.dirty[key] = true
		}
		s.mu.Unlock()
	}
	return failed
}
