package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"usher/balancer"
)

// stallForms are the schedulers whose choices are timed while weights change. They
// build a table, except for one that keeps its backends in a heap under a lock.
var stallForms = []form{{scheduler: "mh"}, {scheduler: "ring"}, {scheduler: "hrw"}, {scheduler: "wlc"}}

// meanwhile is what another goroutine does while choices are timed.
type meanwhile uint8

const (
	// nothing else goes on.
	nothing meanwhile = iota
	// elsewhere: the weights of another pool of the same kind change. That takes as much
	// of the processor, the collector and the caches, but has nothing to wait for.
	elsewhere
	// here: the weights of the same pool change.
	here
	meanwhiles
)

func (m meanwhile) String() string {
	switch m {
	case elsewhere:
		return "weights of another pool change"
	case here:
		return "weights of this pool change"
	}
	return "nothing"
}

// The range of timed choices, in nanoseconds. A longer choice counts as the longest.
const (
	choiceLowest  = 1
	choiceHighest = int64(10 * time.Second)
	// slowFrom is from where choices are kept one by one, to be counted by any measure.
	slowFrom = 20 * time.Microsecond
)

// stall is how long choices took while something went on.
type stall struct {
	form    string
	beside  meanwhile
	choices *hdrhistogram.Histogram // nanoseconds of a choice and its release
	slow    []time.Duration         // those that took slowFrom or longer
	updates []time.Duration         // of the weights, one after the other without a pause
}

// measureStalls times choices among n backends, in rounds of a few slots. There is one
// slot for each form and each activity meanwhile.
func measureStalls(ctx context.Context, n int, o studyOptions, progress io.Writer) ([]stall, error) {
	var stalls []stall
	var run []func(*stall) error
	for _, f := range stallForms {
		specs := specsOf(n, f.each())
		p, err := f.pool(specs)
		if err != nil {
			return nil, err
		}
		others := specsOf(n, f.each())
		other, err := f.pool(others)
		if err != nil {
			return nil, err
		}
		for beside := range meanwhiles {
			var update func()
			switch beside {
			case elsewhere:
				update = weightToggle(other, others)
			case here:
				update = weightToggle(p, specs)
			}
			stalls = append(stalls, stall{form: f.name(), beside: beside, choices: hdrhistogram.New(choiceLowest, choiceHighest, 3)})
			run = append(run, func(s *stall) error { return s.timeChoices(p, update, stallSlots*o.slot) })
		}
	}
	random := rand.New(rand.NewPCG(3, 4))
	for round := range o.rounds {
		for _, i := range random.Perm(len(stalls)) {
			if ctx.Err() != nil {
				return nil, errors.New("interrupted")
			}
			if err := run[i](&stalls[i]); err != nil {
				return nil, fmt.Errorf("choices of %s: %w", stalls[i].form, err)
			}
		}
		fmt.Fprintf(progress, "waiting for tables: round %d of %d\n", round+1, o.rounds)
	}
	return stalls, nil
}

// stallSlots is for how many slots choices are timed in a round: long ones are rare.
const stallSlots = 15

// timeChoices times choices of p for d, while another goroutine calls update again and
// again, unless that is nil. It returns when the goroutine has ended.
func (s *stall) timeChoices(p *balancer.Pool, update func(), d time.Duration) error {
	stop, stopped, begun := make(chan struct{}), make(chan struct{}), make(chan struct{})
	if update == nil {
		close(stopped)
	} else {
		go func() {
			defer close(stopped)
			close(begun)
			for {
				start := time.Now()
				update()
				s.updates = append(s.updates, time.Since(start))
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
		<-begun
	}
	err := s.choose(p, d)
	close(stop)
	<-stopped
	return err
}

func (s *stall) choose(p *balancer.Pool, d time.Duration) error {
	start := time.Now()
	for i, at := uint32(0), time.Duration(0); at < d; i++ {
		f := flowOf(i)
		began := time.Since(start)
		b, _ := p.Acquire(f, nil)
		if b == nil {
			return errors.New("there is no backend")
		}
		p.Release(b)
		at = time.Since(start)
		took := at - began
		if took >= slowFrom {
			s.slow = append(s.slow, took)
		}
		if err := s.choices.RecordValue(min(max(int64(took), choiceLowest), choiceHighest)); err != nil {
			return err
		}
	}
	return nil
}

// longerThan counts the choices that took at least so long, which is no less than
// slowFrom.
func (s *stall) longerThan(d time.Duration) (n int) {
	for _, took := range s.slow {
		if took >= d {
			n++
		}
	}
	return n
}
