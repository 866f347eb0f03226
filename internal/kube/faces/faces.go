// Package faces answers what kube-proxy answers: health, metrics and its mode. Names, fields and status codes are those
// of kube-proxy (pkg/proxy/healthcheck, pkg/proxy/metrics, cmd/kube-proxy).
//
//	kube ─ Queued, Applied, SetNode ─▶ proxyHealth ─▶ /healthz, /livez      kubelet, cloud load balancers
//	     └ Applied ──────────────────▶ syncMetrics ─▶ /metrics, /proxyMode  Prometheus
//	     └ SetHealth ────────────────▶ nodePorts ───▶ healthCheckNodePorts  load balancers
package faces

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"usher/internal/kube/objects"
	"usher/internal/kube/planner"
)

// Options say what is served, and where.
type Options struct {
	Healthz string              // HOST:PORT of /healthz and /livez; empty: none
	Metrics string              // HOST:PORT of /metrics and /proxyMode; empty: none
	Usher   prometheus.Gatherer // usher's own metrics; nil: none
	// Seen returns how many changes the source has made so far: that of the Store.
	Seen func() objects.Seen
	Now  func() time.Time // nil: time.Now
	Log  *zap.Logger
}

// Applied is a change that clients are served by.
type Applied struct {
	Began  time.Time    // when it was taken from the Store: what was queued until then is in it
	Seen   objects.Seen // of the same Take
	IsFull bool         // all Services were planned anew, not just those that have changed
	// Triggered are when the endpoints of the changed Services changed: Result.Triggered.
	Triggered []time.Time
	// NoLocalInternal and NoLocalExternal are the sums over all Services.
	NoLocalInternal, NoLocalExternal int
}

// Bounds of the servers. Some are open to everybody who reaches the node.
const (
	maxConns    = 256 // an address
	readTimeout = 5 * time.Second
	sendTimeout = 30 * time.Second
	idleTimeout = 30 * time.Second
	maxHeader   = 8 << 10
	closing     = time.Second // how long requests may go on at the end

	retryAfter = 5 * time.Second // while an address cannot be had
)

// Faces are the servers. Any goroutine may call their methods.
type Faces struct {
	now     func() time.Time
	log     *zap.Logger
	health  proxyHealth
	metrics *syncMetrics
	ports   *nodePorts
	retry   time.Duration

	ctx     context.Context // until Close
	cancel  context.CancelFunc
	servers []*http.Server
	owned   sync.WaitGroup
}

// New starts the servers. An address that cannot be had is logged, and tried again every 5 s.
func New(o Options) *Faces { return start(o, retryAfter) }

func start(o Options, retry time.Duration) *Faces {
	if o.Now == nil {
		o.Now = time.Now
	}
	f := &Faces{now: o.Now, log: o.Log, retry: retry}
	f.metrics = newSyncMetrics(o.Now(), o.Seen)
	f.ports = newNodePorts(f.isProxyHealthy)
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.serve("healthz", o.Healthz, f.healthRoutes())
	f.serve("metrics", o.Metrics, f.metricsRoutes(o.Usher))
	return f
}

// Queued notes that a change waits to be applied. It is called before the change is taken from the Store, and Applied
// after it, even if nothing was to do.
func (f *Faces) Queued() {
	now := f.now()
	f.health.queued(now)
	f.metrics.lastQueued.Set(seconds(now))
}

// Applied notes that a change is served.
func (f *Faces) Applied(a Applied) {
	now := f.now()
	f.health.applied(now, a.Began)
	f.metrics.applied(now, a)
}

// SetNode gives the Node that usher runs on; nil: it was deleted. An usher that is on no node of the
// cluster never calls it, and is eligible.
func (f *Faces) SetNode(node *corev1.Node) { f.health.setNode(node) }

// SetHealth serves these healthCheckNodePorts, and no others, on the addresses of node ports. Those that cannot be served
// are returned with the reason; the caller gives them again later.
func (f *Faces) SetHealth(addrs []netip.Addr, health []planner.Health) map[planner.Key]error {
	return f.ports.set(addrs, health)
}

// Close ends all servers, and waits for them.
func (f *Faces) Close() {
	f.cancel()
	for _, s := range f.servers {
		shutdown(s)
	}
	f.ports.close()
	f.owned.Wait()
}

func (f *Faces) isProxyHealthy() bool { return f.health.at(f.now()).isHealthy() }

// serve answers at an address until Close. It listens before it returns, if it can.
func (f *Faces) serve(name, address string, h http.Handler) {
	if address == "" {
		return
	}
	server := newServer(h)
	f.servers = append(f.servers, server)
	log := f.log.With(zap.String("address", address))
	listener, err := f.listen(address)
	if err != nil {
		log.Warn(fmt.Sprintf("%s is not served; usher tries again every %v", name, f.retry), zap.Error(err))
	}
	f.owned.Go(func() {
		for isLost := err != nil; ; {
			if listener != nil {
				if isLost {
					log.Info(name + " is served")
				}
				err = server.Serve(listener)
				isLost = true
				if errors.Is(err, http.ErrServerClosed) {
					return
				}
				log.Warn(fmt.Sprintf("%s has failed; usher tries again every %v", name, f.retry), zap.Error(err))
			}
			select {
			case <-f.ctx.Done():
				return
			case <-time.After(f.retry):
			}
			listener, _ = f.listen(address)
		}
	})
}

func (f *Faces) listen(address string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(f.ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &boundedListener{Listener: l, max: maxConns}, nil
}

func newServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadTimeout: readTimeout, WriteTimeout: sendTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: zap.NewStdLog(zap.NewNop()), // what clients do wrong is theirs
	}
}

func shutdown(s *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), closing)
	defer cancel()
	if s.Shutdown(ctx) != nil {
		s.Close()
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
