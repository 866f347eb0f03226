package app

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// stopper turns signals into the ends of two contexts: the first SIGINT or SIGTERM ends drain, the second ends cut.
// From the third on the signals have their default action, so that no fault of ours keeps a process alive.
type stopper struct {
	drain, cut context.Context
	cancel     context.CancelFunc
	watch      sync.WaitGroup
}

// watchSignals begins to catch signals until release is called. The end of ctx counts as the first signal.
func watchSignals(ctx context.Context) *stopper {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	s := &stopper{}
	var cancelDrain context.CancelFunc
	s.cut, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.drain, cancelDrain = context.WithCancel(ctx)
	s.watch.Go(func() {
		defer signal.Stop(signals)
		select {
		case <-signals:
		case <-s.drain.Done():
		case <-s.cut.Done():
		}
		cancelDrain()
		select {
		case <-signals:
			s.cancel()
		case <-s.cut.Done():
		}
	})
	return s
}

// release stops catching signals.
func (s *stopper) release() {
	s.cancel()
	s.watch.Wait()
}
