package faces

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/internal/kube/objects"
	"usher/internal/kube/planner"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var begin = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// clock is a time that only the test moves.
type clock struct{ passed atomic.Int64 }

func (c *clock) now() time.Time        { return begin.Add(time.Duration(c.passed.Load())) }
func (c *clock) after(d time.Duration) { c.passed.Store(int64(d)) }

func newTest(t *testing.T, o Options) (*Faces, *clock) {
	t.Helper()
	c := new(clock)
	o.Now, o.Log = c.now, zap.NewNop()
	if o.Seen == nil {
		o.Seen = objects.New().Seen
	}
	f := New(o)
	t.Cleanup(f.Close)
	return f, c
}

func ask(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func TestHealthFollowsChangesAndTheNode(t *testing.T) {
	t.Parallel()
	f, c := newTest(t, Options{})
	h := f.healthRoutes()
	tainted := &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "other"}, {Key: taintToBeDeleted}}}}
	deleted := &corev1.Node{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{Time: begin}}}
	apply := func() { f.Applied(Applied{Began: c.now()}) }
	for _, step := range []struct {
		name           string
		at             time.Duration
		do             func()
		healthz, livez int
		body           string // of /healthz
	}{
		{"at the start", 0, func() {}, 503, 200, `{"lastUpdated":"0001-01-01T00:00:00Z","currentTime":"2026-11-30T12:00:00Z","nodeEligible":true,"healthy":false}`},
		{"nothing to apply for long, since the API server is away", time.Hour, f.Queued, 503, 200, ""},
		{"synced", time.Hour, apply, 200, 200, `{"lastUpdated":"2026-11-30T13:00:00Z","currentTime":"2026-11-30T13:00:00Z","nodeEligible":true,"healthy":true}`},
		{"no change for long", 2 * time.Hour, func() {}, 200, 200, `{"lastUpdated":"2026-11-30T14:00:00Z","currentTime":"2026-11-30T14:00:00Z","nodeEligible":true,"healthy":true}`},
		{"a change waits", 2 * time.Hour, f.Queued, 200, 200, ""},
		{"another one as well", 2*time.Hour + 59*time.Second, f.Queued, 200, 200, ""},
		{"the first is late", 2*time.Hour + 60*time.Second, func() {}, 503, 503, `{"lastUpdated":"2026-11-30T13:00:00Z","currentTime":"2026-11-30T14:01:00Z","nodeEligible":true,"healthy":false}`},
		{"applied, but for the second", 2*time.Hour + 60*time.Second, func() { f.Applied(Applied{Began: begin.Add(2*time.Hour + 30*time.Second)}) }, 200, 200, ""},
		{"which is late at last", 2*time.Hour + 90*time.Second, func() {}, 503, 503, ""},
		{"applied", 2*time.Hour + 90*time.Second, apply, 200, 200, ""},
		{"the Node is about to go", 2*time.Hour + 91*time.Second, func() { f.SetNode(tainted) }, 503, 200, `{"lastUpdated":"2026-11-30T14:01:30Z","currentTime":"2026-11-30T14:01:31Z","nodeEligible":false,"healthy":true}`},
		{"it is deleted", 3 * time.Hour, func() { f.SetNode(deleted) }, 503, 200, ""},
		{"it is there", 3 * time.Hour, func() { f.SetNode(&corev1.Node{}) }, 200, 200, ""},
		{"it is gone", 3 * time.Hour, func() { f.SetNode(nil) }, 503, 200, ""},
	} {
		c.after(step.at)
		step.do()
		healthz, livez := ask(h, "/healthz"), ask(h, "/livez")
		if healthz.Code != step.healthz || livez.Code != step.livez {
			t.Errorf("%s: /healthz %d, /livez %d; want %d, %d", step.name, healthz.Code, livez.Code, step.healthz, step.livez)
		}
		if got := strings.TrimSpace(healthz.Body.String()); step.body != "" && got != step.body {
			t.Errorf("%s: got  %s\nwant %s", step.name, got, step.body)
		}
		if strings.Contains(livez.Body.String(), "nodeEligible") {
			t.Errorf("%s: /livez speaks of the node: %s", step.name, livez.Body)
		}
		if got := healthz.Header(); got.Get("Content-Type") != "application/json" || got.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: header %v", step.name, got)
		}
	}
	const want = `
# HELP kubeproxy_proxy_healthz_total Cumulative proxy healthz HTTP status
# TYPE kubeproxy_proxy_healthz_total counter
kubeproxy_proxy_healthz_total{code="200"} 7
kubeproxy_proxy_healthz_total{code="503"} 7
# HELP kubeproxy_proxy_livez_total Cumulative proxy livez HTTP status
# TYPE kubeproxy_proxy_livez_total counter
kubeproxy_proxy_livez_total{code="200"} 12
kubeproxy_proxy_livez_total{code="503"} 2
`
	if err := testutil.GatherAndCompare(f.metrics.registry, strings.NewReader(want), "kubeproxy_proxy_healthz_total", "kubeproxy_proxy_livez_total"); err != nil {
		t.Error(err)
	}
}

