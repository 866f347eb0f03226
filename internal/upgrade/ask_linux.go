package upgrade

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// askWord is the only argument of a child. A program that knows nothing of upgrades refuses it.
const askWord = "restore-check"

// answerMark begins the answer of a child that could go on.
const answerMark = "usher could go on: "

// maxAnswer bounds what is kept of a child's output, in bytes.
const maxAnswer = 4096

// lastOutput is how long a child's own children may keep its output open.
const lastOutput = 100 * time.Millisecond

// Ask has the program look at a state in a child process, and returns its version. The error says why it cannot go on from
// the state. After ctx the child is killed.
func (b *Binary) Ask(ctx context.Context, state *os.File) (version string, err error) {
	var stdout, stderr bounded
	cmd := exec.CommandContext(ctx, "/proc/self/fd/4")
	cmd.Args = []string{os.Args[0], askWord}
	cmd.ExtraFiles = []*os.File{state, b.file} // 3 and 4
	cmd.Env = environment(word(Check, 3, 0, ""))
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = lastOutput
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("binary %s: no answer: %w", b.path, context.Cause(ctx))
	case err != nil && cmd.ProcessState == nil:
		return "", fmt.Errorf("binary %s cannot be executed: %w", b.path, reason(err))
	case err != nil:
		return "", fmt.Errorf("binary %s cannot go on from here: %s", b.path, firstOf(stderr.line(), err.Error()))
	}
	version, is := strings.CutPrefix(stdout.line(), answerMark)
	if !is {
		return "", fmt.Errorf("binary %s is no usher that could go on: it answers %q", b.path, stdout.line())
	}
	return version, nil
}

// reason returns the innermost error.
func reason(err error) error {
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e
	}
	return err
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// Answer says that this image could go on.
func Answer(w io.Writer, version string) error {
	_, err := fmt.Fprintf(w, "%s%s\n", answerMark, version)
	return err
}

// bounded keeps the beginning of what is written.
type bounded struct{ text bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	b.text.Write(p[:min(len(p), maxAnswer-b.text.Len())])
	return len(p), nil
}

// line is the first line, without what a terminal would act on, and without the name of the program.
func (b *bounded) line() string {
	line, _, _ := bytes.Cut(b.text.Bytes(), []byte("\n"))
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(string(line[:min(len(line), maxReason)]), "?"))
	return strings.TrimPrefix(text, "usher: ")
}
