package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"usher/internal/control"
	"usher/internal/metrics"
)

// Source keeps the services of an owner of its own as the world outside wants them, such as an API server.
//
//	start: Run ─ synced ─ clients come      upgrade: Settings ─ Env.Sources ─ Run, while the services of before stand
type Source interface {
	// Name is that of its constructor in Env.Sources, and by default that of the instance.
	Name() string
	// Run keeps the services until ctx ends. It calls synced itself when the first ones are there; clients are served from
	// then on. An error before that is one of the start. After it the error is logged, the services stay as they are, and
	// Run is called again.
	Run(ctx context.Context, h SourceHost, synced func()) error
	// Settings returns what its constructor makes an equal Source of.
	Settings() ([]byte, error)
}

// SourceHost is what a Source finds around itself.
type SourceHost struct {
	Control *control.Controller
	Process func() metrics.Process // what is measured of this process
	Log     *zap.Logger
	Version string // of the program
}

// sourceRun is a Source that runs. The zero value is none.
type sourceRun struct {
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // once ended is closed
	synced chan struct{}
}

// Pauses before a source whose run has ended with an error runs again.
const (
	sourcePause     = time.Second
	sourcePauseMost = time.Minute
)

// runSource has the source of a run begin, if there is one. A restored run has services already, so an error does not end it.
func (r *running) runSource(ctx context.Context, isRestored bool) {
	if r.begin.Source == nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &sourceRun{cancel: cancel, ended: make(chan struct{}), synced: make(chan struct{})}
	r.source = s
	r.loops.Go(func() {
		defer close(s.ended)
		defer cancel()
		s.err = r.keepSource(ctx, s, isRestored)
	})
}

// keepSource runs the source until ctx ends, and again after an error: its services stay as they are in the meantime. It
// returns the error of a first run that had no services.
func (r *running) keepSource(ctx context.Context, s *sourceRun, hasServices bool) error {
	host := SourceHost{Control: r.control, Process: r.metrics, Log: r.log.Logger, Version: r.env.Version}
	synced := func() {
		if !hasServices {
			hasServices = true
			close(s.synced)
		}
	}
	logged := ""
	for pause := sourcePause; ; pause = min(2*pause, sourcePauseMost) {
		began := time.Now()
		err := r.begin.Source.Run(ctx, host, synced)
		if err == nil || ctx.Err() != nil || !hasServices {
			return err
		}
		if time.Since(began) > sourcePauseMost { // it went well for long
			pause, logged = sourcePause, ""
		}
		if err.Error() != logged {
			logged = err.Error()
			r.log.Error("source ended, its services stay as they are and usher tries again", zap.String("source", r.begin.Source.Name()), zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// awaitSource waits for the first services of the source. An error of the source is one of the start.
func (r *running) awaitSource(ctx context.Context) error {
	if r.source == nil {
		return nil
	}
	select {
	case <-r.source.synced:
		return nil
	case <-r.source.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if r.source.err != nil {
		return r.source.err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%s ended before it had services", r.begin.Source.Name())
}

// endSource ends the source, and waits for it.
func (r *running) endSource() {
	if r.source != nil {
		r.source.cancel()
		<-r.source.ended
	}
}

// sourceOf returns the source of a state; nil: it has none.
func (e *Env) sourceOf(st *state) (Source, error) {
	if st.Source == "" {
		return nil, nil
	}
	restore, is := e.Sources[st.Source]
	if !is {
		return nil, errors.New("this binary has no usher " + st.Source)
	}
	source, err := restore(st.SourceSettings)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", st.Source, err)
	}
	return source, nil
}

// storeSource puts the source into a state.
func (r *running) storeSource(st *state) (err error) {
	if r.begin.Source == nil {
		return nil
	}
	st.Source = r.begin.Source.Name()
	st.SourceSettings, err = r.begin.Source.Settings()
	return err
}
