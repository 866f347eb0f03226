package metrics

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"usher/balancer"
	"usher/proxy"
	"usher/proxy/flow"
	"usher/proxy/limit"
	"usher/proxy/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeSource has services that no server runs.
type fakeSource struct {
	services []*proxy.Service
	rules    *rules.Set
	counted  int
}

func (s *fakeSource) Services() []*proxy.Service { return s.services }
func (s *fakeSource) CountBytes()                { s.counted++ }
func (s *fakeSource) Open() int                  { return 3 }
func (s *fakeSource) MaxConns() int              { return 100 }
func (s *fakeSource) Dropped() int               { return 4 }
func (s *fakeSource) MaxDropped() int            { return 1000 }
func (s *fakeSource) Rules() *rules.Set          { return s.rules }
func (s *fakeSource) Workers() []proxy.WorkerStats {
	return []proxy.WorkerStats{{Busy: 1500 * time.Millisecond, LongestTurn: 2 * time.Millisecond, Connections: 2, Sessions: 1}}
}

// testProcess was upgraded twice, and its file is wrong by now.
func testProcess() Process {
	return Process{Upgrades: 2, Taken: time.UnixMilli(1_500), IsRefused: true, LostLines: 5}
}

// add adds a service with so many backends, each of which has had a connection.
func (s *fakeSource) add(t testing.TB, name, network string, backends int) *balancer.Pool {
	t.Helper()
	pool, err := balancer.NewPool(balancer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var specs []balancer.Spec
	for i := range backends {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80)
		specs = append(specs, balancer.Spec{Endpoint: balancer.Endpoint{Addr: at}, Weight: 1, Check: balancer.Up})
	}
	pool.Update(specs, 0)
	svc := flow.NewService(name, 0)
	c := proxy.ServiceConfig{Name: name, Pool: pool, Listeners: []proxy.Listener{{Network: network}}}
	svc.SetSettings(flow.NewSettings(svc, c, nil, nil))
	s.services = append(s.services, svc)
	for _, b := range pool.Backends() {
		b.CountConnect(3 * time.Millisecond)
		b.CountBytes(10, 20)
	}
	return pool
}

