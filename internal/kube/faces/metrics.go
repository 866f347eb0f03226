package faces

import (
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"usher/internal/kube/objects"
)

// mode is what /proxyMode answers.
const mode = "usher"

// maxScrapes bounds the scrapes at any one time: each holds all series in memory.
const maxScrapes = 4

// syncMetrics are kube-proxy's metrics that mean something for usher. Names, types, buckets and the labels code and
// traffic_policy are kube-proxy's; one sync serves both families, so there is no label ip_family.
type syncMetrics struct {
	registry *prometheus.Registry
	began    time.Time                    // what has happened before is no latency of usher
	taken    atomic.Pointer[objects.Seen] // the changes that are applied

	all, full, partial, programming prometheus.Histogram
	lastApplied, lastQueued         prometheus.Gauge
	noLocal                         *prometheus.GaugeVec
	healthz, livez                  *prometheus.CounterVec
}

func newSyncMetrics(now time.Time, seen func() objects.Seen) *syncMetrics {
	m := &syncMetrics{
		registry:    prometheus.NewRegistry(),
		began:       now,
		all:         duration("sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds"),
		full:        duration("sync_full_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for full resyncs"),
		partial:     duration("sync_partial_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for partial resyncs"),
		programming: prometheus.NewHistogram(programmingOptions()),
		lastApplied: prometheus.NewGauge(prometheus.GaugeOpts(named("sync_proxy_rules_last_timestamp_seconds", "The last time proxy rules were successfully synced"))),
		lastQueued:  prometheus.NewGauge(prometheus.GaugeOpts(named("sync_proxy_rules_last_queued_timestamp_seconds", "The last time a sync of proxy rules was queued"))),
		noLocal: prometheus.NewGaugeVec(prometheus.GaugeOpts(named("sync_proxy_rules_no_local_endpoints_total",
			"Number of service ports with a Local traffic policy and no local endpoints")), []string{"traffic_policy"}),
		healthz: prometheus.NewCounterVec(prometheus.CounterOpts(named("proxy_healthz_total", "Cumulative proxy healthz HTTP status")), []string{"code"}),
		livez:   prometheus.NewCounterVec(prometheus.CounterOpts(named("proxy_livez_total", "Cumulative proxy livez HTTP status")), []string{"code"}),
	}
	m.taken.Store(&objects.Seen{})
	m.registry.MustRegister(m.all, m.full, m.partial, m.programming, m.lastApplied, m.lastQueued, m.noLocal, m.healthz, m.livez)
	m.registerChanges("service", "Service", func() uint64 { return seen().Services }, func() uint64 { return m.taken.Load().Services })
	m.registerChanges("endpoint", "Endpoint", func() uint64 { return seen().Slices }, func() uint64 { return m.taken.Load().Slices })
	return m
}

// registerChanges registers the changes of one kind that the source has made, and those of them that are not applied.
func (m *syncMetrics) registerChanges(kind, word string, seen, taken func() uint64) {
	total := named("sync_proxy_rules_"+kind+"_changes_total", "Cumulative proxy rules "+word+" changes")
	pending := named("sync_proxy_rules_"+kind+"_changes_pending", "Pending proxy rules "+word+" changes")
	m.registry.MustRegister(
		prometheus.NewCounterFunc(prometheus.CounterOpts(total), func() float64 { return float64(seen()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(pending), func() float64 {
			applied := taken() // first: it never is more than seen
			return float64(seen() - applied)
		}),
	)
}

func (m *syncMetrics) applied(now time.Time, a Applied) {
	took := max(now.Sub(a.Began), 0).Seconds()
	m.all.Observe(took)
	if a.IsFull {
		m.full.Observe(took)
	} else {
		m.partial.Observe(took)
	}
	for _, at := range a.Triggered {
		if at.After(m.began) {
			m.programming.Observe(max(now.Sub(at), 0).Seconds())
		}
	}
	m.lastApplied.Set(seconds(now))
	m.noLocal.WithLabelValues("internal").Set(float64(a.NoLocalInternal))
	m.noLocal.WithLabelValues("external").Set(float64(a.NoLocalExternal))
	m.taken.Store(&a.Seen)
}

// metricsRoutes answers /metrics with kube-proxy's and usher's own, /proxyMode, and /healthz of this server alone.
func (f *Faces) metricsRoutes(usher prometheus.Gatherer) http.Handler {
	from := prometheus.Gatherers{f.metrics.registry}
	if usher != nil {
		from = append(from, usher)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(from, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes,
	}))
	mux.HandleFunc("/proxyMode", func(w http.ResponseWriter, _ *http.Request) { writeText(w, mode) })
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { writeText(w, "ok") })
	return mux
}

func writeText(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = io.WriteString(w, body) // the client may be gone
}

func named(name, help string) prometheus.Opts {
	return prometheus.Opts{Subsystem: "kubeproxy", Name: name, Help: help}
}

func duration(name, help string) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Subsystem: "kubeproxy", Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
	})
}

// programmingOptions has a bucket each quarter of a second, second, 5 s and 30 s, as the time grows to 5 min.
func programmingOptions() prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Subsystem: "kubeproxy", Name: "network_programming_duration_seconds", Help: "In Cluster Network Programming Latency in seconds",
		Buckets: slices.Concat(
			prometheus.LinearBuckets(0.25, 0.25, 2), prometheus.LinearBuckets(1, 1, 59),
			prometheus.LinearBuckets(60, 5, 12), prometheus.LinearBuckets(120, 30, 7),
		),
	}
}
