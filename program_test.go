package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
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
	read chan struct{} // closed when all that it wrote is in its log; nil if it writes there itself
}

func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME WORD...")
	}
	runProgram(ts, args[0], "usher", args[1:])
}

func spawn(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: spawn NAME PROGRAM WORD...")
	}
	runProgram(ts, args[0], args[1], args[2:])
}

func runProgram(ts *testscript.TestScript, name, program string, words []string) {
	cmd := commandOf(ts, program, words)
	for _, o := range []struct {
		to  *io.Writer
		end string
	}{{&cmd.Stdout, ".out"}, {&cmd.Stderr, ".log"}} {
		f, err := os.Create(ts.MkAbs(name + o.end))
		ts.Check(err)
		defer f.Close()
		*o.to = f
	}
	launch(ts, name, cmd)
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until REGEXP WORD...")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	var out []byte
	if !eventually(func() bool {
		out, err = commandOf(ts, "usher", args[1:]).Output()
		return re.Match(out)
	}) {
		ts.Fatalf("usher %s never printed %q: %v\n%s", strings.Join(args[1:], " "), args[0], err, out)
	}
	_, _ = ts.Stdout().Write(out)
}

func commandOf(ts *testscript.TestScript, program string, words []string) *exec.Cmd {
	path, err := exec.LookPath(program)
	ts.Check(err)
	cmd := exec.Command(path, words...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+ts.Getenv("XDG_RUNTIME_DIR"))
	for _, name := range []string{"TERM", "NO_COLOR"} {
		if value := ts.Getenv(name); value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	return cmd
}

func pipe(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: pipe NAME stdout|stderr|both WORD...")
	}
	cmd := commandOf(ts, "usher", args[2:])
	r, w, err := os.Pipe()
	ts.Check(err)
	defer w.Close()
	switch args[1] {
	case "stdout":
		stderr, err := os.Create(ts.MkAbs(args[0] + ".log"))
		ts.Check(err)
		defer stderr.Close()
		cmd.Stdout, cmd.Stderr = w, stderr
	case "stderr":
		cmd.Stderr = w
	case "both":
		cmd.Stdout, cmd.Stderr = w, w
	}
	var read chan struct{}
	if cmd.Stderr == io.Writer(w) {
		read = record(ts, args[0], r)
	}
	stageOf(ts).closers[args[0]] = r
	ts.Defer(func() { _ = r.Close() })
	launch(ts, args[0], cmd).read = read
}

// record copies what r yields to NAME.log. It closes the channel after the last byte.
func record(ts *testscript.TestScript, name string, r io.Reader) chan struct{} {
	log, err := os.Create(ts.MkAbs(name + ".log"))
	ts.Check(err)
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(log, r) // ends when r is closed, or the last writer has closed its end
		_ = log.Close()
		close(done)
	}()
	ts.Defer(func() { <-done })
	return done
}

// launch starts a program that the script ends with.
func launch(ts *testscript.TestScript, name string, cmd *exec.Cmd) *program {
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
	return p
}

func expand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: expand FROM TO")
	}
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}

func stall(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: stall NAME WORD...")
	}
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
	cmd := commandOf(ts, "usher", args[1:])
	cmd.Stderr = w
	launch(ts, args[0], cmd)
}

func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]os.Signal{
		"TERM": syscall.SIGTERM, "INT": os.Interrupt, "HUP": syscall.SIGHUP, "KILL": os.Kill,
		"USR2": syscall.Signal(12), // of Linux; not every system has one
	}
	if neg || len(args) != 2 || signals[args[1]] == nil {
		ts.Fatalf("usage: signal NAME TERM|INT|HUP|KILL|USR2")
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
	if p.read != nil {
		select {
		case <-p.read:
		case <-time.After(patience):
			ts.Fatalf("usher %s has ended, and something still holds its output:\n%s", args[0], ts.ReadFile(args[0]+".log"))
		}
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
