package app

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"

	"usher/internal/admin"
	"usher/internal/control"
	"usher/internal/dialect"
	"usher/internal/upgrade"
)

// restoreMost is how long an image may take to be able to go on. After that the one before goes on.
const restoreMost = 10 * time.Second

// restorePercent is the GC percent while a state is restored: most of what is read stays in use.
const restorePercent = 200

// Successor does what this image was started for by another one, and returns when that is done; is is false if it was
// started by anybody else. It is Run for a process that runs already: arguments are not read again.
func Successor(ctx context.Context, env Env) (is bool, err error) {
	start, err := upgrade.Inherited()
	switch {
	case err != nil:
		return true, err
	case start == nil:
		return false, nil
	case start.Role == upgrade.Check:
		return true, answer(start, env)
	}
	return true, succeed(ctx, start, env)
}

// answer says whether this image could go on.
func answer(start *upgrade.Start, env Env) error {
	st, err := readState(start)
	if err != nil {
		return err
	}
	s, err := st.settings()
	if err != nil {
		return err
	}
	if _, err := env.sourceOf(st); err != nil {
		return err
	}
	if err := st.Control.Check(control.Options{Log: zap.NewNop(), Process: s.process, Names: env.Names, File: st.File}); err != nil {
		return err
	}
	if err := st.Dialects.Check(); err != nil {
		return err
	}
	return upgrade.Answer(env.Stdout, env.Version)
}

func readState(start *upgrade.Start) (*state, error) {
	text, err := start.State()
	if err != nil {
		return nil, err
	}
	return decodeState(text)
}

// succeed goes on from a state. Until everything is there, an error or a panic executes the image before again, and so
// does a watchdog.
func succeed(ctx context.Context, start *upgrade.Start, env Env) error {
	collectAt(gcPercent)
	early := catchEarly()
	watchdog := time.AfterFunc(restoreMost, func() {
		fmt.Fprintf(env.Stderr, "usher: %v\n", goBack(start, fmt.Errorf("it could not go on within %s", restoreMost)))
		os.Exit(1)
	})
	st, s, source, err := readStart(start, env)
	if err != nil {
		watchdog.Stop()
		return goBack(start, err)
	}
	return host(ctx, s.process, env, func(h hosted) (*running, error) {
		defer debug.SetGCPercent(debug.SetGCPercent(restorePercent))
		h.stop = watchSignals(h.ctx, st.File != "", st.IgnoresHangup)
		early.release(st)
		run := newRunning(Start{Options: st.Options, File: st.File, Source: source}, s, h.log, h.stop, env)
		run.out = h.out
		listeners, err := run.restoreSafely(st)
		if !watchdog.Stop() {
			select {} // it is executing the image before
		}
		if err != nil {
			return run, goBack(start, err)
		}
		run.goOn(start, st, listeners)
		return run, nil
	})
}

// readStart returns the state, the options of the process in it, and its source.
func readStart(start *upgrade.Start, env Env) (st *state, s settings, source Source, err error) {
	defer recoverTo(&err)
	if st, err = readState(start); err == nil {
		s, err = st.settings()
	}
	if err == nil {
		source, err = env.sourceOf(st)
	}
	return st, s, source, err
}

// recoverTo makes an error of a panic, with the place where it began: the image before knows better.
func recoverTo(err *error) {
	p := recover()
	if p == nil {
		return
	}
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)]) // from the runtime's own on
	frame, more := frames.Next()
	for more && strings.HasPrefix(frame.Function, "runtime.") {
		frame, more = frames.Next()
	}
	*err = fmt.Errorf("panic: %v (%s, %s:%d)", p, frame.Function, filepath.Base(frame.File), frame.Line)
}

// goBack executes the image before. If that cannot be done, or if there is none, it returns why: nobody can go on.
func goBack(start *upgrade.Start, reason error) error {
	if start.Role == upgrade.Back {
		return fmt.Errorf("this usher could not go on as another binary (%s), nor by itself: %w", start.Reason, reason)
	}
	return fmt.Errorf("%w, and the binary before cannot be executed: %w", reason, start.Back(reason))
}

// earlySignals are caught before it is known what they mean.
type earlySignals chan os.Signal

func catchEarly() earlySignals {
	c := make(earlySignals, 4)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	return c
}

// release has others catch the signals, and sends this process again what has come.
func (c earlySignals) release(st *state) {
	signal.Stop(c)
	if st.IgnoresHangup && st.File == "" {
		signal.Ignore(syscall.SIGHUP)
	}
	self, err := os.FindProcess(os.Getpid())
	for err == nil && len(c) > 0 {
		err = self.Signal(<-c)
	}
}

// restored are the listeners of the API.
type restored struct{ socket, admin *admin.Listener }

// restoreSafely makes what the state says, and starts nothing.
func (r *running) restoreSafely(st *state) (l restored, err error) {
	defer recoverTo(&err)
	r.began, r.upgraded.done = st.Began, st.Upgrades
	if st.File != "" {
		r.file.Store(&st.FileState)
	}
	if l.socket, err = adopt(st.Socket); err != nil {
		return l, err
	}
	if l.admin, err = adopt(st.Admin); err != nil {
		return l, err
	}
	r.control, err = control.Restore(r.controlOptions(), st.Control)
	if err != nil {
		return l, err
	}
	r.dialects, err = dialect.Restore(r.control, st.Dialects)
	return l, err
}

// adopt makes a listener of an inherited descriptor, which stays open.
func adopt(fd int) (*admin.Listener, error) {
	if fd == 0 {
		return nil, nil
	}
	copied, err := upgrade.Duplicate(fd)
	if err != nil {
		return nil, err
	}
	return admin.Adopt(copied)
}

// goOn has everything move again.
func (r *running) goOn(start *upgrade.Start, st *state, l restored) {
	start.Keep(st.Control.Descriptors(), st.Socket, st.Admin)
	r.drops = newDropReporter(r.control.Server().Services, r.log.Logger)
	r.control.Continue(r.stop.drain)
	pause := upgrade.Clock() - st.Suspended
	upgrade.SetName(st.Executable)
	fields := []zap.Field{
		zap.Float64("pause_ms", float64(pause.Microseconds())/1000), zap.Int("flows", r.control.Server().Open()),
		zap.String("from", st.Version), zap.String("to", r.env.Version),
	}
	if start.Role == upgrade.Back {
		r.upgraded.failure = start.Reason
		r.log.Error("upgrade failed, the binary before goes on", append(fields[:2], zap.String("error", start.Reason))...)
	} else {
		r.upgraded.done++
		r.log.Info("upgraded", fields...)
	}
	if st.Hangup {
		r.stop.hangups <- syscall.SIGHUP
	}
	r.serveAPI(l.socket, l.admin)
	r.runSource(r.stop.drain, true) // the services of before stand until it has others
	r.follow()
}
