package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	stopLimit  = 3 * time.Second // between asking a process to end and ending it
	outputKept = 16 << 10        // bytes of output that are kept for an error
)

// process is a child with a process group of its own, on one CPU.
type process struct {
	cmd    *exec.Cmd
	output *tail
	done   chan struct{} // closed when it has ended
}

// launch runs cmd, as another user if credential is given. The caller must be locked to
// its thread as long as the process lives. The kernel ends it when that thread ends.
func launch(cmd *exec.Cmd, credential *syscall.Credential) (*process, error) {
	p := &process{cmd: cmd, output: &tail{}, done: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = p.output
	}
	cmd.Stderr = p.output
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:    true,
		Pdeathsig:  syscall.SIGKILL,
		Credential: credential,
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // how it ended is in ProcessState
	}()
	return p, nil
}

// start is launch pinned to a CPU. A child inherits the affinity of the thread that forks
// it, so no process ever runs elsewhere first.
func start(cmd *exec.Cmd, cpu int, credential *syscall.Credential) (*process, error) {
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, fmt.Errorf("get CPU affinity: %w", err)
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return nil, fmt.Errorf("pin to CPU %d: %w", cpu, err)
	}
	p, err := launch(cmd, credential)
	if back := unix.SchedSetaffinity(0, &before); err == nil && back != nil {
		err = fmt.Errorf("unpin from CPU %d: %w", cpu, back)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// kill ends the process and its group at once, and returns when it has ended.
func (p *process) kill() {
	select {
	case <-p.done: // its id may belong to another process by now
	default:
		_ = syscall.Kill(-p.group(), syscall.SIGKILL) // it may be ending
		<-p.done
	}
}

// group is the id of the process group.
func (p *process) group() int { return p.cmd.Process.Pid }

// stop ends the process and its group, and returns when it has ended. It kills a
// process that does not stop by itself.
func (p *process) stop() {
	select {
	case <-p.done:
		return // its id may belong to another process by now
	default:
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		_ = syscall.Kill(-p.group(), sig) // it may be ending
		select {
		case <-p.done:
			return
		case <-time.After(stopLimit):
		}
	}
	<-p.done
}

// tail keeps the end of the bytes written to it. Safe for concurrent use.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if n := len(t.buf) - outputKept; n > 0 {
		t.buf = t.buf[:copy(t.buf, t.buf[n:])]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}

// twoCPUs returns the first two CPUs that this process may use.
func twoCPUs() (proxy, load int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 0, 0, fmt.Errorf("get CPU affinity: %w", err)
	}
	var cpus []int
	for cpu := range len(set) * 64 {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	if len(cpus) < 2 {
		return 0, 0, fmt.Errorf("needs two CPUs, may use %d", len(cpus))
	}
	return cpus[0], cpus[1], nil
}

// raiseFileLimit raises the limit of descriptors, which children inherit, as far
// towards want as allowed. It returns the new limit.
func raiseFileLimit(want uint64) (uint64, error) {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return 0, fmt.Errorf("get the limit of descriptors: %w", err)
	}
	higher := syscall.Rlimit{Cur: max(lim.Max, want), Max: max(lim.Max, want)}
	if os.Geteuid() == 0 && syscall.Setrlimit(syscall.RLIMIT_NOFILE, &higher) == nil {
		return higher.Cur, nil
	}
	// Set it even if it is the same. The Go runtime raised the soft limit for this
	// process alone, and children would get the earlier one.
	lim.Cur = lim.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return 0, fmt.Errorf("raise the limit of descriptors: %w", err)
	}
	return lim.Cur, nil
}

// credential returns what it takes to run a process as the named user.
func credential(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", name, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", name, err)
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("run as %s: start bench as root", name)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
