// Package app is the process of a running usher: it starts what a command line and a file ask for, follows signals,
// reloads the file, and ends in order. What serves clients is in package control.
//
//	Run ─ settings (file, flags) ─ start ─▶ running ─ Reload ◀── SIGHUP, watched file, API
//	Successor ─ state ─ restore ──────────▶    ├───── Upgrade ◀─ SIGUSR2, API
//	                                           └───── end  ◀──── SIGINT, SIGTERM, API
package app

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"usher/internal/admin"
	"usher/internal/config"
	"usher/internal/configfile"
	"usher/internal/control"
	"usher/internal/dialect"
	"usher/internal/discovery"
	"usher/internal/figures"
	"usher/internal/terminal"
	"usher/proxy"
)

// Env is the environment of a run.
type Env struct {
	Stdout, Stderr io.Writer          // logs go to Stderr; Run never waits for either
	Names          discovery.Resolver // the zero value is the machine's own
	Version        string             // of the program
	// Sources make those of a state, by their names.
	Sources map[string]func(settings []byte) (Source, error)
}

// Start is what a run begins with.
type Start struct {
	Services []*config.Service   // of the command line
	Rules    *config.Rules       // the same
	Options  []configfile.Option // of the process, of the command line: they stand above those of the file
	File     string              // the path of the config file; empty: there is none
	Source   Source              // of further services; nil: there is none
}

// Run serves until a signal or the end of ctx, drains, and returns nil. A second signal cuts the remaining flows. An
// error means that the start failed and that nothing is left running.
func Run(ctx context.Context, begin Start, env Env) error {
	collectAt(gcPercent)
	inherited, err := inheritedSockets()
	if err != nil {
		return err
	}
	settings, err := begin.settings()
	if err != nil {
		return err
	}
	return host(ctx, settings.process, env, func(h hosted) (*running, error) {
		h.stop = watchSignals(h.ctx, begin.File != "", signal.Ignored(syscall.SIGHUP))
		run := newRunning(begin, settings, h.log, h.stop, env)
		run.out, run.inherited = h.out, inherited
		err := startOrCut(h.stop, func() error { return run.start(h.stop.drain) })
		if err != nil && h.stop.drain.Err() != nil {
			err = nil // ended before the start was done
		}
		return run, err
	})
}

// hosted is what a run finds around itself.
type hosted struct {
	ctx  context.Context // ends when nobody reads stdout any more
	log  *logger
	out  *asyncWriter // of log
	stop *stopper
}

// host has start begin a run, and returns when that has ended.
func host(ctx context.Context, p config.Process, env Env, start func(hosted) (*running, error)) error {
	// A log reader that closes must not end the service.
	defer ignorePipe()()
	log, out := openLog(p, env.Stderr)
	defer out.close()
	// net/http reports servers that break its rules to the standard logger. A backend under checks may do so at will.
	if restore, err := zap.RedirectStdLogAt(log.Logger, zap.DebugLevel); err == nil {
		defer restore()
	}
	ctx, release := whileRead(ctx, env.Stdout, log.Logger)
	defer release()
	run, err := start(hosted{ctx: ctx, log: log, out: out})
	defer run.stop.release()
	if err != nil || !run.serving.Load() {
		return err
	}
	<-run.stop.drain.Done()
	run.end(run.stop.cut)
	return nil
}

// gcPercent is how much the heap grows between two collections. Most of it is what services and their backends are, and
// little is allocated once they run. While many services change, both plans are in memory.
const (
	gcPercent            = 20
	largeChangeGCPercent = 10
)

