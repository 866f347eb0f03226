package health

import (
	"os/exec"
	"syscall"
)

// awaitExit returns when a program has ended, and leaves it unreaped (WNOWAIT): its
// process id, and so its group's, cannot come to mean another's meanwhile.
func awaitExit(cmd *exec.Cmd) (reaped bool, err error) {
	const byPID = 1 // P_PID
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, byPID, uintptr(cmd.Process.Pid), 0, syscall.WEXITED|syscall.WNOWAIT, 0, 0)
		if errno != syscall.EINTR {
			return false, nil
		}
	}
}
