package app

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// stopper turns signals into the ends of two contexts. The first SIGINT, SIGTERM or SIGHUP ends drain. The second SIGINT
// or SIGTERM ends cut. A terminal that closes may send SIGHUP twice, by the kernel and by the shell. From then on the
// signals have their default action, so that no fault of usher keeps a process alive. With a config file SIGHUP means a
// reload instead.
type stopper struct {
	drain, cut  context.Context
	cancelDrain context.CancelFunc
	cancel      context.CancelCauseFunc
	hangups     chan os.Signal // of a run with a file; has room for one, as many mean no more
	upgrades    chan os.Signal // SIGUSR2, where the system has it; likewise
	signals     chan os.Signal // that end it
	watch       sync.WaitGroup

	reloads, ignoresHangup bool // at SIGHUP; without either it ends
}

// watchSignals catches signals until release is called. The end of ctx counts as the first signal. Without a file a
// SIGHUP that was ignored when the process started, as nohup does, stays ignored.
func watchSignals(ctx context.Context, hasFile, ignoresHangup bool) *stopper {
	s := &stopper{
		signals: make(chan os.Signal, 2), hangups: make(chan os.Signal, 1), upgrades: make(chan os.Signal, 1),
		reloads: hasFile, ignoresHangup: ignoresHangup && !hasFile,
	}
	signal.Notify(s.signals, os.Interrupt, syscall.SIGTERM)
	s.catch()
	s.cut, s.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	s.drain, s.cancelDrain = context.WithCancel(ctx)
	s.watch.Go(func() {
		defer signal.Stop(s.signals)
		select {
		case <-s.signals:
		case <-s.drain.Done():
		case <-s.cut.Done():
		}
		s.cancelDrain()
		for sig := os.Signal(syscall.SIGHUP); sig == syscall.SIGHUP; {
			select {
			case sig = <-s.signals:
			case <-s.cut.Done():
				return
			}
		}
		s.cancel(errors.New("second signal"))
	})
	return s
}

// catch catches the signals that an image after this one ignores at first.
func (s *stopper) catch() {
	switch {
	case s.reloads:
		signal.Notify(s.hangups, syscall.SIGHUP)
	case !s.ignoresHangup:
		signal.Notify(s.signals, syscall.SIGHUP)
	}
	if upgradeSignal != nil {
		signal.Notify(s.upgrades, upgradeSignal)
	}
}

// stop has the effect of a signal, with now that of a second one.
func (s *stopper) stop(now bool) {
	s.cancelDrain()
	if now {
		s.cancel(errors.New("stopped at once"))
	}
}

// release stops catching signals.
func (s *stopper) release() {
	signal.Stop(s.hangups)
	signal.Stop(s.upgrades)
	s.cancel(nil)
	s.watch.Wait()
}

// ignorePipe keeps SIGPIPE from ending the process until restore is called. A write to a closed pipe then only fails.
// SIGPIPE is caught, not ignored, because programs that usher runs would inherit that. A loop that writes to "head -1"
// would never end.
func ignorePipe() (restore func()) {
	unread := make(chan os.Signal, 1)
	signal.Notify(unread, syscall.SIGPIPE)
	return func() { signal.Stop(unread) }
}