// collectAt sets how much the heap grows between two collections, unless GOGC does.
func collectAt(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// cutStart is how long a start may take to end after the second signal.
const cutStart = time.Second

// startOrCut returns what start returns. After the second signal it waits for cutStart alone: a start that hangs must
// not keep the process alive.
func startOrCut(stop *stopper, start func() error) error {
	done := make(chan error, 1)
	go func() { done <- start() }()
	select {
	case err := <-done:
		return err
	case <-stop.cut.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(cutStart):
		return context.Cause(stop.cut)
	}
}

// running is one run.
type running struct {
	env      Env
	begin    Start
	log      *logger
	out      *asyncWriter // of log
	stop     *stopper
	terminal bool // a person waits for the end
	began    time.Time

	inherited []proxy.Inherited // of a service manager

	upgrading sync.Mutex // held by the one upgrade that is under way
	upgraded  upgrades

	reloading chan struct{} // has room for the one reload that is under way, which alone writes settings
	settings  settings
	file      atomic.Pointer[fileState] // nil: there is no file

	control  *control.Controller
	dialects *dialect.Server
	name     string        // by which commands find it
	adminAt  string        // the admin address; empty: there is none
	socket   *admin.Server // the control socket; nil: there is none
	admin    *admin.Server // the admin address; nil: there is none
	serving  atomic.Bool
	drops    *dropReporter
	source   *sourceRun // nil: there is none
	proc     procRun
	loops    sync.WaitGroup
}

func newRunning(begin Start, s settings, log *logger, stop *stopper, env Env) *running {
	return &running{
		env: env, begin: begin, settings: s, log: log, stop: stop, terminal: terminal.Is(env.Stderr), began: time.Now(),
		reloading: make(chan struct{}, 1),
	}
}

// start starts everything. It binds sockets first, because users wait for that answer. The source of further services,
// names and one round of health checks follow, and clients come last. If ctx ends before that, start ends too.
func (r *running) start(ctx context.Context) error {
	c, err := control.New(r.controlOptions())
	if err != nil {
		return err
	}
	r.control, r.dialects = c, dialect.New(c)
	err = c.Replace(ctx, control.Flags, control.Part{Services: r.begin.Services, Rules: r.begin.Rules})
	if file := r.settings.file; err == nil && file != nil {
		err = inFile(file, c.Replace(ctx, control.File, partOf(file)))
		r.file.Store(&fileState{Taken: time.Now()})
	}
	if err = r.checkInherited(err); err == nil {
		err = r.openAPI()
	}
	r.drops = newDropReporter(c.Server().Services, r.log.Logger)
	if err == nil {
		r.runSource(r.stop.drain, false)
		err = r.awaitSource(ctx)
	}
	if err == nil {
		err = c.Start(ctx)
	}
	if err != nil {
		r.endSource()
		r.close()
		return err
	}
	r.logServing()
	r.follow()
	return nil
}

func (r *running) controlOptions() control.Options {
	return control.Options{
		Log: r.log.Logger, Process: r.settings.withDrain(r.terminal), Names: r.env.Names, File: r.begin.File,
		Inherited: r.inherited, Version: r.env.Version, IsBrief: r.log.isConsole,
	}
}

// follow begins with what accompanies a run that serves.
func (r *running) follow() {
	r.serving.Store(true)
	r.followProc()
	r.noticeReady()
	r.loops.Go(func() { r.followFile(r.stop.drain) })
	r.loops.Go(func() { r.followUpgrades(r.stop.drain) })
}

// end drains until the drain timeout or the end of cut, and stops everything.
func (r *running) end(cut context.Context) {
	r.loops.Wait()
	r.noticeEnd()
	process := r.control.Process()
	timeout := config.Delay(process.DrainTimeout)
	ctx, cancel := context.WithTimeoutCause(cut, process.DrainTimeout, fmt.Errorf("drain-timeout %s passed", timeout))
	defer cancel()
	r.logDrain(timeout, r.terminal && process.LogFormat != "json" && process.DrainTimeout > 0)
	if err := r.control.Shutdown(ctx); err != nil {
		r.log.Warn("flows cut", zap.Error(err))
	}
	r.close()
	r.log.Info("stopped")
}

// close ends what is left.
func (r *running) close() {
	r.closeProc()
	r.closeAPI()
	r.drops.close()
	r.control.Close()
}

// logDrain logs what the end waits for. A user who pressed Ctrl-C reads a sentence, with the next step.
func (r *running) logDrain(timeout string, watched bool) {
	flows := r.control.Server().Open()
	if !watched || flows == 0 {
		r.log.Info("draining", zap.Int("flows", flows), zap.String("drain-timeout", timeout))
		return
	}
	r.log.Info(fmt.Sprintf("draining %s for up to %s; Ctrl-C again ends at once", figures.Count(flows, "flow"), timeout))
}