func TestMetricsAreKubeProxys(t *testing.T) {
	t.Parallel()
	own := prometheus.NewRegistry()
	own.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "usher_flows"}))
	store := objects.New()
	f, c := newTest(t, Options{Seen: store.Seen, Usher: own})
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b"}}
	store.SetService(service)
	store.SetService(service)
	f.Queued()
	taken := store.Take()
	store.DeleteService(objects.KeyOf(service)) // waits for the next time
	store.DeleteSlice(planner.Key{})
	c.after(3 * time.Millisecond)
	f.Applied(Applied{
		Began: begin, Seen: taken.Seen, IsFull: true, NoLocalInternal: 1, NoLocalExternal: 2,
		Triggered: []time.Time{begin.Add(-time.Hour), {}, begin.Add(time.Millisecond), begin.Add(time.Hour)}, // before usher, unknown, now, a clock that is ahead
	})
	c.after(time.Second)
	f.Applied(Applied{Began: c.now(), Seen: taken.Seen, NoLocalInternal: 1, NoLocalExternal: 2})

	h := f.metricsRoutes(own)
	got := ask(h, "/metrics").Body.String()
	for _, want := range []string{
		`kubeproxy_sync_proxy_rules_duration_seconds_bucket{le="0.001"} 1`,
		`kubeproxy_sync_proxy_rules_duration_seconds_bucket{le="0.004"} 2`,
		`kubeproxy_sync_proxy_rules_duration_seconds_bucket{le="16.384"} 2`,
		`kubeproxy_sync_full_proxy_rules_duration_seconds_sum 0.003`,
		`kubeproxy_sync_partial_proxy_rules_duration_seconds_count 1`,
		`kubeproxy_network_programming_duration_seconds_bucket{le="0.25"} 2`,
		`kubeproxy_network_programming_duration_seconds_bucket{le="59"} 2`,
		`kubeproxy_network_programming_duration_seconds_bucket{le="115"} 2`,
		`kubeproxy_network_programming_duration_seconds_bucket{le="300"} 2`,
		`kubeproxy_network_programming_duration_seconds_count 2`,
		`kubeproxy_sync_proxy_rules_service_changes_pending 1`,
		`kubeproxy_sync_proxy_rules_service_changes_total 3`,
		`kubeproxy_sync_proxy_rules_endpoint_changes_pending 1`,
		`kubeproxy_sync_proxy_rules_endpoint_changes_total 1`,
		`kubeproxy_sync_proxy_rules_last_timestamp_seconds 1.796040001e+09`,
		`kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds 1.79604e+09`,
		`kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy="internal"} 1`,
		`kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy="external"} 2`,
		`usher_flows 0`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if w := ask(h, "/proxyMode"); w.Body.String() != "usher" || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("/proxyMode: %q, %v", w.Body, w.Header())
	}
	if w := ask(h, "/debug/pprof/"); w.Code != http.StatusNotFound {
		t.Errorf("/debug/pprof/: %d", w.Code)
	}
}

// freeAddr returns an address of loopback that no other test has, most probably.
func freeAddr() netip.Addr {
	return netip.AddrFrom4([4]byte{127, byte(100 + rand.IntN(100)), byte(rand.IntN(256)), byte(1 + rand.IntN(250))})
}

