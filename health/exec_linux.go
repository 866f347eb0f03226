package health

import (
	"os/exec"
	"syscall"
)

// awaitExit waits until a program ends, and leaves it unreaped (WNOWAIT). Until then
// the kernel does not reuse its process id, nor that of its group.
func awaitExit(cmd *exec.Cmd) (reaped bool, err error) {
	const byPID = 1 // P_PID
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, byPID, uintptr(cmd.Process.Pid), 0, syscall.WEXITED|syscall.WNOWAIT, 0, 0)
		if errno != syscall.EINTR {
			return false, nil
		}
	}
}
