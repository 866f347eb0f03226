//go:build unix

package health

import (
	"errors"
	"os/exec"
	"syscall"
	"time"
)

// setGroup makes a program the leader of a new group, whose id is its process id.
func setGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}

// killGroup kills all processes in the group of a program. The id is safe to use until
// the leader is reaped.
func killGroup(cmd *exec.Cmd) {
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
}

const (
	// reapTime is how long a check waits for killed descendants. Only those that hang in
	// the kernel take so long.
	reapTime = 100 * time.Millisecond
	reapStep = time.Millisecond
)

// reapGroup reaps descendants in the group of a reaped program. Orphans belong to the
// init process; this one has to reap them only as the first process of a container or
// as a subreaper (prctl(2)).
func reapGroup(cmd *exec.Cmd) {
	for range reapTime / reapStep {
		pid, err := syscall.Wait4(-cmd.Process.Pid, nil, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil: // ECHILD
			return
		case pid == 0: // one is not dead yet
			time.Sleep(reapStep)
		}
	}
}
