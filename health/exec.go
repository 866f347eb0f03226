package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Exec checks a target with a program: exit status 0 is good. Make one with [NewExec].
//
// There is no shell; arguments are passed unchanged. Standard input is empty, standard
// output is dropped, and the first line of standard error is the reason of a failure.
// The program runs in the working directory of this process. It gets only these
// variables, so that no secret of this process's environment reaches it:
//
//	USHER_BACKEND          the target's address: 10.0.0.1:80, [::1]:80, /run/app.sock
//	USHER_BACKEND_HOST     10.0.0.1 or ::1; empty for a unix socket
//	USHER_BACKEND_PORT     80; empty for a unix socket
//	USHER_BACKEND_NETWORK  tcp, udp or unix
//	PATH, HOME             of this process when the check was made
//
// Windows adds SYSTEMROOT, which programs need to start.
//
// When the context of a check ends, or the program does, all processes in its process
// group are killed and reaped. A program that moves children to other groups, as
// daemons do, must end them itself. Without process groups, as on Windows, only the
// program is killed.
type Exec struct {
	path    string
	args    []string // the first is the program as it was called
	inherit []string // variables
}

const (
	// maxArgs, in bytes, is far below kernel limits, so that each valid check can start.
	maxArgs = 64 << 10
	// maxReason bounds the reason of a failure, in bytes.
	maxReason = 256
	// outputDelay is how long a check waits for processes outside of the group to close
	// standard error.
	outputDelay = 100 * time.Millisecond
)

// NewExec returns a check that runs args[0], which is looked up in PATH unless it has a
// slash. The error says why the program cannot run.
func NewExec(args []string) (*Exec, error) {
	if len(args) == 0 || args[0] == "" {
		return nil, errors.New("no program is named")
	}
	size := 0
	for _, arg := range args {
		if size += len(arg) + 1; strings.Contains(arg, "\x00") {
			return nil, fmt.Errorf("argument %.40q has a zero byte", arg)
		}
	}
	if size > maxArgs {
		return nil, fmt.Errorf("the arguments have %d bytes, more than %d", size, maxArgs)
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		var failed *exec.Error
		if errors.As(err, &failed) {
			err = withoutPath(failed.Err)
		}
		return nil, fmt.Errorf("program %.80q: %w", args[0], err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("program %.80q: %w", args[0], err)
	}
	c := &Exec{path: path, args: append([]string(nil), args...)}
	for _, name := range []string{"PATH", "HOME"} {
		if value, ok := os.LookupEnv(name); ok {
			c.inherit = append(c.inherit, name+"="+value)
		}
	}
	return c, nil
}

// Check runs the program once. If it cannot be started, because processes are short or
// the file is gone, the error wraps [ErrInconclusive]; so it does if it was suspended.
func (c *Exec) Check(ctx context.Context, t Target) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return programs.do(ctx, func(ctx context.Context) error { return c.run(ctx, t) })
}

func (c *Exec) run(ctx context.Context, t Target) error {
	var reason firstLine
	cmd := &exec.Cmd{Path: c.path, Args: c.args, Env: c.environment(t), Stderr: &reason, WaitDelay: outputDelay}
	err := runGroup(ctx, cmd)
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.Is(err, errNotStarted):
		return fmt.Errorf("%w: run %s: %w", ErrInconclusive, c.path, err)
	case ctx.Err() != nil:
		return fmt.Errorf("ask %s: %s was killed, not done in time%s", t.Address, c.args[0], &reason)
	case errors.As(err, &exit):
		return fmt.Errorf("ask %s: %s: %s%s", t.Address, c.args[0], exit.ProcessState, &reason)
	}
	return fmt.Errorf("ask %s: %s: %w", t.Address, c.args[0], err)
}

func (c *Exec) environment(t Target) []string {
	host, port, err := net.SplitHostPort(t.Address)
	if t.Network == "unix" || err != nil {
		host, port = "", ""
	}
	return append([]string{
		"USHER_BACKEND=" + t.Address,
		"USHER_BACKEND_HOST=" + host,
		"USHER_BACKEND_PORT=" + port,
		"USHER_BACKEND_NETWORK=" + t.Network,
	}, c.inherit...)
}

var errNotStarted = errors.New("not started")

// runGroup runs a program as the leader of a process group, and ends the whole group.
func runGroup(ctx context.Context, cmd *exec.Cmd) error {
	setGroup(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: %w", errNotStarted, withoutPath(err))
	}
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(killed)
		killGroup(cmd)
	})
	reaped, err := awaitExit(cmd)
	if !stop() {
		<-killed
	}
	killGroup(cmd)
	if !reaped {
		err = cmd.Wait()
	}
	reapGroup(cmd)
	return err
}

// firstLine keeps the beginning of the first line with a visible character.
type firstLine struct {
	held   []byte
	isFull bool
}

// Write never fails, since a program may exit when writing fails.
func (f *firstLine) Write(b []byte) (int, error) {
	n := len(b)
	if len(f.held) == 0 {
		b = bytes.TrimLeft(b, " \t\r\n")
	}
	if f.isFull {
		return n, nil
	}
	if end := bytes.IndexByte(b, '\n'); end >= 0 {
		b, f.isFull = b[:end], true
	}
	f.held = append(f.held, b[:min(len(b), maxReason-len(f.held))]...)
	f.isFull = f.isFull || len(f.held) == maxReason
	return n, nil
}

// String returns the line for the end of an error, empty if there is none.
func (f *firstLine) String() string {
	if len(f.held) == 0 {
		return ""
	}
	return ": " + sanitize(strings.ToValidUTF8(string(bytes.TrimSpace(f.held)), "?"))
}
