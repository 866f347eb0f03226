package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"usher/internal/api"
)

// Bounds of the child's start and end.
const (
	startMost = 30 * time.Second       // until it answers
	startLook = 5 * time.Millisecond   // between two looks whether it does
	stopMost  = 10 * time.Second       // until it has ended by itself
	lastLog   = 500 * time.Millisecond // for its last log lines, should the log's reader be slow
)

// Child is a usher that runs as a child process. It does not outlive this process: its
// stdout is a pipe from here, and a usher whose output has no reader any more drains and
// ends. Windows ends it with its job.
type Child struct {
	*api.Client
	PID int

	cmd    *exec.Cmd
	output *os.File // the reader's end of its stdout
	job    io.Closer
	log    *startLog
	done   chan struct{} // closed when the process has ended
	exit   error         // how; read it after done
}

// startChild starts usher with these words, and returns when it answers on the control
// socket. log gets its log from then on. The error has what the child said.
func startChild(ctx context.Context, executable string, words []string, socket string, log io.Writer) (*Child, error) {
	output, stdout, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stdout.Close()
	c := &Child{Client: api.NewClient(socket), output: output, log: &startLog{to: log}, done: make(chan struct{})}
	c.cmd = exec.Command(executable, words...)
	c.cmd.Stdout, c.cmd.Stderr = stdout, c.log
	c.cmd.WaitDelay = lastLog
	c.cmd.SysProcAttr = ownGroup() // Ctrl-C is for the demo, which ends the child in its turn
	if err := c.cmd.Start(); err != nil {
		output.Close()
		return nil, err
	}
	c.PID = c.cmd.Process.Pid
	c.job, _ = endWithUs(c.cmd.Process) // without it the child may outlive a demo that is killed
	go func() {                         // Close waits for it
		defer close(c.done)
		c.exit = c.cmd.Wait()
	}()
	if err := c.await(ctx); err != nil {
		c.Close()
		return nil, err
	}
	c.log.pass()
	return c, nil
}

// await returns when the child has services.
func (c *Child) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startMost, fmt.Errorf("no answer within %s", startMost))
	defer cancel()
	look := time.NewTicker(startLook)
	defer look.Stop()
	for {
		// The socket may be another usher's.
		if p, err := c.Process(ctx); err == nil && p.PID == c.PID {
			if s, err := c.Services(ctx); err == nil && len(s.Services) > 0 && len(s.Services[0].Listen) > 0 {
				return nil
			}
		}
		select {
		case <-look.C:
		case <-c.done:
			return c.reason()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// reason says why the child has ended: what it said last, or its exit status.
func (c *Child) reason() error {
	if line := c.log.lastLine(); line != "" {
		return errors.New(strings.TrimPrefix(line, "usher: "))
	}
	if c.exit == nil {
		return errors.New("it ended at once")
	}
	return c.exit
}

// Done is closed when the child has ended. Its state is then exit.
func (c *Child) Done() <-chan struct{} { return c.done }

// Exit returns how the child has ended, once Done is closed; nil: with exit status 0.
func (c *Child) Exit() error { return c.exit }

// End has the child drain and end, and kills it when cut ends or it takes too long.
func (c *Child) End(cut context.Context) {
	ctx, cancel := context.WithTimeout(cut, stopMost)
	defer cancel()
	if c.Stop(ctx, false) == nil {
		select {
		case <-c.done:
		case <-ctx.Done():
		}
	}
	c.Close()
}

// Close kills the child, if it still runs, and waits for its end.
func (c *Child) Close() {
	select {
	case <-c.done:
	default:
		_ = c.cmd.Process.Kill()
		<-c.done
	}
	c.output.Close()
	if c.job != nil {
		c.job.Close()
	}
}

// startLog keeps the log of a start, for the case that it fails.
type startLog struct {
	to io.Writer

	mu       sync.Mutex
	kept     bytes.Buffer
	isPassed bool
}

// Bounds of what is kept, and of what is quoted of it, in bytes. Later lines are lost.
const (
	maxStartLog = 64 << 10
	maxReason   = 500
)

// Write keeps p, or passes it on. It never fails: the child is to go on.
func (l *startLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.isPassed:
		_, _ = l.to.Write(p)
	case l.kept.Len()+len(p) <= maxStartLog:
		l.kept.Write(p)
	}
	return len(p), nil
}

// pass passes on what was kept and what follows.
func (l *startLog) pass() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept.Len() > 0 {
		_, _ = l.to.Write(l.kept.Bytes())
	}
	l.kept, l.isPassed = bytes.Buffer{}, true
}

// lastLine returns the last line that was kept.
func (l *startLog) lastLine() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := strings.TrimSpace(l.kept.String())
	line := text[1+strings.LastIndexByte(text, '\n'):]
	return line[:min(len(line), maxReason)]
}
