package balancer

import (
	"math"
	"sync/atomic"
	"time"
)

// ewma draws two different members by weight and takes the one that promises the
// shorter wait: its latency times its active flows, the new one included, for its
// weight. Of equal ones it takes the first.
//
// A latency is the time to accept a connection and the time to begin an answer, each of
// which has a mean of its own; see latency. In one mean of both a backend whose kernel
// accepts at once would look fast until its application answers: it would be flooded
// when it is new, and after each silence. Three rules say how far a comparison trusts
// the means:
//
//   - Where a backend has no sample, it counts as fast as the other one. So a new
//     backend is neither avoided nor flooded: until its first answer, flows for their
//     weight decide. Where nobody ever answers, that leaves the times to accept.
//   - The older of two means fades into the newer one. So a backend that was slow
//     once gets a flow again some time after it has been left alone, and that flow's
//     sample decides anew: after 90 s when it was a thousand times slower than the
//     other one, after 21 s when it was twice as slow; sooner when the other one is
//     loaded. Only samples make a mean older: a pool without flows forgets nothing.
//   - Latencies less than an eighth apart count as equal. Otherwise noise would
//     override weights in a pool that is mostly idle.
type ewma struct {
	twoChoices
}

// latencyMemory is the time after which a sample has lost all but 1/e of its weight.
const latencyMemory = 10 * time.Second

// latencyNoise is the share by which latencies must differ.
const latencyNoise = 1. / 8

func newEWMA(s settings) scheduler {
	return &ewma{twoChoices{random: s.random, build: newAliasTable, distinct: true, better: cheaper}}
}

func (*ewma) accepted(b *Backend, took, now time.Duration) { b.accepting.observe(took, now) }
func (*ewma) answered(b *Backend, took, now time.Duration) { b.answering.observe(took, now) }

// cheaper compares costs. The flow to come is weighed alike on both sides, by the mean of
// both weights: drawing the two has already seen to the weights, and a flow over its own
// backend's weight would leave a light backend without any for as long as the pool is
// idle. Between equal weights it is latency * (active+1).
func cheaper(x, y *column) bool {
	lx, ly := compared(x.backend, y.backend)
	if lx == ly { // the same without the rounding
		return fewerActive(x, y)
	}
	wx, wy := float64(x.weight), float64(y.weight)
	one := 2 / (wx + wy)
	return lx*(float64(x.backend.Active())/wx+one) < ly*(float64(y.backend.Active())/wy+one)
}

// compared returns what the latencies of two backends are to be compared by.
func compared(x, y *Backend) (float64, float64) {
	acceptX, acceptY := faded(x.accepting.load(), y.accepting.load())
	answerX, answerY := faded(x.answering.load(), y.answering.load())
	lx, ly := acceptX+answerX, acceptY+answerY
	if lx == ly || math.Abs(lx-ly) < latencyNoise*min(lx, ly) {
		return 1, 1
	}
	return lx, ly
}

// faded returns two means as far as they are known, the older one faded.
func faded(x, y estimate) (float64, float64) {
	switch {
	case x.mean == 0:
		return y.mean, y.mean
	case y.mean == 0:
		return x.mean, x.mean
	case x.at < y.at:
		x.mean = y.mean + (x.mean-y.mean)*remains(y.at-x.at)
	case y.at < x.at:
		y.mean = x.mean + (y.mean-x.mean)*remains(x.at-y.at)
	}
	return x.mean, y.mean
}

// remains is what is left of a sample's weight after a time.
func remains(elapsed time.Duration) float64 {
	return math.Exp(-float64(elapsed) / float64(latencyMemory))
}

// latency is a mean of a backend's samples that is sensitive to peaks: a sample above it
// takes its place at once, one below it pulls it down by what the mean has lost since
// the sample before. The zero value has no sample. Any goroutine may call its methods.
//
// The mean and its time share a word, so that neither is ever seen without the other.
// The time is in ticks of 2^24 ns, 17 ms, and leaves 24 bits for the mean: a float32
// without its sign and its last seven bits, exact to 8 in a million. Within a tick no time
// passes, so only peaks count.
type latency struct {
	word atomic.Uint64
}

// estimate is what a latency says.
type estimate struct {
	mean float64 // in ns; 0: there is none
	at   time.Duration
}

const (
	latencyTick = 1 << 24
	meanBits    = latencyTick - 1
	cutBits     = 7 // of a float32
)

func (l *latency) load() estimate { return unpackEstimate(l.word.Load()) }

func unpackEstimate(word uint64) estimate {
	return estimate{
		mean: float64(math.Float32frombits(uint32(word&meanBits) << cutBits)),
		at:   time.Duration(word &^ meanBits),
	}
}

func (e estimate) pack() uint64 {
	rounded := math.Float32bits(float32(e.mean)) + 1<<(cutBits-1)
	return uint64(e.at)&^meanBits | uint64(rounded>>cutBits)
}

func (l *latency) observe(took, now time.Duration) {
	sample := float64(max(took, 1)) // 0 would be no sample
	now = max(now, 0) &^ meanBits
	for {
		word := l.word.Load()
		e := unpackEstimate(word)
		at := max(now, e.at) // other flows may have a later clock
		if e.mean == 0 || sample > e.mean {
			e.mean = sample
		} else {
			e.mean = sample + (e.mean-sample)*remains(at-e.at)
		}
		e.at = at
		if next := e.pack(); next == word || l.word.CompareAndSwap(word, next) {
			return
		}
	}
}
