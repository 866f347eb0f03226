//go:build linux

package conformance

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// C is the run of one case against one target. Fatalf, Skipf and their callers (Must,
// Start, Pair, …) belong to the goroutine of the case. Other goroutines return errors.
// C closes everything that it opened.
type C struct {
	t      *testing.T
	o      Options
	target Target
	block  []byte // see Stream
	seed   uint64
	ctx    context.Context
	cancel context.CancelFunc

	buffers sync.Pool // of *[maxDatagram + 1]byte, for a read each

	keepPulse sync.Once
	pulse     pulse

	mu       sync.Mutex
	step     string
	outcome  Outcome
	reason   string
	closers  []io.Closer
	cleanups []func()
	proxies  []*Proxy
}

// Step says what the case waits for next; a deadline names it.
func (c *C) Step(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.step = fmt.Sprintf(format, args...)
}

// Logf writes to the log of the test.
func (c *C) Logf(format string, args ...any) { c.t.Logf(format, args...) }

// Errorf records a failure and goes on. Any goroutine may call it; the first
// reason is kept.
func (c *C) Errorf(format string, args ...any) {
	c.decide(Failed, fmt.Sprintf(format, args...))
}

// Fatalf records a failure and ends the case.
func (c *C) Fatalf(format string, args ...any) {
	c.Errorf(format, args...)
	runtime.Goexit()
}

// Skipf ends the case without a verdict.
func (c *C) Skipf(format string, args ...any) {
	c.decide(Skipped, fmt.Sprintf(format, args...))
	runtime.Goexit()
}

// Must ends the case when err is not nil.
func (c *C) Must(err error) {
	if err != nil {
		c.Fatalf("%v", err)
	}
}

func (c *C) decide(o Outcome, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.outcome != Passed {
		return
	}
	c.outcome, c.reason = o, reason
}

// hasFailed reports whether a failure has been recorded.
func (c *C) hasFailed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.outcome == Failed
}

// Size returns the full size of a load, or the short one where the run is to
// be light.
func (c *C) Size(full, short int) int {
	if c.o.Short {
		return short
	}
	return full
}

// patience is how long a step may go without progress.
func (c *C) patience() time.Duration {
	switch {
	case c.o.Patience > 0:
		return c.o.Patience
	case c.o.Instrumented:
		return 40 * time.Second
	}
	return 20 * time.Second
}

// within is how long to wait for what is due after d on a machine at rest.
func (c *C) within(d time.Duration) time.Duration { return d + c.patience() }

// keeps ends the case without a verdict if the time since used comes close to idle.
// The machine is too slow then to use the flow again in time.
func (c *C) keeps(used time.Time, idle time.Duration) {
	if silent := time.Since(used); silent > idle*3/4 {
		c.Skipf("this machine is too slow: what ends after %v of silence was silent for %v", idle, silent.Round(time.Millisecond))
	}
}

// mustWithin is Must for the use of a flow that ends after so much silence. A machine
// that is too slow for that gives no verdict.
func (c *C) mustWithin(idle time.Duration, used time.Time, err error) {
	if err != nil {
		c.keeps(used, idle)
	}
	c.Must(err)
}

// Rand returns the n-th random source of the case. The seed of a case that
// failed is in its log.
func (c *C) Rand(n int) *rand.Rand { return rand.New(rand.NewPCG(c.seed, uint64(n))) }

// Cleanup calls f when the case has ended, last registered first.
func (c *C) Cleanup(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cleanups = append(c.cleanups, f)
}

// own closes x at the end of the case, or now if the case has been given up.
func (c *C) own(x io.Closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		x.Close()
		return
	}
	c.closers = append(c.closers, x)
}

// closeAll ends every wait of the case by closing what it waits on.
func (c *C) closeAll() {
	c.mu.Lock()
	c.cancel()
	closers := c.closers
	c.closers = nil
	c.mu.Unlock()
	for _, x := range slices.Backward(closers) {
		x.Close()
	}
}

func (c *C) cleanup() {
	c.closeAll()
	for {
		c.mu.Lock()
		n := len(c.cleanups)
		if n == 0 {
			c.mu.Unlock()
			return
		}
		f := c.cleanups[n-1]
		c.cleanups = c.cleanups[:n-1]
		c.mu.Unlock()
		f()
	}
}

// TempDir returns a directory that any user may enter and write: a proxy may run as
// another user. Its name is short because the path of a unix socket holds 107 bytes.
func (c *C) TempDir() string {
	dir, err := os.MkdirTemp("", "conf")
	if err == nil {
		err = os.Chmod(dir, 0o777)
	}
	c.Must(err)
	c.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Wait polls until done, and fails the case when that takes longer than within. It
// polls less often after the first moments and when a poll takes long. Otherwise the
// polls would load the machine that they watch.
func (c *C) Wait(within time.Duration, what string, done func() bool) {
	const often, seldom, waited = 5 * time.Millisecond, 50 * time.Millisecond, 20
	c.Step("%s", what)
	begun := time.Now()
	for end := begun.Add(within); ; {
		start := time.Now()
		if done() {
			return
		}
		if start.After(end) {
			c.Fatalf("waited %v for %s", within, what)
		}
		c.Sleep(min(max(often, 4*time.Since(start), start.Sub(begun)/waited), seldom))
	}
}

// Sleep lets time pass as a part of the case (a late reply, a silence). It ends early
// when the case is given up.
func (c *C) Sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-c.ctx.Done():
		runtime.Goexit()
	}
}

// WaitStill waits until counter has not moved for a while and returns it. The while is
// longer on a busy machine, which may only pause.
func (c *C) WaitStill(what string, counter func() int64) int64 {
	const still = 300 * time.Millisecond
	last, since := counter(), c.stopwatch()
	c.Wait(2*c.patience(), what, func() bool {
		if n := counter(); n != last {
			last, since = n, c.stopwatch()
		}
		return since.fair() > still
	})
	return last
}

// Begin runs f beside the case; the function that it returns waits for f.
func (c *C) Begin(f func() error) (wait func() error) {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return func() error { return <-done }
}

// Together runs all fs at once and fails the case with the first error.
func (c *C) Together(fs ...func() error) {
	c.Each(len(fs), func(i int) error { return fs[i]() })
}

// Each runs f(0) to f(n-1) at once and fails the case with the first error.
func (c *C) Each(n int, f func(i int) error) {
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- f(i) }()
	}
	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	c.Must(first)
}

// stacks returns the goroutines that are inside this package, for a case that
// hangs.
func stacks() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var ours []string
	for g := range strings.SplitSeq(string(buf), "\n\n") {
		if strings.Contains(g, "conformance.(*") && len(ours) < 16 {
			ours = append(ours, g)
		}
	}
	return strings.Join(ours, "\n\n")
}
