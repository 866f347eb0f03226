package metrics

import "github.com/prometheus/client_golang/prometheus"

// cpuSeconds splits process_cpu_seconds_total, which client_golang has.
var cpuSeconds = counter("usher_process_cpu_seconds_total", "CPU time of the process, in user and in kernel mode.", "mode")

// cpu collects the CPU time of this process.
type cpu struct{}

// Describe sends the description of the one family.
func (cpu) Describe(to chan<- *prometheus.Desc) { to <- cpuSeconds.desc }

// Collect sends both times, where the system tells them.
func (cpu) Collect(metrics chan<- prometheus.Metric) {
	if user, system, ok := cpuTimes(); ok {
		series(metrics).seconds(cpuSeconds, user, "user")
		series(metrics).seconds(cpuSeconds, system, "system")
	}
}
