//go:build unix

package app

import (
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime returns the CPU time of this process.
func cpuTime() (user, system time.Duration) {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) != nil {
		return 0, 0
	}
	return time.Duration(r.Utime.Nano()), time.Duration(r.Stime.Nano())
}
