package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"time"
)

// subject is an operation whose time is measured: what it is done to, and among how many.
type subject struct {
	name string
	size int
	run  func(n int) // does it n times
}

// stopwatch measures each subject in every round, all of them before any of them
// again. A disturbance of the machine in a round is in the figures of all.
type stopwatch struct {
	rounds int
	slot   time.Duration        // measured time of a subject in a round, about
	now    func() time.Duration // since any moment
}

func newStopwatch(o studyOptions) stopwatch {
	start := time.Now()
	return stopwatch{o.rounds, o.slot, func() time.Duration { return time.Since(start) }}
}

// timings has, by name and size, the nanoseconds of one operation in each round.
type timings map[timingKey][]float64

type timingKey struct {
	name string
	size int
}

// measure runs the subjects. Their order differs from round to round, so that no
// subject always runs behind the same one. It is the same each time that the program
// runs.
func (w stopwatch) measure(ctx context.Context, subjects []subject, progress io.Writer) (timings, error) {
	t := make(timings, len(subjects))
	random := rand.New(rand.NewPCG(1, 2))
	for round := range w.rounds {
		runtime.GC() // what building the subjects left, and the round before
		for _, i := range random.Perm(len(subjects)) {
			if ctx.Err() != nil {
				return nil, errors.New("interrupted")
			}
			s := &subjects[i]
			key := timingKey{s.name, s.size}
			t[key] = append(t[key], w.perOperation(s.run))
		}
		fmt.Fprintf(progress, "round %d of %d\n", round+1, w.rounds)
	}
	return t, nil
}

// warmShare sets how long a subject runs before it is measured: at least this part of
// a slot. It then finds its own data in the caches, not those of the subject before.
const warmShare = 8

// perOperation returns the nanoseconds that one operation takes.
func (w stopwatch) perOperation(run func(n int)) float64 {
	for n := 1; ; n *= 2 {
		took := w.time(run, n)
		if took < w.slot/warmShare {
			continue
		}
		n = max(int(float64(n)*float64(w.slot)/float64(max(took, 1))), 1)
		return float64(w.time(run, n)) / float64(n)
	}
}

func (w stopwatch) time(run func(n int), n int) time.Duration {
	start := w.now()
	run(n)
	return w.now() - start
}

// of returns the times of a subject, one a round.
func (t timings) of(name string, size int) []float64 { return t[timingKey{name, size}] }

// over returns the times of a subject in relation to those of another one, taken within
// each round.
func (t timings) over(name string, size int, base string, baseSize int) []float64 {
	return ratios(t.of(name, size), t.of(base, baseSize))
}
