package balancer

import "sync/atomic"

// FailureReason says why a backend did not take a flow up, or broke it off at once. Their
// order is that of BackendState.Failures.
type FailureReason uint8

const (
	// FailedOther is whatever the others are not.
	FailedOther FailureReason = iota
	// FailedRefused: the backend's host refused the connection or the datagram.
	FailedRefused
	// FailedUnreachable: there was no way to the backend's host.
	FailedUnreachable
	// FailedTimeout: the backend did not answer in time.
	FailedTimeout
	// FailedReset: the backend reset the flow before it had said anything.
	FailedReset

	// FailureReasons is the number of reasons.
	FailureReasons
)

var failureNames = [FailureReasons]string{"other", "refused", "unreachable", "timeout", "reset"}

// String returns the reason in one word.
func (r FailureReason) String() string { return failureNames[r] }

// failures are counted by reason. Most backends of a large configuration never fail, so
// memory comes with the first.
type failures struct {
	counts atomic.Pointer[[FailureReasons]atomic.Uint64]
}

func (f *failures) add(why FailureReason, n uint64) {
	c := f.counts.Load()
	if c == nil {
		c = new([FailureReasons]atomic.Uint64)
		if !f.counts.CompareAndSwap(nil, c) {
			c = f.counts.Load()
		}
	}
	c[why].Add(n)
}

// of returns how many were counted for a reason.
func (f *failures) of(why FailureReason) uint64 {
	if c := f.counts.Load(); c != nil {
		return c[why].Load()
	}
	return 0
}

// all returns the counts by reason; nil if there was no failure.
func (f *failures) all() (counts []uint64) {
	c := f.counts.Load()
	if c == nil {
		return nil
	}
	for i := range c {
		counts = append(counts, c[i].Load())
	}
	return counts
}

// Failures returns how often CountFailure has been called.
func (b *Backend) Failures() (n uint64) {
	for why := range FailureReasons {
		n += b.failures.of(why)
	}
	return n
}

// FailuresBy returns how often CountFailure has been called for a reason.
func (b *Backend) FailuresBy(why FailureReason) uint64 { return b.failures.of(why) }

// CountFailure counts a flow that the backend did not take up, or broke off at once. The
// backend then gets no more than its fair share of new flows, until ClearFailing: it holds
// no flows, so schedulers that count them would send it everybody. It allocates for the
// first one only.
func (b *Backend) CountFailure(why FailureReason) {
	b.failures.add(why, 1)
	b.failing.Store(true)
}
