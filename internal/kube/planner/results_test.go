package planner

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"usher/internal/config"
)

var compareAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func addrs(words ...string) (all []netip.Addr) {
	for _, w := range words {
		all = append(all, netip.MustParseAddr(w))
	}
	return all
}

// unspecified are node ports on all addresses.
var unspecified = addrs("0.0.0.0", "::")

// TestRecord states the names of Services.
func TestRecord(t *testing.T) {
	t.Parallel()
	labels := map[string]string{corev1.IsHeadlessService: ""}
	db := slice("db-1", "sql=5432 x=9/SCTP", "10.0.0.2 hostname=db-1", "10.0.0.1 hostname=db-0", "10.0.0.3 notready", "10.0.0.4 terminating")
	db.Labels = labels
	more := slice("db-2", "sql=5432 admin=1", "10.0.0.1 hostname=db-0", "127.0.0.1")
	sql := Port{"sql", "tcp", 5432}
	for name, c := range map[string]struct {
		planCase
		want Record
	}{
		"ClusterIP": {planCase{spec: "{clusterIPs: [10.96.0.1, 'fd00:96::1'], ports: [{name: a, port: 80}, {name: b, port: 53, protocol: UDP}, {name: c, port: 1, protocol: SCTP}]}"},
			Record{Addrs: addrs("10.96.0.1", "fd00:96::1"), ClusterIPs: addrs("10.96.0.1", "fd00:96::1"), Ports: []Port{{"a", "tcp", 80}, {"b", "udp", 53}}}},
		"mapped": {planCase{spec: clusterIP, env: mapped},
			Record{Addrs: addrs("127.96.0.1"), ClusterIPs: addrs("10.96.0.1"), Ports: []Port{{"", "tcp", 10080}}}},
		"of another proxy": {planCase{spec: clusterIP, env: mapped, with: func(s *corev1.Service) { s.Labels = map[string]string{labelServiceProxyName: "x"} }},
			Record{Addrs: addrs("10.96.0.1"), ClusterIPs: addrs("10.96.0.1"), Ports: []Port{{"", "tcp", 80}}}},
		"ExternalName": {planCase{spec: "{type: ExternalName, externalName: example.com}"}, Record{ExternalName: "example.com"}},
		"headless": {planCase{spec: "{clusterIP: None, ports: [{name: sql, port: 5432}]}", slices: []*discoveryv1.EndpointSlice{more, db}},
			Record{Ports: []Port{sql}, Headless: []Endpoint{
				{"db-0", addrs("10.0.0.1")[0], []Port{sql, {"admin", "tcp", 1}}}, {"db-1", addrs("10.0.0.2")[0], []Port{sql}}}}},
		"headless, with those that are not ready": {
			planCase{spec: "{clusterIPs: [None], publishNotReadyAddresses: true}", slices: []*discoveryv1.EndpointSlice{slice("db-1", "", "10.0.0.3 notready", "10.0.0.4 terminating")}},
			Record{Headless: []Endpoint{{Addr: addrs("10.0.0.3")[0]}, {Addr: addrs("10.0.0.4")[0]}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.want.Key = Key{"default", "web"}
			if diff := cmp.Diff(c.want, Plan(c.input(t)).Record, compareAddrs); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestCounts states the health and the counts of a plan.
func TestCounts(t *testing.T) {
	t.Parallel()
	const (
		local    = "{type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 32000, clusterIPs: [10.96.0.1, 'fd00:96::1'], ports: [{name: a, port: 80, nodePort: 1}, {name: b, port: 81}]}"
		internal = "{clusterIP: 10.96.0.1, internalTrafficPolicy: Local, ports: [{port: 80}]}"
	)
	two := []*discoveryv1.EndpointSlice{
		slice("web-1", "a=1 b=2", "10.0.0.1 on=a", "10.0.0.2 on=a notready", "10.0.0.3 on=a terminating", "10.0.0.4 on=b"),
		slice("web-2", "a=1 b=2", "fd00:10::1 on=a", "fd00:10::4 on=b")}
	for name, c := range map[string]struct {
		planCase
		health                           int // endpoints; -1: there is no port
		endpoints                        int
		noLocalInternal, noLocalExternal int
	}{
		"local":                {planCase{spec: local, slices: two}, 1, 8, 0, 0},
		"local without a node": {planCase{spec: local, slices: two, env: func(e *Env) { e.Node.Name = "" }}, 2, 8, 0, 0},
		"local elsewhere":      {planCase{spec: local, slices: two, env: func(e *Env) { e.Node.Name = "c" }}, 0, 8, 0, 2},
		"no endpoints":         {planCase{spec: local}, 0, 0, 0, 0},
		"internal":             {planCase{spec: internal, slices: pods}, -1, 2, 0, 0},
		"internal elsewhere":   {planCase{spec: internal, slices: away}, -1, 1, 1, 0},
		"policy Cluster":       {planCase{spec: "{type: LoadBalancer, healthCheckNodePort: 32000, clusterIP: 10.96.0.1, ports: [{port: 80}]}", slices: pods}, -1, 2, 0, 0},
		"another type":         {planCase{spec: "{type: NodePort, externalTrafficPolicy: Local, healthCheckNodePort: 32000, clusterIP: 10.96.0.1, ports: [{port: 80}]}", slices: pods}, -1, 2, 0, 0},
		"headless":             {planCase{spec: "{clusterIP: None}", slices: pods}, -1, 2, 0, 0},
		"a port that is none":  {planCase{spec: "{type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 70000, clusterIP: 10.96.0.1, ports: [{port: 80}]}", slices: pods}, -1, 2, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := Plan(c.input(t))
			health := -1
			if r.Health != nil {
				health = r.Health.LocalEndpoints
				if r.Health.Port != 32000 || r.Health.Service != (Key{"default", "web"}) {
					t.Errorf("health %v", r.Health)
				}
			}
			got := [4]int{health, r.Endpoints, r.NoLocalInternal, r.NoLocalExternal}
			if want := [4]int{c.health, c.endpoints, c.noLocalInternal, c.noLocalExternal}; got != want {
				t.Errorf("health, endpoints, without local ones %v, want %v", got, want)
			}
		})
	}
}

// TestTriggered states when the last change happened.
func TestTriggered(t *testing.T) {
	t.Parallel()
	a, b, c := slice("web-1", "=1", "10.0.0.1"), slice("web-2", "=1", "10.0.0.2"), slice("web-3", "=1", "10.0.0.3")
	a.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: "2026-11-30T00:00:02.5Z"}
	b.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: "2026-11-30T00:00:01Z"}
	c.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: "yesterday"}
	r := Plan(Input{Service: service(t, clusterIP), Slices: []*discoveryv1.EndpointSlice{a, b, c}}, environment())
	if want := time.Date(2026, 11, 30, 0, 0, 2, 5e8, time.UTC); !r.Triggered.Equal(want) {
		t.Errorf("triggered at %v, want %v", r.Triggered, want)
	}
}

// TestVirtual states which addresses are shown.
func TestVirtual(t *testing.T) {
	t.Parallel()
	c := planCase{spec: "{type: LoadBalancer, externalTrafficPolicy: Local, externalIPs: [198.51.100.1], clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]}",
		status: "203.0.113.1", slices: pods, env: func(e *Env) { mapped(e); e.ExternalIPs = true }}
	want := [][]config.Virtual{
		{{Type: "ClusterIP", Address: "10.96.0.1:80", Listen: "127.96.0.1:10080"}},
		{
			{Type: "LoadBalancer", Address: "203.0.113.1:80", Listen: "203.0.113.1:80"},
			{Type: "ExternalIP", Address: "198.51.100.1:80", Listen: "198.51.100.1:80"},
			{Type: "NodePort", Address: "192.168.0.1:30080", Listen: "192.168.0.1:30080"},
		}}
	var got [][]config.Virtual
	for _, s := range Plan(c.input(t)).Services {
		got = append(got, s.Virtual)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