// TestMetricsAreConventional holds names, units and help to Prometheus' conventions.
func TestMetricsAreConventional(t *testing.T) {
	t.Parallel()
	s := new(fakeSource)
	s.add(t, "web", "tcp", 2)
	s.add(t, "dns", "udp", 1)
	s.rules = judged(t, &rules.Rule{Matches: []rules.Match{&rules.Comment{Text: "all"}}})
	for _, svc := range s.services {
		for d := range flow.Drops() {
			svc.CountDrop(d, 1)
		}
	}
	problems, err := testutil.GatherAndLint(Registry(s, testProcess))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	s := new(fakeSource)
	pool := s.add(t, "web", "tcp", 1)
	pool.Update([]balancer.Spec{
		{Endpoint: pool.Backends()[0].Endpoint(), Weight: 7, Check: balancer.Up, Admin: balancer.Drain},
		{Endpoint: balancer.Endpoint{Path: "/run/\xff"}, Weight: 1, Check: balancer.Up},
	}, 0)
	pool.Backends()[1].CountFailure(balancer.FailedRefused)
	s.services[0].CountShortage()
	const want = `
# HELP usher_backend_bytes_total Bytes passed on: up from clients, down to them.
# TYPE usher_backend_bytes_total counter
usher_backend_bytes_total{backend="10.0.0.0:80",direction="down",service="web"} 20
usher_backend_bytes_total{backend="10.0.0.0:80",direction="up",service="web"} 10
usher_backend_bytes_total{backend="unix:///run/�",direction="down",service="web"} 0
usher_backend_bytes_total{backend="unix:///run/�",direction="up",service="web"} 0
# HELP usher_backend_connect_seconds Time that the backend took to accept a connection.
# TYPE usher_backend_connect_seconds histogram
usher_backend_connect_seconds_bucket{backend="10.0.0.0:80",service="web",le="0.0005"} 0
usher_backend_connect_seconds_bucket{backend="10.0.0.0:80",service="web",le="0.001"} 0
usher_backend_connect_seconds_bucket{backend="10.0.0.0:80",service="web",le="0.005"} 1
usher_backend_connect_seconds_bucket{backend="10.0.0.0:80",service="web",le="0.025"} 1
usher_backend_connect_seconds_bucket{backend="10.0.0.0:80",service="web",le="0.1"} 1
usher_backend_connect_seconds_bucket{backend="10.0.0.0:80",service="web",le="0.25"} 1
usher_backend_connect_seconds_bucket{backend="10.0.0.0:80",service="web",le="1"} 1
usher_backend_connect_seconds_bucket{backend="10.0.0.0:80",service="web",le="5"} 1
usher_backend_connect_seconds_bucket{backend="10.0.0.0:80",service="web",le="+Inf"} 1
usher_backend_connect_seconds_sum{backend="10.0.0.0:80",service="web"} 0.003
usher_backend_connect_seconds_count{backend="10.0.0.0:80",service="web"} 1
# HELP usher_backend_failures_total Attempts and flows that failed, by reason.
# TYPE usher_backend_failures_total counter
usher_backend_failures_total{backend="unix:///run/�",reason="other",service="web"} 0
usher_backend_failures_total{backend="unix:///run/�",reason="refused",service="web"} 1
usher_backend_failures_total{backend="unix:///run/�",reason="reset",service="web"} 0
usher_backend_failures_total{backend="unix:///run/�",reason="timeout",service="web"} 0
usher_backend_failures_total{backend="unix:///run/�",reason="unreachable",service="web"} 0
# HELP usher_backend_status 1 for the status that the backend has.
# TYPE usher_backend_status gauge
usher_backend_status{backend="10.0.0.0:80",service="web",status="drain"} 1
usher_backend_status{backend="unix:///run/�",service="web",status="up"} 1
# HELP usher_backend_up 1 if the backend is up, else 0.
# TYPE usher_backend_up gauge
usher_backend_up{backend="10.0.0.0:80",service="web"} 0
usher_backend_up{backend="unix:///run/�",service="web"} 1
# HELP usher_backend_weight Share of new flows in relation to other backends.
# TYPE usher_backend_weight gauge
usher_backend_weight{backend="10.0.0.0:80",service="web"} 7
usher_backend_weight{backend="unix:///run/�",service="web"} 1
# HELP usher_config_last_reload_success_timestamp_seconds When the config file was last taken, at the start or later.
# TYPE usher_config_last_reload_success_timestamp_seconds gauge
usher_config_last_reload_success_timestamp_seconds 1.5
# HELP usher_config_last_reload_successful 1 if the config file was taken when it was last read, else 0.
# TYPE usher_config_last_reload_successful gauge
usher_config_last_reload_successful 0
# HELP usher_dropped_clients TCP clients that a rule has dropped and that are held without an answer.
# TYPE usher_dropped_clients gauge
usher_dropped_clients 4
# HELP usher_dropped_clients_limit Dropped clients that are held at any one time. More are closed at once.
# TYPE usher_dropped_clients_limit gauge
usher_dropped_clients_limit 1000
# HELP usher_flows Flows in the connection tables: TCP connections and UDP sessions.
# TYPE usher_flows gauge
usher_flows 3
# HELP usher_flows_limit Flows that there may be at any one time.
# TYPE usher_flows_limit gauge
usher_flows_limit 100
# HELP usher_service_backends Backends of the service, by status.
# TYPE usher_service_backends gauge
usher_service_backends{service="web",status="down"} 0
usher_service_backends{service="web",status="drain"} 1
usher_service_backends{service="web",status="maint"} 0
usher_service_backends{service="web",status="unknown"} 0
usher_service_backends{service="web",status="up"} 1
# HELP usher_service_resource_shortages_total Pauses of a listener and refused sockets for lack of descriptors, memory or ports.
# TYPE usher_service_resource_shortages_total counter
usher_service_resource_shortages_total{service="web"} 1
# HELP usher_log_lines_dropped_total Log lines that were not written, since their reader was too slow.
# TYPE usher_log_lines_dropped_total counter
usher_log_lines_dropped_total 5
# HELP usher_upgrades_total Upgrades of the process that have succeeded.
# TYPE usher_upgrades_total counter
usher_upgrades_total 2
# HELP usher_worker_busy_seconds_total Time that an event loop did not wait for events.
# TYPE usher_worker_busy_seconds_total counter
usher_worker_busy_seconds_total{worker="0"} 1.5
# HELP usher_worker_flows Flows in the connection tables of an event loop.
# TYPE usher_worker_flows gauge
usher_worker_flows{transport="datagram",worker="0"} 1
usher_worker_flows{transport="stream",worker="0"} 2
# HELP usher_worker_longest_turn_seconds Longest turn of an event loop in the last one to two minutes.
# TYPE usher_worker_longest_turn_seconds gauge
usher_worker_longest_turn_seconds{worker="0"} 0.002
`
	if err := testutil.GatherAndCompare(Registry(s, testProcess), strings.NewReader(want), namesIn(want)...); err != nil {
		t.Error(err)
	}
	if s.counted == 0 {
		t.Error("the byte counters were not brought up to date")
	}
}

// namesIn returns the names of the metrics in a text.
func namesIn(text string) (names []string) {
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			names = append(names, strings.Fields(name)[0])
		}
	}
	return names
}