func get(t *testing.T, address, path string) (*http.Response, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// TestAnAddressInUseIsHadLater holds an address until usher has said that it is in use.
func TestAnAddressInUseIsHadLater(t *testing.T) {
	t.Parallel()
	held, err := net.Listen("tcp4", netip.AddrPortFrom(freeAddr(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.InfoLevel)
	served := make(chan string, 10)
	log := zap.New(core, zap.Hooks(func(e zapcore.Entry) error { served <- e.Message; return nil }))
	f := start(Options{Metrics: held.Addr().String(), Seen: objects.New().Seen, Log: log}, time.Millisecond)
	defer f.Close()
	if got := <-served; !strings.HasPrefix(got, "metrics is not served") {
		t.Fatal(got)
	}
	held.Close()
	if got := <-served; got != "metrics is served" {
		t.Fatal(got)
	}
	if _, body := get(t, held.Addr().String(), "/proxyMode"); body != "usher" {
		t.Errorf("/proxyMode: %q", body)
	}
	if got := logs.Len(); got != 2 {
		t.Errorf("%d log lines, not 2: %v", got, logs.All())
	}
}

// TestSilentClientsDoNotKeepProbesOut has more silent clients than there is room for. The oldest make room.
func TestSilentClientsDoNotKeepProbesOut(t *testing.T) {
	t.Parallel()
	f, _ := newTest(t, Options{})
	addr := freeAddr()
	f.SetHealth([]netip.Addr{addr}, []planner.Health{{Port: 20001}})
	address := netip.AddrPortFrom(addr, 20001).String()
	for range maxConns + 10 {
		c, err := net.Dial("tcp4", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if resp, _ := get(t, address, "/"); resp.StatusCode != 503 {
		t.Errorf("a probe is answered with %d", resp.StatusCode)
	}
	l := f.ports.byPort[20001].listeners[addr].(*boundedListener)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open.Len() > maxConns {
		t.Errorf("%d connections are open", l.open.Len())
	}
}

func TestHealthCheckNodePorts(t *testing.T) {
	t.Parallel()
	f, c := newTest(t, Options{})
	f.Applied(Applied{Began: c.now()})
	one := freeAddr()
	two := one.Next()
	const first, second = 20001, 20002 // the kernel gives these to nobody
	a, b := planner.Key{Namespace: "default", Name: "a"}, planner.Key{Namespace: "default", Name: "b"}
	const format = `{"service":{"namespace":"default","name":"%s"},"localEndpoints":%d,"serviceProxyHealthy":true}` + "\n"
	set := func(addrs []netip.Addr, failed int, health ...planner.Health) {
		t.Helper()
		if got := f.SetHealth(addrs, health); len(got) != failed {
			t.Fatalf("failed: %v", got)
		}
	}
	check := func(addr netip.Addr, port uint16, code int, name string, weight int) {
		t.Helper()
		resp, body := get(t, netip.AddrPortFrom(addr, port).String(), "/")
		if want := fmt.Sprintf(format, name, weight); resp.StatusCode != code || body != want {
			t.Errorf("got %d %s want %d %s", resp.StatusCode, body, code, want)
		}
		if got := resp.Header.Get("X-Load-Balancing-Endpoint-Weight"); got != fmt.Sprint(weight) {
			t.Errorf("weight %s, not %d", got, weight)
		}
		if got := resp.Header; got.Get("X-Content-Type-Options") != "nosniff" || got.Get("Content-Type") != "application/json" {
			t.Errorf("header %v", got)
		}
	}
	isFree := func(addr netip.Addr, port uint16) {
		t.Helper()
		l, err := net.Listen("tcp4", netip.AddrPortFrom(addr, port).String())
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}

	set([]netip.Addr{one, two}, 0, planner.Health{Service: a, Port: first, LocalEndpoints: 2})
	check(one, first, 200, "a", 2)
	check(two, first, 200, "a", 2)
	set([]netip.Addr{one}, 0, planner.Health{Service: a, Port: first}, planner.Health{Service: b, Port: second, LocalEndpoints: 1})
	check(one, first, 503, "a", 0)
	check(one, second, 200, "b", 1)
	isFree(two, first)

	set([]netip.Addr{one}, 1, planner.Health{Service: b, Port: first, LocalEndpoints: 3}, planner.Health{Service: a, Port: first, LocalEndpoints: 4})
	check(one, first, 200, "a", 4)
	isFree(one, second)
	set([]netip.Addr{one}, 0, planner.Health{Service: b, Port: first, LocalEndpoints: 3})
	check(one, first, 200, "b", 3)

	f.Queued()
	c.after(maxDelay) // nothing is applied any more
	if resp, body := get(t, netip.AddrPortFrom(one, first).String(), "/"); resp.StatusCode != 503 || !strings.Contains(body, `"serviceProxyHealthy":false`) {
		t.Errorf("while usher is late: %d %s", resp.StatusCode, body)
	}

	set([]netip.Addr{one}, 0)
	isFree(one, first)
	held, err := net.Listen("tcp4", netip.AddrPortFrom(one, first).String())
	if err != nil {
		t.Fatal(err)
	}
	set([]netip.Addr{one, two}, 1, planner.Health{Service: a, Port: first})
	if resp, _ := get(t, netip.AddrPortFrom(two, first).String(), "/"); resp.StatusCode != 503 {
		t.Errorf("beside an address in use: %d", resp.StatusCode)
	}
	held.Close()
	set([]netip.Addr{one, two}, 0, planner.Health{Service: a, Port: first})
	f.Close()
	isFree(one, first)
}
