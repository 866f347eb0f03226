package main

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// program is a running usher.
type program struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME WORD...")
	}
	path, err := exec.LookPath("usher")
	ts.Check(err)
	cmd := exec.Command(path, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	stdout, err := os.Create(ts.MkAbs(args[0] + ".out"))
	ts.Check(err)
	defer stdout.Close()
	stderr, err := os.Create(ts.MkAbs(args[0] + ".log"))
	ts.Check(err)
	defer stderr.Close()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	launch(ts, args[0], cmd)
}

// launch starts a program that the script ends with.
func launch(ts *testscript.TestScript, name string, cmd *exec.Cmd) {
	ts.Check(cmd.Start())
	p := &program{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	stageOf(ts).programs[name] = p
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		<-p.done
	})
}

func stall(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: stall NAME WORD...")
	}
	path, err := exec.LookPath("usher")
	ts.Check(err)
	r, w, err := os.Pipe()
	ts.Check(err)
	defer w.Close()
	ts.Defer(func() { _ = r.Close() })
	ts.Check(w.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)))
	for err == nil {
		_, err = w.WriteString(strings.Repeat("filler\n", 100))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		ts.Check(err)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".log"), nil, 0o600)) // what is shown of a program that fails
	cmd := exec.Command(path, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Stderr = w
	launch(ts, args[0], cmd)
}

func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]os.Signal{"TERM": syscall.SIGTERM, "INT": os.Interrupt, "HUP": syscall.SIGHUP}
	if neg || len(args) != 2 || signals[args[1]] == nil {
		ts.Fatalf("usage: signal NAME TERM|INT|HUP")
	}
	ts.Check(programOf(ts, args[0]).cmd.Process.Signal(signals[args[1]]))
}

func ended(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: ended NAME STATUS")
	}
	p := programOf(ts, args[0])
	select {
	case <-p.done:
	case <-time.After(patience):
		ts.Fatalf("usher %s still runs:\n%s", args[0], ts.ReadFile(args[0]+".log"))
	}
	if got := strconv.Itoa(p.cmd.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("usher %s ended with status %s, want %s:\n%s", args[0], got, args[1], ts.ReadFile(args[0]+".log"))
	}
}

func programOf(ts *testscript.TestScript, name string) *program {
	p := stageOf(ts).programs[name]
	if p == nil {
		ts.Fatalf("no usher was started as %s", name)
	}
	return p
}