// judged returns rules that have judged a TCP client and a datagram of 100 bytes.
func judged(t testing.TB, all ...*rules.Rule) *rules.Set {
	t.Helper()
	set, err := rules.Compile(&rules.List{Chains: []*rules.Chain{{Name: rules.Input, Policy: rules.Accept, Rules: all}}}, nil, rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var holds limit.Holds
	at := netip.MustParseAddrPort("10.0.0.1:1")
	set.Decide(&rules.Packet{Client: at, Local: at, Protocol: rules.TCP}, 0, &holds)
	set.Decide(&rules.Packet{Client: at, Local: at, Protocol: rules.UDP, Bytes: 100}, 0, &holds)
	return set
}

// TestRules: rules with a comment have series by it, and no more than there may be.
func TestRules(t *testing.T) {
	t.Parallel()
	comment := func(text string) []rules.Match { return []rules.Match{&rules.Comment{Text: text}} }
	s := &fakeSource{rules: judged(t,
		&rules.Rule{Protocol: rules.UDP, Matches: comment("both")}, &rules.Rule{Protocol: rules.TCP},
		&rules.Rule{Matches: comment("both")}, &rules.Rule{Target: rules.Drop, Protocol: rules.TCP, Matches: comment("web")})}
	const want = `
# HELP usher_policy_bytes_total Bytes of these datagrams, and of flows that no rule decided, both ways.
# TYPE usher_policy_bytes_total counter
usher_policy_bytes_total 100
# HELP usher_policy_datagrams_total Datagrams without a flow that no rule decided.
# TYPE usher_policy_datagrams_total counter
usher_policy_datagrams_total 1
# HELP usher_policy_flows_total TCP connections that no rule decided.
# TYPE usher_policy_flows_total counter
usher_policy_flows_total 0
# HELP usher_rule_bytes_total Bytes of these datagrams, and of flows that the rules decided, both ways.
# TYPE usher_rule_bytes_total counter
usher_rule_bytes_total{chain="INPUT",comment="both"} 200
usher_rule_bytes_total{chain="INPUT",comment="web"} 0
# HELP usher_rule_datagrams_total Datagrams without a flow that matched the rules with a comment.
# TYPE usher_rule_datagrams_total counter
usher_rule_datagrams_total{chain="INPUT",comment="both"} 2
usher_rule_datagrams_total{chain="INPUT",comment="web"} 0
# HELP usher_rule_flows_total TCP connections that matched the rules with a comment.
# TYPE usher_rule_flows_total counter
usher_rule_flows_total{chain="INPUT",comment="both"} 1
usher_rule_flows_total{chain="INPUT",comment="web"} 1
# HELP usher_rules Rules that judge new flows, of all chains.
# TYPE usher_rules gauge
usher_rules 4
`
	if err := testutil.GatherAndCompare(Registry(s, testProcess), strings.NewReader(want), namesIn(want)...); err != nil {
		t.Error(err)
	}
	var many []*rules.Rule
	for i := range maxComments + 10 {
		many = append(many, &rules.Rule{Matches: comment(fmt.Sprint(i))})
	}
	s.rules = judged(t, many...)
	if n := strings.Count(scrape(t, Handler(s, testProcess)), "\nusher_rule_flows_total{"); n != maxComments {
		t.Errorf("%d series, want %d", n, maxComments)
	}
}

// TestAServerIsASource scrapes a real server, and what this process has of its own.
func TestAServerIsASource(t *testing.T) {
	t.Parallel()
	s, err := proxy.New(proxy.Options{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Start()
	text := scrape(t, Handler(s, testProcess))
	for _, want := range []string{
		"\nusher_flows 0\n", "\nusher_flows_limit ", "\nusher_process_cpu_seconds_total{mode=\"user\"} ",
		"\ngo_goroutines ", "\ngo_build_info{",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
}

func scrape(t testing.TB, h http.Handler) string {
	t.Helper()
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	text, err := io.ReadAll(answer.Result().Body)
	if err != nil || answer.Code != http.StatusOK {
		t.Fatalf("status %d, %v: %s", answer.Code, err, text)
	}
	return string(text)
}

// BenchmarkScrape is of 100 services with 10 backends each.
func BenchmarkScrape(b *testing.B) {
	s := new(fakeSource)
	for i := range 100 {
		s.add(b, fmt.Sprintf("service-%d", i), "tcp", 10)
	}
	h, w := Handler(s, testProcess), &discarded{header: make(http.Header)}
	r := httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody)
	user, system, _ := cpuTimes()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
	user2, system2, _ := cpuTimes()
	b.ReportMetric(float64((user2+system2-user-system).Microseconds())/1000/float64(b.N), "cpu-ms/op")
	b.ReportMetric(float64(w.n)/1000/float64(b.N), "KB/op")
}

// discarded is an answer that nobody reads.
type discarded struct {
	header http.Header
	n      int
}

func (d *discarded) Header() http.Header { return d.header }
func (d *discarded) WriteHeader(int)     {}
func (d *discarded) Write(p []byte) (int, error) {
	d.n += len(p)
	return len(p), nil
}

// TestManyBackendsHaveNoSeries counts the series of single backends around the bound.
func TestManyBackendsHaveNoSeries(t *testing.T) {
	t.Parallel()
	s := new(fakeSource)
	s.add(t, "one", "tcp", 2)
	s.add(t, "two", "tcp", 1)
	for most, want := range map[int]int{0: 3, 3: 3, 2: 0} {
		r := newRegistry(s, testProcess, most)
		if got, err := testutil.GatherAndCount(r, "usher_backend_up"); err != nil || got != want {
			t.Errorf("at most %d: %d series, %v", most, got, err)
		}
		if got, err := testutil.GatherAndCount(r, "usher_service_backends"); err != nil || got == 0 {
			t.Errorf("at most %d: no backends of services, %v", most, err)
		}
	}
}
