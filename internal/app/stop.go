package app

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// stopper turns signals into the ends of two contexts: the first SIGINT or SIGTERM ends drain, the second ends cut.
// From the third on the signals have their default action, so that no fault of ours keeps a process alive.
type stopper struct {
	drain, cut context.Context
	cancel     context.CancelCauseFunc
	watch      sync.WaitGroup
}

// watchSignals begins to catch signals until release is called. The end of ctx counts as the first signal. For each
// SIGHUP hangup is called; if it is nil, SIGHUP is a signal like the others.
func watchSignals(ctx context.Context, hangup func()) *stopper {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	s := &stopper{}
	var cancelDrain context.CancelFunc
	s.cut, s.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	s.drain, cancelDrain = context.WithCancel(ctx)
	s.watch.Go(func() {
		defer signal.Stop(signals)
		s.await(signals, hangup, s.drain.Done())
		cancelDrain()
		s.await(signals, hangup, nil)
		s.cancel(errors.New("second signal"))
	})
	return s
}

// await returns at a signal, at the end that is given, or when release is called.
func (s *stopper) await(signals <-chan os.Signal, hangup func(), end <-chan struct{}) {
	for {
		select {
		case sig := <-signals:
			if sig != syscall.SIGHUP || hangup == nil {
				return
			}
			hangup()
		case <-end:
			return
		case <-s.cut.Done():
			return
		}
	}
}

// release stops catching signals.
func (s *stopper) release() {
	s.cancel(nil)
	s.watch.Wait()
}

// ignorePipe keeps a reader of the output that goes away from ending the process, until the function that it returns is
// called: such writes fail as others do.
func ignorePipe() (restore func()) {
	signal.Ignore(syscall.SIGPIPE)
	return func() { signal.Reset(syscall.SIGPIPE) }
}
