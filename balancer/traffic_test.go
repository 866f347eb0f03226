package balancer

import (
	"math"
	"net/netip"
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	t.Parallel()
	var h Histogram
	last := ConnectBounds[HistogramBuckets-1]
	for _, d := range []time.Duration{-1, 0, ConnectBounds[0], ConnectBounds[0] + 1, ConnectBounds[1], last, last + 1, math.MaxInt64} {
		h.Observe(&ConnectBounds, d)
	}
	c := h.Counts()
	want := [HistogramBuckets + 1]uint64{0: 3, 1: 2, HistogramBuckets - 1: 1, HistogramBuckets: 2}
	if c.Counts != want {
		t.Errorf("counted %v, want %v", c.Counts, want)
	}
	if c.Sum < math.MaxInt64-time.Millisecond {
		t.Errorf("the sum is %v", c.Sum)
	}
	h.Observe(&ConnectBounds, math.MaxInt64)
	if c := h.Counts(); c.Sum < math.MaxInt64-time.Millisecond {
		t.Errorf("the sum overflows to %v", c.Sum)
	}
}

// TestConnectTime: the mean follows new times, and one outlier does not make it.
func TestConnectTime(t *testing.T) {
	t.Parallel()
	b := newBackend(1, Endpoint{Addr: netip.MustParseAddrPort("10.0.0.1:80")})
	if b.ConnectTime() != 0 || b.Connects() != (HistogramCounts{}) {
		t.Errorf("without a connect: %v, %v", b.ConnectTime(), b.Connects())
	}
	b.CountConnect(time.Millisecond)
	if got := b.ConnectTime(); got != time.Millisecond {
		t.Errorf("after one connect of 1ms: %v", got)
	}
	b.CountConnect(9 * time.Millisecond)
	if got := b.ConnectTime(); got != 2*time.Millisecond {
		t.Errorf("after another one of 9ms: %v, want 2ms", got)
	}
	for range 100 {
		b.CountConnect(0)
	}
	if got := b.ConnectTime(); got > 10*time.Microsecond || got <= 0 {
		t.Errorf("after 100 of no time: %v", got)
	}
	b.CountBytes(3, 0)
	b.CountBytes(1, 5)
	if up, down := b.Bytes(); up != 4 || down != 5 {
		t.Errorf("%d bytes up and %d down, want 4 and 5", up, down)
	}
}
