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

// Exec checks a target by a program: exit status 0 is good. Make one with [NewExec].
//
// Arguments are passed as they are; there is no shell. The program's input is empty,
// its output is dropped, the first line that it writes to its error output is the
// reason of a failure. It runs in the working directory of this process, with these
// variables and no others, so that nothing secret of this process's environment gets
// to it:
//
//	USHER_BACKEND          the target's address: 10.0.0.1:80, [::1]:80, /run/app.sock
//	USHER_BACKEND_HOST     10.0.0.1 or ::1; empty for a unix socket
//	USHER_BACKEND_PORT     80; empty for a unix socket
//	USHER_BACKEND_NETWORK  tcp, udp or unix
//	PATH, HOME             as this process had them when the check was made
//
// Windows adds its SYSTEMROOT, which programs do not start without.
//
// The program has until the end of the context of a check. Then, and when it ends
// by itself, everything that it has started and that is still in its process group is
// killed and reaped. A program that moves its children to other groups (daemons do) has to
// care for them itself. On systems without process groups, Windows among them, the
// program alone is killed.
type Exec struct {
	path    string
	args    []string // of which the first is the program as it was called
	inherit []string
}

const (
	// maxArgs is far below what a kernel takes, so that a check that was made can
	// be started.
	maxArgs = 64 << 10
	// maxReason bounds what is held of a program's words.
	maxReason = 256
	// outputDelay is how long a check waits for somebody outside of the process
	// group to close the error output.
	outputDelay = 100 * time.Millisecond
)

// NewExec returns a check that runs args[0], which is looked up in PATH unless it has a
// slash. The error says why there is no such program to run.
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
			err = unpathed(failed.Err)
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

// Check runs the program once. A program that cannot be started, for want of processes
// or because it has gone meanwhile, says nothing about the target: the error wraps
// [ErrInconclusive].
func (c *Exec) Check(ctx context.Context, t Target) error {
	if err := ctx.Err(); err != nil {
		return err
	}
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

// runGroup runs a program as the leader of a process group, and leaves nobody of that
// group behind.
func runGroup(ctx context.Context, cmd *exec.Cmd) error {
	leadGroup(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: %w", errNotStarted, unpathed(err))
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

// firstLine holds the beginning of the first line that has a visible character.
type firstLine struct {
	held []byte
	full bool
}

// Write never fails: a program that is told of an error may end for it.
func (f *firstLine) Write(b []byte) (int, error) {
	n := len(b)
	if len(f.held) == 0 {
		b = bytes.TrimLeft(b, " \t\r\n")
	}
	if f.full {
		return n, nil
	}
	if end := bytes.IndexByte(b, '\n'); end >= 0 {
		b, f.full = b[:end], true
	}
	f.held = append(f.held, b[:min(len(b), maxReason-len(f.held))]...)
	f.full = f.full || len(f.held) == maxReason
	return n, nil
}

// String is what a line of a log ends with, empty if there was no line.
func (f *firstLine) String() string {
	if len(f.held) == 0 {
		return ""
	}
	return ": " + brief{errors.New(strings.ToValidUTF8(string(bytes.TrimSpace(f.held)), "?"))}.Error()
}
