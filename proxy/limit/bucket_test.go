package limit

import (
	"math"
	"math/big"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const year = 365 * 24 * time.Hour

// TestBucketRate counts what passes when as much comes as can: the burst, then the rate.
func TestBucketRate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rate Rate
		from time.Duration
		step time.Duration
		over time.Duration
		want int
	}{
		{Rate{10, time.Second, 1}, 0, time.Millisecond, 10 * time.Second, 101},
		{Rate{10, time.Second, 5}, 0, time.Millisecond, 10 * time.Second, 105},
		{Rate{3, time.Second, 2}, 7, time.Millisecond, 1000 * time.Second, 3002},
		{Rate{10000, time.Second, 1}, 100 * year, 10 * time.Microsecond, 10 * time.Second, 100001},
		{Rate{999_983, time.Second, 2}, year, 250, time.Second, 999_985},
		{Rate{1, 24 * time.Hour, 1}, 0, time.Hour, 1000 * 24 * time.Hour, 1001},
		{Rate{1, 24 * time.Hour, 3}, 100 * year, time.Minute, 10 * 24 * time.Hour, 13},
		{Rate{3, time.Hour, 5}, 0, time.Minute, 10 * time.Hour, 35},
		{Rate{1, time.Second, math.MaxInt}, 0, time.Second, time.Hour, 3601},
		{Rate{math.MaxInt, time.Second, 0}, 0, time.Second, time.Minute, 61},
		{Rate{0, time.Second, 1}, 0, time.Millisecond, time.Second, 1001},
		{Rate{7, year, 2}, year, 24 * time.Hour, 10 * year, 72},
	} {
		var b Bucket
		passed := 0
		for at := time.Duration(0); at <= test.over; at += test.step {
			if b.Take(test.rate, test.from+at) {
				passed++
			}
		}
		if passed != test.want {
			t.Errorf("%v from %v in %v: %d events passed, want %d", test.rate, test.from, test.over, passed, test.want)
		}
	}
}

// TestBucketIsTokenBucket compares a bucket with tokens counted in fractions.
func TestBucketIsTokenBucket(t *testing.T) {
	t.Parallel()
	const seed = 1 // another one tests other cases
	random := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		periods := []time.Duration{time.Second, time.Minute, time.Hour, 24 * time.Hour}
		r := Rate{1 + random.IntN(300), periods[random.IntN(len(periods))], 1 + random.IntN(20)}
		var b Bucket
		burst := big.NewRat(int64(r.Burst), 1)
		tokens := new(big.Rat).Set(burst)
		// Steps are whole milliseconds: boundaries are met exactly or missed by far.
		last := time.Duration(random.Int64N(int64(50*year/time.Millisecond))) * time.Millisecond
		now := last
		for range 200 {
			mean := int64(r.Per) / int64(r.Events) / int64(time.Millisecond)
			now += time.Duration(random.Int64N(2*mean+2)) * time.Millisecond
			refill := new(big.Rat).SetFrac64(int64(now-last), int64(r.Per))
			tokens.Add(tokens, refill.Mul(refill, big.NewRat(int64(r.Events), 1)))
			if tokens.Cmp(burst) > 0 {
				tokens.Set(burst)
			}
			last = now
			want := tokens.Cmp(big.NewRat(1, 1)) >= 0
			if want {
				tokens.Sub(tokens, big.NewRat(1, 1))
			}
			if got := b.Take(r, now); got != want {
				t.Fatalf("seed %d: %v at %v: Take = %v, %v tokens", seed, r, now, got, tokens)
			}
		}
	}
}

// TestBucketRestored checks that no state and no change of the rate stops a bucket for long.
func TestBucketRestored(t *testing.T) {
	t.Parallel()
	r := Rate{1, time.Second, 2}
	for _, state := range []int64{math.MinInt64, -1, 0, 1, math.MaxInt64 - 1, math.MaxInt64} {
		var b Bucket
		b.Restore(state)
		taken := 0
		for range 3 {
			if b.Take(r, year) {
				taken++
			}
		}
		if taken != r.Burst {
			t.Errorf("state %d: %d taken of a bucket of two", state, taken)
		}
	}
	var b Bucket
	b.Take(Rate{1000, time.Second, 1000}, time.Hour)
	passed := false
	for at := time.Hour; at < time.Hour+2*time.Minute; at += time.Second {
		passed = passed || b.Take(r, at)
	}
	if !passed {
		t.Error("a bucket was empty two minutes after its rate had changed")
	}
	var old, restored Bucket
	old.Take(r, year)
	restored.Restore(old.State())
	if !restored.Take(r, year) || restored.Take(r, year) {
		t.Error("a restored bucket does not go on as before")
	}
}

// TestBucketIsShared lets many goroutines take at once: no more passes than may.
func TestBucketIsShared(t *testing.T) {
	t.Parallel()
	r := Rate{1000, time.Second, 50}
	var b Bucket
	buckets := NewBuckets(1, 10)
	var passed, passedKey atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for at := range 2000 {
				now := time.Duration(at) * time.Millisecond / 2
				if b.Take(r, now) {
					passed.Add(1)
				}
				if buckets.Take(Key{}, r, now) {
					passedKey.Add(1)
				}
			}
		})
	}
	all.Wait()
	for _, n := range []int64{passed.Load(), passedKey.Load()} {
		if n > 1050 {
			t.Errorf("%d events passed, at most 1050 may", n)
		}
	}
}

func BenchmarkBucket(b *testing.B) {
	r := Rate{1000, time.Second, 50}
	var bucket Bucket
	now := time.Duration(0)
	for b.Loop() {
		now += 1000
		bucket.Take(r, now)
	}
}
