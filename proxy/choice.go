package proxy

import (
	"math/rand/v2"
	"time"

	"usher/balancer"
	"usher/conntrack"
)

// Persist keeps the flows of a client at one backend.
type Persist struct {
	conntrack.Persistence
	// On turns it on.
	On bool
	// Allow says whether a client goes back to a backend that gets no new clients.
	Allow balancer.Stickiness
}

// choose reserves a backend for a flow that has not been to those in tried: the one
// that its client has, if the service keeps clients together and it may be used, else
// the scheduler's choice, which the client has from then on; also if its own is merely
// full, because a choice for each flow would scatter it while that lasts. h is the flow's part in
// that, to be given back by forget. busy is as of Pool.Acquire.
func (s *Service) choose(f balancer.Flow, tried *balancer.Tried, h *conntrack.Hold) (b *balancer.Backend, busy bool) {
	if s.affinity == nil {
		return s.Pool.Acquire(f, tried)
	}
	who, p := f.Client.Addr(), &s.Persist
	had := s.affinity.Get(h, s, who, p.Persistence, f.Now)
	if had != nil && !tried.Has(had) && s.Pool.Rejoin(had, p.Allow) {
		return had, false
	}
	if b, busy = s.Pool.Acquire(f, tried); b == nil {
		return nil, busy
	}
	for {
		has := s.affinity.Put(h, s, who, p.Persistence, had, b, f.Now)
		if has == b || has == had {
			return b, false
		}
		// Another flow of the client was faster.
		if !tried.Has(has) && s.Pool.Rejoin(has, p.Allow) {
			s.release(b) // another client may have found b full meanwhile
			return has, false
		}
		had = has
	}
}

// forget gives back a flow's part in its client's persistence.
func (s *Service) forget(h *conntrack.Hold, now time.Duration) {
	if s.affinity != nil {
		s.affinity.Release(h, now)
	}
}

// release gives back a reserved backend, and lets a client that waits for room know.
func (s *Service) release(b *balancer.Backend) {
	s.Pool.Release(b)
	s.queue.wake()
}

// failed counts a flow that b did not take up or broke off before it had said anything.
func (s *Service) failed(b *balancer.Backend) {
	b.CountFailure()
	s.blame(b)
}

// blame tells of a failure of b that is counted already.
func (s *Service) blame(b *balancer.Backend) {
	if s.Witness != nil {
		s.Witness.Failure(b)
	}
}

// worked notes a flow that b has answered, or that it has ended in good order.
func (s *Service) worked(b *balancer.Backend) {
	if s.Witness != nil {
		s.Witness.Success(b)
	}
}

// lifetime is how long a flow that begins now may last at the most; zero is for ever.
// Chance keeps flows that began together from ending together.
func (s *Service) lifetime() time.Duration {
	if s.MaxAge <= 0 {
		return 0
	}
	return max(s.MaxAge+time.Duration((2*rand.Float64()-1)*s.MaxAgeJitter*float64(s.MaxAge)), 1)
}
