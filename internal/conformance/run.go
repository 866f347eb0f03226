//go:build linux

package conformance

import (
	"cmp"
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

// Case is one promise that a proxy keeps or not.
type Case struct {
	Name  string
	Group string
	// Alone is set on cases whose figures any other case would spoil. They run one at
	// a time, after the others.
	Alone bool
	// Heavy is set on cases that keep a processor busy. One of them runs beside
	// another and those that mostly wait.
	Heavy bool
	// Limit is the time after which the case is given up; zero: 90 s. Only a stuck
	// case reaches it.
	Limit time.Duration
	Run   func(*C)
}

// Options say how to run the cases.
type Options struct {
	// Strict makes a case that fails fail the test. Otherwise it is only
	// reported.
	Strict bool
	// Short makes the loads light.
	Short bool
	// Instrumented is set for a slower and bigger build than users run (race
	// detector). Its memory and CPU time are not judged.
	Instrumented bool
	// Patience is how long a step may go without progress before the case fails. Zero
	// means 20 s, or 40 s when Instrumented. A target that is known to fail some cases
	// fails them sooner with less.
	Patience time.Duration
	// Seed seeds everything random, to repeat a run; zero: a new one for each case. A
	// case that fails logs its own.
	Seed uint64
	// Changes is how many changes the case of random changes makes, under its full load;
	// zero: few, under a light one.
	Changes int
	// Only chooses cases; nil: all.
	Only func(Case) bool
}

// Outcome is the verdict on a case.
type Outcome uint8

const (
	Passed Outcome = iota
	Failed
	Skipped // the target cannot express the case, or the machine cannot play it
)

// Result is the result of one case. Reason is empty for Passed.
type Result struct {
	Case    Case
	Outcome Outcome
	Reason  string
	Took    time.Duration

	behind time.Duration // by how much the machine fell behind meanwhile
	stall  time.Duration // the most of that at once
}

// hasVerdict reports whether the machine was quick enough to judge a proxy: most of the
// time it ran what was due, and it never stopped for long.
func (r Result) hasVerdict() bool {
	return r.Outcome != Failed || r.behind <= r.Took/4 && r.stall <= 300*time.Millisecond
}

// Report has the results of a target, in the order of Cases.
type Report struct {
	Target, Version string
	Notes           []string
	Results         []Result
}

// Result returns the result of the case of that name; ok is false when it did not run.
func (r Report) Result(name string) (x Result, ok bool) {
	for _, x := range r.Results {
		if x.Case.Name == name {
			return x, true
		}
	}
	return Result{}, false
}

// Trial is a target and how to run the cases against it.
type Trial struct {
	Name    string // of the subtest
	Target  Target
	Options Options
}

// Run runs the cases as subtests of t. Those that may share the machine run first,
// several at once. Those that must be alone follow one by one.
func Run(t *testing.T, target Target, o Options) Report {
	return run(t, newMachine(1), target, o)
}

// RunBeside runs several trials, each as a subtest of t. Cases of all trials that may
// share the machine run together, no more at once than those of one. The others
// follow, one by one. The reports are in the order of the trials, without those that
// -run leaves out.
func RunBeside(t *testing.T, trials []Trial) []Report {
	m := newMachine(len(trials))
	reports := make([]*Report, len(trials))
	var all sync.WaitGroup
	for i, x := range trials {
		all.Go(func() {
			ran := false
			t.Run(x.Name, func(t *testing.T) {
				ran = true
				r := run(t, m, x.Target, x.Options)
				reports[i] = &r
			})
			if !ran {
				m.shared.Done()
			}
		})
	}
	all.Wait()
	var done []Report
	for _, r := range reports {
		if r != nil {
			done = append(done, *r)
		}
	}
	return done
}

// machine bounds how many cases run at once.
type machine struct {
	light, heavy chan struct{}  // a place for each case that runs
	shared       sync.WaitGroup // trials that still have cases which share
	alone        sync.Mutex
}

func newMachine(trials int) *machine {
	// Many of the cases that mostly wait run beside each other. Two heavy ones fill a
	// small machine.
	const light, heavy = 16, 2
	m := &machine{light: make(chan struct{}, light), heavy: make(chan struct{}, heavy)}
	m.shared.Add(trials)
	return m
}

func run(t *testing.T, m *machine, target Target, o Options) Report {
	r := Report{Target: target.Name(), Version: target.Version(), Notes: target.Notes()}
	var cases []Case
	for _, x := range Cases() {
		if o.Only == nil || o.Only(x) {
			cases = append(cases, x)
		}
	}
	results := make([]*Result, len(cases))
	block := newBlock()
	play := func(i int) {
		t.Run(cases[i].Name, func(t *testing.T) {
			result := judgeCase(t, target, o, cases[i], block)
			results[i] = &result
		})
	}

	var shared sync.WaitGroup
	for i, x := range cases {
		if x.Alone {
			continue
		}
		places := m.light
		if x.Heavy {
			places = m.heavy
		}
		shared.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			play(i)
		})
	}
	shared.Wait()
	m.shared.Done()
	m.shared.Wait()
	for i, x := range cases {
		if x.Alone {
			m.alone.Lock()
			play(i)
			m.alone.Unlock()
		}
	}

	for _, x := range results {
		if x != nil { // nil: not selected by -run
			r.Results = append(r.Results, *x)
		}
	}
	return r
}

