package main

import (
	"fmt"
	"os"
	"runtime"
	"time"
)

// machine names the processor and how many of it there are.
func machine() string {
	b, _ := os.ReadFile("/proc/cpuinfo") // unknown then
	model := parseCPUModel(b)
	if model == "" {
		model = "unknown processor"
	}
	return fmt.Sprintf("%s, %s", model, count(runtime.NumCPU(), "CPU"))
}

// today is the date of a measurement.
func today() string { return time.Now().UTC().Format(time.DateOnly) }

// compiler names Go's version and what it compiles for.
func compiler() string { return runtime.Version() + " " + runtime.GOARCH }
