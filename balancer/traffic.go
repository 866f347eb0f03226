package balancer

import (
	"math"
	"sync/atomic"
	"time"
)

// traffic is what a backend has carried.
type traffic struct {
	up, down atomic.Uint64
	in, out  atomic.Uint64            // packets
	connects atomic.Pointer[connects] // nil until the first one
}

// connects is how long connections took to be accepted. Most backends of a large
// configuration never have one, so memory comes with the first.
type connects struct {
	Histogram
	smoothed atomic.Int64 // time.Duration
}

// connectMemory is the weight of the mean so far against a new time to connect.
const connectMemory = 8

// CountBytes counts bytes passed on from and to clients.
func (b *Backend) CountBytes(up, down uint64) {
	if up > 0 {
		b.traffic.up.Add(up)
	}
	if down > 0 {
		b.traffic.down.Add(down)
	}
}

// Bytes returns the bytes counted so far.
func (b *Backend) Bytes() (up, down uint64) { return b.traffic.up.Load(), b.traffic.down.Load() }

// CountPackets counts packets from and to clients.
func (b *Backend) CountPackets(in, out uint64) {
	if in > 0 {
		b.traffic.in.Add(in)
	}
	if out > 0 {
		b.traffic.out.Add(out)
	}
}

// Packets returns the packets counted so far.
func (b *Backend) Packets() (in, out uint64) { return b.traffic.in.Load(), b.traffic.out.Load() }

// CountConnect counts a connection that the backend accepted after so long. It allocates
// for the first one only.
func (b *Backend) CountConnect(took time.Duration) {
	c := b.traffic.connects.Load()
	if c == nil {
		c = new(connects)
		if !b.traffic.connects.CompareAndSwap(nil, c) {
			c = b.traffic.connects.Load()
		}
	}
	c.Observe(&ConnectBounds, took)
	// Of two at once one may be lost, which no mean shows.
	mean := c.smoothed.Load()
	if mean == 0 {
		mean = int64(took)
	}
	c.smoothed.Store(max(mean+(int64(took)-mean)/connectMemory, 1))
}

// ConnectTime returns the smoothed time to connect; zero if there was no connection.
func (b *Backend) ConnectTime() time.Duration {
	if c := b.traffic.connects.Load(); c != nil {
		return time.Duration(c.smoothed.Load())
	}
	return 0
}

// Connects returns how long the connections so far took to be accepted.
func (b *Backend) Connects() HistogramCounts {
	if c := b.traffic.connects.Load(); c != nil {
		return c.Counts()
	}
	return HistogramCounts{}
}

// HistogramBuckets is how many bounds a histogram has.
const HistogramBuckets = 8

// Bounds are the upper bounds of a histogram's buckets, in order. A last bucket has no
// bound.
type Bounds [HistogramBuckets]time.Duration

// ConnectBounds are those of times to connect: from one rack to a retransmitted SYN.
var ConnectBounds = Bounds{
	500 * time.Microsecond, time.Millisecond, 5 * time.Millisecond, 25 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, time.Second, 5 * time.Second,
}

// Histogram counts durations in buckets. The zero value is empty. Any goroutine may call its
// methods; none of them locks or allocates.
type Histogram struct {
	counts [HistogramBuckets + 1]atomic.Uint64
	sum    atomic.Uint64 // µs: nanoseconds of long flows would overflow
}

// Observe counts a duration. All calls for a histogram have the same bounds.
func (h *Histogram) Observe(bounds *Bounds, d time.Duration) {
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(uint64(max(d, 0) / time.Microsecond))
}

// Restore makes an empty histogram one that has counted so much.
func (h *Histogram) Restore(c HistogramCounts) {
	for i := range h.counts {
		h.counts[i].Store(c.Counts[i])
	}
	h.sum.Store(uint64(max(c.Sum, 0) / time.Microsecond))
}

// HistogramCounts is what a histogram has counted.
type HistogramCounts struct {
	Counts [HistogramBuckets + 1]uint64 // by bucket, not cumulative
	Sum    time.Duration                // cut to what a time.Duration can be
}

// Counts returns what was counted so far. What is counted meanwhile may be in part of it.
func (h *Histogram) Counts() (c HistogramCounts) {
	for i := range h.counts {
		c.Counts[i] = h.counts[i].Load()
	}
	c.Sum = time.Duration(min(h.sum.Load(), math.MaxInt64/1000)) * time.Microsecond
	return c
}