// judgeCase runs one case. A strict one that fails on a machine that falls behind runs
// again, a few times at the most.
func judgeCase(t *testing.T, target Target, o Options, x Case, block []byte) Result {
	const tries = 3
	for try := 1; ; try++ {
		r := runCase(t, target, o, x, block)
		if o.Strict && !r.hasVerdict() && try < tries {
			t.Logf("again, as the machine fell behind by %v of %v: %s", r.behind.Round(time.Millisecond), r.Took.Round(time.Millisecond), r.Reason)
			continue
		}
		switch {
		case r.Outcome == Failed && o.Strict:
			t.Errorf("%s: %s", target.Name(), r.Reason)
		case r.Outcome == Failed:
			t.Logf("%s fails: %s", target.Name(), r.Reason)
		case r.Outcome == Skipped:
			t.Logf("skipped: %s", r.Reason)
		}
		return r
	}
}

// runCase runs one case in a goroutine of its own, so that a stuck case ends at its
// limit.
func runCase(t *testing.T, target Target, o Options, x Case, block []byte) Result {
	limit := x.Limit
	if limit == 0 {
		limit = 90 * time.Second
	}
	if o.Instrumented {
		limit *= 2
	}
	c := &C{t: t, o: o, target: target, block: block, seed: cmp.Or(o.Seed, rand.Uint64())}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	start := time.Now()
	done := make(chan struct{})
	if o.Strict {
		c.stopwatch() // begins to measure how the machine falls behind
	}
	go func() {
		defer close(done)
		defer c.cleanup()
		defer c.inspect()
		x.Run(c)
	}()

	select {
	case <-done:
	case <-time.After(limit):
		c.mu.Lock()
		step := c.step
		c.mu.Unlock()
		c.Errorf("not done after %v; waiting for: %s", limit, step)
		c.Logf("%s", stacks())
		c.closeAll()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			// The goroutine cannot be stopped; the test must not end well.
			t.Errorf("the case does not end though everything it opened is closed\n%s", stacks())
			runtime.Goexit()
		}
	}

	if c.outcome == Failed {
		t.Logf("seed %d", c.seed)
		for _, p := range c.proxies {
			t.Logf("output of the proxy:\n%s", p.Tail(4000))
		}
	}
	behind, stall := c.pulse.total()
	return Result{Case: x, Outcome: c.outcome, Reason: c.reason, Took: time.Since(start), behind: behind, stall: stall}
}
