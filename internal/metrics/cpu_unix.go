//go:build unix

package metrics

import (
	"time"

	"golang.org/x/sys/unix"
)

// cpuTimes returns the CPU time that the process has taken so far, in user and kernel mode.
func cpuTimes() (user, system time.Duration, ok bool) {
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		return 0, 0, false
	}
	return time.Duration(use.Utime.Nano()), time.Duration(use.Stime.Nano()), true
}
