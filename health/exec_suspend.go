package health

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// programs are all that checks run in this process.
var programs = newProgramGate()

// programGate lets programs begin, but while they are suspended.
type programGate struct {
	mu        sync.Mutex
	suspended bool
	resume    chan struct{}   // closed at the end of the next suspension
	run       context.Context // of programs that may run; ends when they are suspended
	kill      context.CancelCauseFunc
	count     int       // of programs that run
	ended     sync.Cond // signals count
}

func newProgramGate() *programGate {
	g := &programGate{resume: make(chan struct{})}
	g.ended.L = &g.mu
	g.run, g.kill = context.WithCancelCause(context.Background())
	return g
}

var errSuspended = errors.New("programs of checks were suspended")

// SuspendPrograms kills and reaps all programs of checks, and has others wait until resume is called. A process that
// executes another image leaves no children behind then. Calls do not overlap.
func SuspendPrograms() (resume func()) {
	g := programs
	g.mu.Lock()
	defer g.mu.Unlock()
	g.suspended = true
	g.kill(errSuspended)
	for g.count > 0 {
		g.ended.Wait()
	}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.suspended = false
		close(g.resume)
		g.resume = make(chan struct{})
		g.run, g.kill = context.WithCancelCause(context.Background())
	}
}

// do runs a program as soon as programs may run. A check whose program was killed ends when they are resumed: if another
// image goes on, there is nobody to report to.
func (g *programGate) do(ctx context.Context, program func(context.Context) error) error {
	g.mu.Lock()
	for g.suspended {
		resume := g.resume
		g.mu.Unlock()
		select {
		case <-resume:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrInconclusive, errSuspended)
		}
		g.mu.Lock()
	}
	g.count++
	all, resume := g.run, g.resume
	g.mu.Unlock()

	own, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(all, func() { cancel(errSuspended) })()
	err := program(own)
	g.mu.Lock()
	g.count--
	g.ended.Broadcast()
	g.mu.Unlock()
	if err == nil || !errors.Is(context.Cause(own), errSuspended) {
		return err
	}
	select {
	case <-resume:
	case <-ctx.Done():
	}
	return fmt.Errorf("%w: %w", ErrInconclusive, errSuspended)
}
