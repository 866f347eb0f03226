package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func runDialects(ctx context.Context, c dialectConfig, o studyOptions, progress io.Writer) ([]byte, error) {
	runtime.LockOSThread() // the kernel ends a child with the thread that began it
	files, dir, binary, err := prepareStudy(ctx)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r := newDialectResults(c, files)
	_, err = exec.LookPath("iptables-restore")
	r.hasReal = err == nil && os.Getuid() == 0
	for round := range o.rounds {
		fmt.Fprintf(progress, "round %d of %d\n", round+1, o.rounds)
		if err := r.round(ctx, binary, dir); err != nil {
			return nil, err
		}
		if r.hasReal {
			if err := r.realRound(); err != nil {
				return nil, err
			}
		}
	}
	return r.text(o), nil
}

// dialectRun is one usher, and the commands that ask it.
type dialectRun struct {
	*dialectResults
	binary string
	env    []string
	pid    int
}

// round measures all steps with one process. Commands find it by its folder: no other is in it.
func (r *dialectResults) round(ctx context.Context, binary, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp(dir, "run-")
	if err != nil {
		return err
	}
	run := &dialectRun{dialectResults: r, binary: binary, env: append(os.Environ(), "XDG_RUNTIME_DIR="+dir)}
	cmd := exec.Command(binary, "serve", "--workers", "1", "--log-level", "warn")
	cmd.Env = run.env
	usher, err := launch(cmd, nil)
	if err != nil {
		return err
	}
	defer usher.kill()
	run.pid = cmd.Process.Pid
	if err := run.await(ctx, dir); err != nil {
		return fmt.Errorf("start: %w\n%s", err, usher.output)
	}
	if err := run.steps(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, usher.output)
	}
	return nil
}

// await waits for the control socket.
func (r *dialectRun) await(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, reloadStartLimit)
	defer cancel()
	for {
		if found, err := filepath.Glob(filepath.Join(dir, "usher", "*.sock")); err != nil || len(found) > 0 {
			return err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// steps runs all commands, in an order in which each has what it needs.
func (r *dialectRun) steps(ctx context.Context) error {
	extra := r.virtual(r.services)
	for _, s := range []struct {
		name, input string
		words       []string
		undo        []string // after each time; nil: once is enough
	}{
		{name: ipvsRestore, input: r.ipvsLines(), words: []string{"ipvsadm", "-R"}},
		{name: ipvsList, words: []string{"ipvsadm", "-Ln"}},
		{name: ipvsStats, words: []string{"ipvsadm", "-Ln", "--stats"}},
		{name: ipvsSave, words: []string{"ipvsadm", "-S", "-n"}},
		{name: ipvsAdd, words: []string{"ipvsadm", "-A", "-t", extra, "-s", "rr"}, undo: []string{"ipvsadm", "-D", "-t", extra}},
		{name: ipvsServer, words: []string{"ipvsadm", "-a", "-t", r.virtual(0), "-r", r.backend(r.services, 0), "-m"},
			undo: []string{"ipvsadm", "-d", "-t", r.virtual(0), "-r", r.backend(r.services, 0)}},
		{name: ipvsClear, words: []string{"ipvsadm", "-C"}},
		{name: tableRestore, input: r.natLines(r.chains), words: []string{"iptables-restore"}},
		{name: tableSave, words: []string{"iptables-save"}},
	} {
		if err := r.step(ctx, s.name, s.input, s.words, s.undo); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// step notes what a command costs: itself, and usher beside it.
func (r *dialectRun) step(ctx context.Context, name, input string, words, undo []string) error {
	times := 1
	if undo != nil {
		times = r.changes
	}
	var wall, command, process time.Duration
	for range times {
		before, err := cpuClock(processClock(r.pid))
		if err != nil {
			return err
		}
		took, used, err := timeCommand(exec.CommandContext(ctx, r.binary, words...), r.env, input)
		if err != nil {
			return err
		}
		after, err := cpuClock(processClock(r.pid))
		if err != nil {
			return err
		}
		wall, command, process = wall+took, command+used, process+after-before
		if undo != nil {
			if _, _, err := timeCommand(exec.CommandContext(ctx, r.binary, undo...), r.env, ""); err != nil {
				return err
			}
		}
	}
	n := time.Duration(times)
	r.note(name, inMS(wall/n), inMS(command/n))
	r.process[name] = append(r.process[name], inMS(process/n))
	memory, err := statusOf(r.pid, "VmRSS:")
	r.memory[name] = append(r.memory[name], memory)
	return err
}

// timeCommand runs a command whose output nobody reads, and returns its time and its CPU time. What it says on stderr is an
// error.
func timeCommand(cmd *exec.Cmd, env []string, input string) (wall, cpu time.Duration, err error) {
	var said bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stderr = env, strings.NewReader(input), &said
	began := time.Now()
	if err := cmd.Run(); err != nil || said.Len() > 0 {
		return 0, 0, fmt.Errorf("%s: %v: %.500s", cmd, err, said.String())
	}
	return time.Since(began), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// realRound measures the real iptables in namespaces of their own.
func (r *dialectResults) realRound() error {
	for _, t := range []struct {
		services      int
		restore, save string
	}{{r.services, realAll, ""}, {r.chains, realRestore, realSave}} {
		failed := make(chan error)
		go func() {
			runtime.LockOSThread() // the thread ends with the goroutine, and the namespace with it
			failed <- r.inNamespace(t.services, t.restore, t.save)
		}()
		if err := <-failed; err != nil {
			return err
		}
	}
	return nil
}

// inNamespace moves the calling thread to a namespace of its own, and measures there.
func (r *dialectResults) inNamespace(services int, restore, save string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	wall, cpu, err := timeCommand(exec.Command("iptables-restore"), os.Environ(), r.natLines(services))
	if err != nil {
		return err
	}
	r.note(restore, inMS(wall), inMS(cpu))
	if save == "" {
		return nil
	}
	wall, cpu, err = timeCommand(exec.Command("iptables-save"), os.Environ(), "")
	if err == nil {
		r.note(save, inMS(wall), inMS(cpu))
	}
	return err
}
