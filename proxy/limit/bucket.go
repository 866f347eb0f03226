package limit

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Bucket is a token bucket, full at first, in the form of the generic cell rate algorithm
// (ITU-T I.371): it holds only the theoretical arrival time of the next event.
//
// That time is counted in units of the rate: a power of two of them make one interval
// between events. So an event adds a whole number and nothing drifts. Time becomes units by
// one rounded product. A unit is one to two nanoseconds, and never less than one, so that
// nothing overflows in two centuries.
type Bucket struct{ arrival atomic.Int64 }

const (
	// maxDebt bounds in units how far a burst reaches ahead: 73 years or more.
	maxDebt = 1 << 61
	// otherRate is how far in units beyond its burst a bucket may be. Workers' clocks differ
	// by less. One further ahead was used at another rate, and is full again.
	otherRate = int64(time.Minute)
)

// cell is a rate in units.
type cell struct {
	now, interval, burst int64
}

// cellOf returns a rate that is on in its units, and the time in them.
func cellOf(r Rate, now time.Duration) cell {
	per := max(uint64(r.Per), 1)
	events := min(uint64(r.Events), per)
	shift := bits.Len64(per/events) - 1
	hi, lo := bits.Mul64(uint64(max(now, 0)), events<<shift)
	units, _ := bits.Div64(hi, lo, per)
	burst := int64(max(min(uint64(max(r.Burst, 1)), maxDebt>>shift), 1)) << shift
	return cell{now: int64(units), interval: 1 << shift, burst: burst}
}

// next returns the arrival time after one more event, and whether the event conforms.
func (c cell) next(arrival int64) (int64, bool) {
	if arrival <= c.now || arrival-c.now > c.burst+otherRate {
		arrival = c.now
	}
	arrival += c.interval
	return arrival, arrival-c.now <= c.burst
}

// Take reports whether an event conforms to the rate, and counts it if so. A rate that is
// not on lets everything pass. After a change of the rate the bucket is right again within a
// minute and a burst.
func (b *Bucket) Take(r Rate, now time.Duration) bool {
	if !r.IsOn() {
		return true
	}
	c := cellOf(r, now)
	for {
		old := b.arrival.Load()
		arrival, ok := c.next(old)
		if !ok || b.arrival.CompareAndSwap(old, arrival) {
			return ok
		}
	}
}

// State returns what the bucket holds, for Restore.
func (b *Bucket) State() int64 { return b.arrival.Load() }

// Restore sets what the bucket holds. Any number makes a bucket that works.
func (b *Bucket) Restore(state int64) { b.arrival.Store(state) }
