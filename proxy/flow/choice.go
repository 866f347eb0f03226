package flow

import (
	"time"

	"usher/balancer"
	"usher/conntrack"
)

// Persist keeps the flows of a client at one backend.
type Persist struct {
	conntrack.AffinityConfig
	// On turns it on.
	On bool
	// Allow says whether a client goes back to a backend that gets no new clients.
	Allow balancer.AffinityPolicy
}

// choose reserves a backend for a flow that has not been to those in tried: the one
// that its client has, if the service keeps clients together and it may be used, else
// the scheduler's choice, which the client has from then on; also if its own is merely
// full, because a choice for each flow would scatter it while that lasts. h is the flow's part in
// that, to be given back by forget. rejoins is set to whether the client had b. busy is as of Pool.Acquire.
func (s *Settings) choose(f balancer.Flow, tried *balancer.Tried, h *conntrack.AffinityRef, rejoins *bool) (b *balancer.Backend, busy bool) {
	*rejoins = false
	if s.affinity == nil {
		return s.Pool.Acquire(f, tried)
	}
	who := conntrack.NewAffinityClient(s.Service, f.Client.Addr(), s.Persist.AffinityConfig)
	had := s.affinity.Get(h, who, f.Now)
	if had != nil && !tried.Has(had) && s.canRejoin(f, had) && s.Pool.AcquireSticky(had, s.Persist.Allow) {
		*rejoins = true
		return had, false
	}
	if b, busy = s.Pool.Acquire(f, tried); b == nil {
		return nil, busy
	}
	for {
		has := s.affinity.Put(h, who, had, b, f.Now)
		if has == b || has == had {
			return b, false
		}
		// Another flow of the client was faster.
		if !tried.Has(has) && s.Pool.AcquireSticky(has, s.Persist.Allow) {
			s.release(b) // another client may have found b full meanwhile
			*rejoins = true
			return has, false
		}
		had = has
	}
}

// canRejoin reports whether a flow may go back to its client's backend: not while it waits
// for one that is up, to one that is not.
func (s *Settings) canRejoin(f balancer.Flow, b *balancer.Backend) bool {
	found := b.Status()
	return !f.UpOnly || found != balancer.Down && found != balancer.Unknown
}

// forget gives back a flow's part in its client's persistence.
func (s *Settings) forget(h *conntrack.AffinityRef, now time.Duration) {
	if s.affinity != nil {
		s.affinity.Release(h, now)
	}
}

// release gives back a reserved backend, and lets a client that waits for room know.
func (s *Settings) release(b *balancer.Backend) {
	s.Pool.Release(b)
	s.queue.wake()
}

// failed counts a flow that b did not take up or broke off before it had said anything.
func (s *Settings) onFailure(b *balancer.Backend, why balancer.FailureReason) {
	b.CountFailure(why)
	s.reportFailure(b)
}

// blame tells of a failure of b that is counted already.
func (s *Settings) reportFailure(b *balancer.Backend) {
	if s.Observer != nil {
		s.Observer.OnFailure(b)
	}
}

// worked notes a flow that b has answered, or that it has ended in good order.
func (s *Settings) onSuccess(b *balancer.Backend) {
	if s.Observer != nil {
		s.Observer.OnSuccess(b)
	}
}

// lifetime is how long a flow that begins now may last at the most; zero is for ever.
// Flows that began together differ in their ids, which spread their ends.
func (s *Settings) lifetime(id conntrack.ID, now time.Duration) time.Duration {
	if s.MaxAge <= 0 {
		return 0
	}
	h := uint64(now) ^ uint64(id)<<40 // splitmix64
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	spread := float64((h^h>>31)>>11)/(1<<52) - 1 // from -1 to 1
	return max(s.MaxAge+time.Duration(spread*s.MaxAgeJitter*float64(s.MaxAge)), 1)
}
