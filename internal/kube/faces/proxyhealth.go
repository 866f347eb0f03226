package faces

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// maxDelay is how long a change may wait before usher counts as unhealthy: twice kube-proxy's syncPeriod of 30 s.
const maxDelay = 60 * time.Second

// taintToBeDeleted marks a Node that the cluster autoscaler is about to delete.
const taintToBeDeleted = "ToBeDeletedByClusterAutoscaler"

// proxyHealth knows whether Services are served as the source has them.
//
//	starting ── first applied ──▶ synced ── a change waits for maxDelay ──▶ late ── applied ──▶ synced
type proxyHealth struct {
	mu         sync.Mutex
	updated    time.Time // last applied; zero: usher starts
	waiting    time.Time // since when the oldest change that is not applied waits; zero: there is none
	lastQueued time.Time
	isLeaving  bool // the Node is gone or about to go
}

func (h *proxyHealth) queued(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastQueued = now
	if h.waiting.IsZero() {
		h.waiting = now
	}
}

// applied notes that all is served that was queued until began. What was queued since has waited since then at most.
func (h *proxyHealth) applied(now, began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.updated = now
	h.waiting = time.Time{}
	if h.lastQueued.After(began) {
		h.waiting = began
	}
}

func (h *proxyHealth) setNode(node *corev1.Node) {
	isLeaving := node == nil || !node.DeletionTimestamp.IsZero()
	if !isLeaving {
		for _, taint := range node.Spec.Taints {
			isLeaving = isLeaving || taint.Key == taintToBeDeleted
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.isLeaving = isLeaving
}

// state is the health at one moment.
type state struct {
	updated, now              time.Time
	isStarting, isLate, isOut bool
}

// isHealthy: what the source says is served, and in time.
func (s state) isHealthy() bool { return !s.isStarting && !s.isLate }

func (h *proxyHealth) at(now time.Time) state {
	h.mu.Lock()
	defer h.mu.Unlock()
	return state{
		updated: h.updated, now: now,
		isStarting: h.updated.IsZero(),
		isLate:     !h.updated.IsZero() && !h.waiting.IsZero() && now.Sub(h.waiting) >= maxDelay,
		isOut:      h.isLeaving,
	}
}

// answer is the body of /healthz and /livez.
type answer struct {
	LastUpdated  time.Time `json:"lastUpdated"`
	CurrentTime  time.Time `json:"currentTime"`
	NodeEligible *bool     `json:"nodeEligible,omitempty"` // of /healthz alone
	Healthy      bool      `json:"healthy"`
}

// healthRoutes answers /healthz, by which load balancers choose nodes, and /livez, by which the kubelet restarts the
// container. A restart cures neither a Node that leaves nor an API server that is away at the start: both are alive.
func (f *Faces) healthRoutes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		s := f.health.at(f.now())
		isEligible := !s.isOut
		code := writeHealth(w, s, s.isHealthy() && isEligible, answer{NodeEligible: &isEligible, Healthy: s.isHealthy()})
		f.metrics.healthz.WithLabelValues(code).Inc()
	})
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) {
		s := f.health.at(f.now())
		code := writeHealth(w, s, !s.isLate, answer{Healthy: !s.isLate})
		f.metrics.livez.WithLabelValues(code).Inc()
	})
	return mux
}

// writeHealth answers, and returns the status code. lastUpdated is the present time while all is well, as in kube-proxy.
func writeHealth(w http.ResponseWriter, s state, isOK bool, a answer) string {
	a.CurrentTime, a.LastUpdated = s.now, s.updated
	status, code := http.StatusServiceUnavailable, "503"
	if isOK {
		status, code = http.StatusOK, "200"
		a.LastUpdated = s.now
	}
	writeJSON(w, status, a)
	return code
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}
