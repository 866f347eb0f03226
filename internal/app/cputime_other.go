//go:build !unix

package app

import "time"

// cpuTime returns the CPU time of this process, which is known on unix alone.
func cpuTime() (user, system time.Duration) { return 0, 0 }
