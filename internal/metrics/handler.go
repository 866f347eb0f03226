package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"usher/proxy"
	"usher/proxy/rules"
)

// Source is what is shown: a *proxy.Server. Any goroutine calls its methods.
type Source interface {
	Services() []*proxy.Service
	// CountBytes brings the byte counters up to date.
	CountBytes()
	Workers() []proxy.WorkerStats
	// Open returns the flows at present, MaxConns how many there may be.
	Open() int
	MaxConns() int
	// Dropped returns the clients that are held without an answer, MaxDropped how many there may be.
	Dropped() int
	MaxDropped() int
	// Rules returns the rules of new flows; nil: there are none.
	Rules() *rules.Set
}

// Process is what is shown of the process around the source.
type Process struct {
	Upgrades  int       // that have succeeded
	Taken     time.Time // when the config file was last taken; the zero value: there is no file
	IsRefused bool      // it was read again since, and refused
	LostLines uint64    // of the log, since the process began or was upgraded
}

// scrapesMost bounds the scrapes at any one time: each holds all series in memory.
const scrapesMost = 4

// Handler serves the metrics of a source and of this process. What cannot be collected is
// left out of the answer. Any goroutine calls process.
func Handler(s Source, process func() Process) http.Handler {
	return promhttp.HandlerFor(newRegistry(s, process, 0), promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: scrapesMost,
	})
}

// maxBackends is how many backends a Registry has series of: a scrape of 50,000 takes 4 s of CPU time and 400 MB.
const maxBackends = 5000

// Registry collects what Handler serves, for a server that has more metrics. It has series of single backends unless
// there are more than 5,000.
func Registry(s Source, process func() Process) *prometheus.Registry {
	return newRegistry(s, process, maxBackends)
}

func newRegistry(s Source, process func() Process, maxBackends int) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		&collector{source: s, process: process, maxBackends: maxBackends}, cpu{},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
	)
	return r
}
