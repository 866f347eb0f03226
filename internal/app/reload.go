package app

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/configfile"
	"usher/internal/control"
)

// fileState is how the last readings of the config file ended. It is immutable.
type fileState struct {
	Taken     time.Time // the last time that it was
	IsRefused bool      // it was read again since, and refused
}

// errNoFile is the error of a reload without a file.
var errNoFile = errors.New("there is no config file to reload: this usher was started without --config FILE")

// Reload reads the config file anew and makes its services those of the file. After an error nothing has changed; it has
// the place in the file. Reloads wait for each other.
func (r *running) Reload(ctx context.Context) error { return r.reloadAndLog(ctx, zap.InfoLevel) }

// reloadAndLog is Reload with the level at which a success is logged.
func (r *running) reloadAndLog(ctx context.Context, level zapcore.Level) error {
	if r.begin.File == "" {
		return errNoFile
	}
	select {
	case r.reloading <- struct{}{}:
		defer func() { <-r.reloading }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	r.noticeReload()
	defer r.noticeReady()
	err := r.reload(ctx)
	if err != nil {
		r.file.Store(&fileState{Taken: r.file.Load().Taken, IsRefused: true})
		r.control.Publish(api.Event{Time: time.Now(), Event: "reload", To: "refused", Reason: summary(err)})
		r.log.Error("reload failed, nothing has changed", zap.String("file", r.begin.File), zap.Error(err))
		return err
	}
	r.file.Store(&fileState{Taken: time.Now()})
	r.control.Publish(api.Event{Time: time.Now(), Event: "reload", To: "done"})
	r.log.Log(level, "reloaded", zap.String("file", r.begin.File))
	return nil
}

// summary is an error in one line.
func summary(err error) string {
	if e, ok := errors.AsType[*configfile.Error](err); ok {
		return e.Summary()
	}
	return err.Error()
}

func (r *running) reload(ctx context.Context) error {
	before := r.settings.file
	file, err := configfile.Load(r.begin.File, before)
	if err != nil {
		return err
	}
	process, err := r.begin.process(file)
	if err != nil {
		return inFile(file, err)
	}
	if isLargeChange(before, file) {
		collectAt(largeChangeGCPercent)
		defer collectAt(gcPercent)
	}
	if err := r.control.Replace(ctx, control.File, partOf(file)); err != nil {
		return inFile(file, err)
	}
	r.adopt(settings{file, process})
	file.Reuse(before)
	return nil
}

// partOf is what a file gives.
func partOf(file *configfile.File) control.Part {
	return control.Part{Services: file.Services, Rules: file.Rules}
}

// isLargeChange reports whether more than a quarter of a file's services are not as and where they were; before may be nil.
func isLargeChange(before, now *configfile.File) bool {
	var old []*config.Service
	if before != nil {
		old = before.Services
	}
	changed := 0
	for i, s := range now.Services {
		if i >= len(old) || old[i] != s {
			changed++
		}
	}
	return changed > len(now.Services)/4
}

// followFile reloads the file after each hangup, and with --watch-config when it changes, until ctx ends.
func (r *running) followFile(ctx context.Context) {
	changes := make(chan struct{}, 1)
	if r.settings.process.WatchConfig {
		watcher := configfile.NewWatcher(r.begin.File)
		defer watcher.Close()
		var watching sync.WaitGroup
		defer watching.Wait()
		_ = r.reloadAndLog(ctx, zap.DebugLevel) // it may have changed before it was watched
		watching.Go(func() {
			watcher.Run(ctx, func() {
				select {
				case changes <- struct{}{}:
				default: // one that is about to be read
				}
			})
		})
	}
	for {
		select {
		case <-r.stop.hangups:
		case <-changes:
		case <-ctx.Done():
			return
		}
		_ = r.Reload(ctx) // it is logged
	}
}

// inFile adds to an error of a file's services its place in the file, where it has one; file may be nil.
func inFile(file *configfile.File, err error) error {
	if file == nil {
		return err
	}
	cause := err
	conflict, ok := errors.AsType[*control.ConflictError](err)
	if ok && conflict.Err == nil {
		cause = config.TwoServices(conflict.Service)
	}
	located, hasPlace := errors.AsType[*configfile.Error](file.Locate(cause))
	if !hasPlace {
		return err
	}
	if ok {
		located.Reason = conflict.Error() // which says whose the other service is
	}
	return located
}
