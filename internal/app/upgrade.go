package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"

	"usher/health"
	"usher/internal/admin"
	"usher/internal/api"
	"usher/internal/control"
	"usher/internal/upgrade"
)

// Bounds of an upgrade.
const (
	askMost   = 10 * time.Second       // for the child's answer
	lastLines = 200 * time.Millisecond // for the log's reader, before flows wait
	lastLine  = 20 * time.Millisecond  // the same, while they wait
)

// upgrades is what was done up to now.
type upgrades struct {
	done    int
	failure string // of the last one, if another image had taken over and has come back
}

var errUpgrading = errors.New("an upgrade is under way already")

// followUpgrades upgrades after each SIGUSR2, until ctx ends.
func (r *running) followUpgrades(ctx context.Context) {
	for {
		select {
		case <-r.stop.upgrades:
			_ = process{r}.Upgrade(ctx, "") // it is logged
		case <-ctx.Done():
			return
		}
	}
}

// Upgrade replaces this image by a binary, "" for what stands at the path of its own. It returns only an error, and then
// nothing has changed.
func (p process) Upgrade(ctx context.Context, binary string) error {
	err := p.upgrade(ctx, binary)
	p.control.Publish(api.Event{Time: time.Now(), Event: "upgrade", To: "refused", Reason: err.Error()})
	p.log.Error("upgrade failed, nothing has changed", zap.Error(err))
	return err
}

func (r *running) upgrade(ctx context.Context, path string) error {
	if !r.upgrading.TryLock() {
		return errUpgrading
	}
	defer r.upgrading.Unlock()
	if err := (process{r}).Ready(); err != nil {
		return err
	}
	select {
	case r.reloading <- struct{}{}:
		defer func() { <-r.reloading }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := r.dialects.Suspend(ctx); err != nil {
		return err
	}
	defer r.dialects.Resume()
	if path == "" {
		var err error
		if path, err = os.Executable(); err != nil {
			return err
		}
	}
	binary, err := upgrade.Open(path)
	if err != nil {
		return err
	}
	defer binary.Close()
	version, err := r.ask(ctx, binary)
	if err != nil {
		return err
	}
	self, err := upgrade.Self()
	if err != nil {
		return err
	}
	defer self.Close()
	r.log.Info("upgrading", zap.String("from", r.env.Version), zap.String("to", version), zap.String("binary", path))
	return r.replace(ctx, binary, self)
}

// ask has the binary look at the state of now, for which flows stop for a moment.
func (r *running) ask(ctx context.Context, binary *upgrade.Binary) (version string, err error) {
	st, err := r.control.Suspend(ctx)
	if err != nil {
		return "", err
	}
	r.control.CancelSuspend()
	memfd, err := r.store(st, handles{}, 0)
	if err != nil {
		return "", err
	}
	defer memfd.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, askMost, fmt.Errorf("%s passed", askMost))
	defer cancel()
	return binary.Ask(ctx, memfd)
}

// handles are the API's listeners for another image.
type handles struct{ socket, admin *os.File }

// store writes a state.
func (r *running) store(c *control.State, h handles, suspended time.Duration) (*os.File, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	st := state{
		Version: r.env.Version, Executable: executable, Began: r.began, Upgrades: r.upgraded.done, Suspended: suspended,
		File: r.begin.File, Options: r.begin.Options, Process: options(&r.settings.process),
		IgnoresHangup: r.stop.ignoresHangup, Hangup: len(r.stop.hangups) > 0,
		Socket: descriptor(h.socket), Admin: descriptor(h.admin), Control: c, Dialects: r.dialects.State(),
	}
	if f := r.file.Load(); f != nil {
		st.FileState = *f
	}
	if err := r.storeSource(&st); err != nil {
		return nil, err
	}
	text, err := st.encode()
	if err != nil {
		return nil, err
	}
	return upgrade.Store(text)
}

// replace stops everything and executes the binary. What was stopped goes on after an error.
func (r *running) replace(ctx context.Context, binary, self *upgrade.Binary) error {
	defer health.SuspendPrograms()()
	var h handles
	for _, l := range []struct {
		server *admin.Server
		file   **os.File
	}{{r.socket, &h.socket}, {r.admin, &h.admin}} {
		if l.server == nil {
			continue
		}
		var err error
		if *l.file, err = l.server.Listener().File(); err != nil {
			return err
		}
		defer (*l.file).Close()
		l.server.Listener().Pause()
		defer l.server.Listener().Resume()
	}
	r.drops.now()
	r.out.flush(lastLines)
	began := upgrade.Clock()
	st, err := r.control.Suspend(ctx)
	if err != nil {
		return err
	}
	defer r.control.CancelSuspend()
	memfd, err := r.store(st, h, began)
	if err != nil {
		return err
	}
	defer memfd.Close()
	keep := st.Descriptors()
	for _, f := range []*os.File{h.socket, h.admin} {
		if f != nil {
			keep = append(keep, descriptor(f))
		}
	}
	r.out.flush(lastLine)
	if err := (process{r}).Ready(); err != nil { // somebody ends it meanwhile
		return err
	}
	defer r.stop.ignore()()
	return binary.Exec(upgrade.Handover{State: memfd, Keep: keep}, self)
}

// descriptor returns the number of an open file, and leaves its mode alone; 0: there is no file.
func descriptor(f *os.File) (fd int) {
	if f == nil {
		return 0
	}
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(n uintptr) { fd = int(n) })
	}
	return fd
}

// ignore has the signals ignored that would end a process image which does not catch them yet. back catches them again.
func (s *stopper) ignore() (back func()) {
	signal.Ignore(syscall.SIGHUP)
	if upgradeSignal != nil {
		signal.Ignore(upgradeSignal)
	}
	return s.catch
}
