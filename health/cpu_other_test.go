//go:build !unix

package health_test

import "time"

// cpuTime cannot be known here.
func cpuTime() time.Duration { return 0 }
