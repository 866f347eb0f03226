//go:build unix

package health

import (
	"errors"
	"os/exec"
	"syscall"
	"time"
)

// leadGroup makes a program that is to be started the leader of a group of its own: the
// group's id is then its process id.
func leadGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}

// killGroup kills all that is in the group of a program. The id belongs to the group for
// sure as long as the leader is not reaped.
func killGroup(cmd *exec.Cmd) {
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
}

const (
	// reapTime is how long a check waits for descendants that it has killed. Only
	// those that hang in the kernel take so long.
	reapTime = 100 * time.Millisecond
	reapStep = time.Millisecond
)

// reapGroup reaps descendants in the group of a program that is reaped itself. Orphans
// belong to the init process, which reaps them: it has work only if this process is
// one, as the first of a container or as a subreaper.
func reapGroup(cmd *exec.Cmd) {
	for range reapTime / reapStep {
		pid, err := syscall.Wait4(-cmd.Process.Pid, nil, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil: // ECHILD: there is no such child
			return
		case pid == 0: // there is one that is not dead yet
			time.Sleep(reapStep)
		}
	}
}
