package planner

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// planCase is the plan of Service default/web: its services, a line each as show writes them, and its problems by their
// reasons.
type planCase struct {
	spec     string
	status   string // addresses of the load balancer, with blanks between them; proxy: before those of ipMode Proxy
	slices   []*discoveryv1.EndpointSlice
	env      func(*Env)
	with     func(*corev1.Service)
	want     []string
	problems []string
}

func (c *planCase) input(t testing.TB) (Input, *Env) {
	in, env := Input{Service: service(t, c.spec), Slices: c.slices}, environment()
	in.Service.Status.LoadBalancer.Ingress = ingress(c.status)
	if c.with != nil {
		c.with(in.Service)
	}
	if c.env != nil {
		c.env(env)
	}
	return in, env
}

func testPlans(t *testing.T, cases map[string]planCase) {
	t.Helper()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := Plan(c.input(t))
			if diff := cmp.Diff(c.want, show(r)); diff != "" {
				t.Errorf("services (-want, +got):\n%s", diff)
			}
			var reasons []string
			for _, p := range r.Problems {
				reasons = append(reasons, p.Reason)
			}
			if diff := cmp.Diff(c.problems, reasons); diff != "" {
				t.Errorf("problems (-want, +got):\n%s\n%v", diff, r.Problems)
			}
			for _, s := range r.Services {
				if _, err := s.Completed(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// pod is a slice with one pod.
var pod = []*discoveryv1.EndpointSlice{slice("web-1", "=8080", "10.0.0.1")}

// pods have one on this node, and one on another.
var pods = []*discoveryv1.EndpointSlice{slice("web-1", "=8080", "10.0.0.1 on=a", "10.0.0.2 on=b")}

// away is a pod on another node.
var away = []*discoveryv1.EndpointSlice{slice("web-1", "=8080", "10.0.0.2 on=b")}

// TestServices has the rows of section 4.1 of the reference: what a Service says.
func TestServices(t *testing.T) {
	t.Parallel()
	const nodePort = "{type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]}"
	const balanced = "{type: LoadBalancer, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]}"
	testPlans(t, map[string]planCase{
		"ClusterIP": {spec: "{clusterIP: 10.96.0.1, ports: [{port: 80}]}", slices: pod,
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080"}},
		"ClusterIPs count before ClusterIP": {spec: "{clusterIPs: [10.96.0.2], ports: [{port: 80}]}", slices: pod,
			want: []string{"default/web: 10.96.0.2:80 > 10.0.0.1:8080"}},
		"node port": {spec: nodePort, slices: pod,
			want: []string{"default/web: 10.96.0.1:80 192.168.0.1:30080 > 10.0.0.1:8080"}},
		"node port that nobody has given": {spec: "{type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80}]}", slices: pod,
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080"}, problems: []string{invalidPort}},
		"node port of a type without": {spec: "{clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]}", slices: pod,
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080"}},
		"load balancer": {spec: balanced, status: "203.0.113.1 proxy:203.0.113.2 203.0.113.1 2001:db8::1", slices: pod,
			want: []string{"default/web: 10.96.0.1:80 203.0.113.1:80 192.168.0.1:30080 > 10.0.0.1:8080"}},
		"load balancer without node ports": {spec: "{type: LoadBalancer, allocateLoadBalancerNodePorts: false, clusterIP: 10.96.0.1, ports: [{port: 80}]}",
			status: "203.0.113.1", slices: pod, want: []string{"default/web: 10.96.0.1:80 203.0.113.1:80 > 10.0.0.1:8080"}},
		"load balancer's address of another type": {spec: nodePort, status: "203.0.113.1", slices: pod,
			want: []string{"default/web: 10.96.0.1:80 192.168.0.1:30080 > 10.0.0.1:8080"}},
		"ExternalName": {spec: "{type: ExternalName, clusterIP: 10.96.0.1, externalName: example.com, ports: [{port: 80}]}", slices: pod},
		"headless":     {spec: "{clusterIP: None, ports: [{port: 80}]}", slices: pod},
		"external IPs are off": {spec: "{clusterIP: 10.96.0.1, externalIPs: [198.51.100.1], ports: [{port: 80}]}", slices: pod,
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080"}},
		"external IPs": {spec: "{clusterIP: 10.96.0.1, externalIPs: [198.51.100.1, 'fd00::9', 0.0.0.0, x], ports: [{port: 80}]}", slices: pod,
			env:      func(e *Env) { e.ExternalIPs = true },
			want:     []string{"default/web: 10.96.0.1:80 198.51.100.1:80 > 10.0.0.1:8080"},
			problems: []string{invalidAddress, invalidAddress}},
		"affinity": {spec: "{clusterIP: 10.96.0.1, sessionAffinity: ClientIP, ports: [{port: 80}]}", slices: pod,
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080 persist=3h,quiesced=leave"}},
		"affinity with a timeout": {spec: "{clusterIP: 10.96.0.1, sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 10}}, ports: [{port: 80}]}", slices: pod,
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080 persist=10s,quiesced=leave"}},
		"affinity with an impossible timeout": {spec: "{clusterIP: 10.96.0.1, sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}, ports: [{port: 80}]}", slices: pod,
			want:     []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080 persist=3h,quiesced=leave"},
			problems: []string{invalidSpec}},
		"not ready, but published": {spec: "{clusterIP: 10.96.0.1, publishNotReadyAddresses: true, ports: [{port: 80}]}",
			slices: []*discoveryv1.EndpointSlice{slice("web-1", "=8080", "10.0.0.1 notready", "10.0.0.2 terminating")},
			want:   []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080 10.0.0.2:8080"}},
		"traffic distribution is what hints say": {spec: "{clusterIP: 10.96.0.1, trafficDistribution: PreferSameZone, ports: [{port: 80}]}", slices: pods,
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080 10.0.0.2:8080"}},
		"dual stack": {spec: "{type: NodePort, clusterIPs: [10.96.0.1, 'fd00:96::1', 10.96.0.2], ports: [{port: 80, nodePort: 30080}]}",
			slices: []*discoveryv1.EndpointSlice{slice("web-1", "=8080", "10.0.0.1"), slice("web-2", "=8080", "fd00:10::1")},
			want: []string{
				"default/web: 10.96.0.1:80 192.168.0.1:30080 > 10.0.0.1:8080",
				"default/web/ipv6: [fd00:96::1]:80 [fd00::1]:30080 > [fd00:10::1]:8080"}},
		"IPv6 alone": {spec: "{clusterIP: 'fd00:96::1', ports: [{port: 80}]}",
			slices: []*discoveryv1.EndpointSlice{slice("web-1", "=8080", "fd00:10::1"), slice("web-2", "=8080", "10.0.0.1")},
			want:   []string{"default/web/ipv6: [fd00:96::1]:80 > [fd00:10::1]:8080"}},
		"of another proxy": {spec: "{clusterIP: 10.96.0.1, ports: [{port: 80}]}", slices: pod,
			with: func(s *corev1.Service) { s.Labels = map[string]string{labelServiceProxyName: ""} }},
		"mapped, with low ports": {spec: "{clusterIP: 10.96.0.1, ports: [{name: a, port: 80}, {name: b, port: 1024}, {name: c, port: 10080}]}",
			slices: []*discoveryv1.EndpointSlice{slice("web-1", "a=1 b=2 c=3", "10.0.0.1")}, env: mapped,
			want: []string{
				"default/web:a: 127.96.0.1:10080 > 10.0.0.1:1",
				"default/web:b: 127.96.0.1:1024 > 10.0.0.1:2"},
			problems: []string{invalidPort}},
		"low ports of an address that is bound as it is": {spec: "{clusterIP: 10.96.0.1, ports: [{port: 80}]}", slices: pod,
			env:  func(e *Env) { e.LowPort = 1024 },
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080"}},
		"without ports":                  {spec: "{clusterIP: 10.96.0.1}", slices: pod, problems: []string{invalidSpec}},
		"without a ClusterIP":            {spec: "{ports: [{port: 80}]}", slices: pod, problems: []string{invalidClusterIP}},
		"a ClusterIP that is none":       {spec: "{clusterIP: 10.96.0.256, ports: [{port: 80}]}", slices: pod, problems: []string{invalidClusterIP}},
		"a ClusterIP that is everywhere": {spec: "{clusterIP: 0.0.0.0, ports: [{port: 80}]}", slices: pod, problems: []string{invalidClusterIP}},
		"no address to listen on": {spec: "{clusterIP: 10.96.0.1, ports: [{port: 80}]}", slices: pod,
			env:      func(e *Env) { e.Listen = func(netip.Addr) netip.Addr { return netip.Addr{} } },
			problems: []string{invalidClusterIP}},
	})
}

// mapped maps 10.96.0.0/16 to 127.96.0.0/16, where low ports cannot be bound.
func mapped(e *Env) {
	e.LowPort = 1024
	e.Listen = func(ip netip.Addr) netip.Addr {
		b := ip.As4()
		b[0] = 127
		return netip.AddrFrom4(b)
	}
}

// TestPorts has what ports of Services and of slices may be.
func TestPorts(t *testing.T) {
	t.Parallel()
	long := "a23456789-123456789-123456789-123456789-123456789-123456789-123"
	testPlans(t, map[string]planCase{
		"two protocols at one number": {spec: "{clusterIP: 10.96.0.1, ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]}",
			slices: []*discoveryv1.EndpointSlice{slice("web-1", "dns=5353/UDP dns-tcp=5354/TCP", "10.0.0.1")},
			want: []string{
				"default/web:dns: 10.96.0.1:53 > 10.0.0.1:5353",
				"default/web:dns-tcp: 10.96.0.1:53 > 10.0.0.1:5354"}},
		"the protocol counts with the name": {spec: "{clusterIP: 10.96.0.1, ports: [{name: dns, port: 53, protocol: UDP}]}",
			slices: []*discoveryv1.EndpointSlice{slice("web-1", "dns=5353/TCP", "10.0.0.1")},
			want:   []string{"default/web:dns: 10.96.0.1:53 >"}},
		"SCTP is said": {spec: "{clusterIP: 10.96.0.1, ports: [{name: a, port: 80}, {name: b, port: 81, protocol: SCTP}]}",
			slices:   []*discoveryv1.EndpointSlice{slice("web-1", "a=1 b=2/SCTP", "10.0.0.1")},
			want:     []string{"default/web:a: 10.96.0.1:80 > 10.0.0.1:1"},
			problems: []string{unsupported}},
		"a named target port is another one in each slice": {spec: "{clusterIP: 10.96.0.1, ports: [{name: a, port: 80, targetPort: http}]}",
			slices: []*discoveryv1.EndpointSlice{slice("web-1", "a=1", "10.0.0.1"), slice("web-2", "a=2", "10.0.0.2")},
			want:   []string{"default/web:a: 10.96.0.1:80 > 10.0.0.1:1 10.0.0.2:2"}},
		"a slice without the port": {spec: "{clusterIP: 10.96.0.1, ports: [{name: a, port: 80}]}",
			slices: []*discoveryv1.EndpointSlice{slice("web-1", "b=1", "10.0.0.1"), slice("web-2", "a=2", "10.0.0.2"), slice("web-3", "a=0", "10.0.0.3"), slice("web-4", "a", "10.0.0.4"), slice("web-5", "", "10.0.0.5")},
			want:   []string{"default/web:a: 10.96.0.1:80 > 10.0.0.2:2"}},
		"a slice with a wrong port": {spec: "{clusterIP: 10.96.0.1, ports: [{port: 80}]}",
			slices:   []*discoveryv1.EndpointSlice{slice("web-1", "=70000 =-1 =8080", "10.0.0.1")},
			want:     []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080"},
			problems: []string{invalidPort, invalidPort}},
		"wrong ports": {spec: "{type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 0}, {name: a, port: 65536}, {name: b, port: 80, nodePort: 70000}]}",
			slices:   []*discoveryv1.EndpointSlice{slice("web-1", "b=1", "10.0.0.1")},
			want:     []string{"default/web:b: 10.96.0.1:80 > 10.0.0.1:1"},
			problems: []string{invalidPort, invalidPort, invalidPort}},
		"the same port twice": {spec: "{clusterIP: 10.96.0.1, ports: [{port: 80}, {port: 81}, {name: a, port: 80}]}", slices: pod,
			want:     []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080"},
			problems: []string{invalidPort, invalidPort}},
		"names of 63 letters": {spec: "{clusterIP: 10.96.0.1, ports: [{name: " + long + ", port: 80}]}",
			slices: []*discoveryv1.EndpointSlice{slice("web-1", long+"=1", "10.0.0.1")},
			with:   func(s *corev1.Service) { s.Namespace, s.Name = long, long },
			want:   []string{long + "/" + long + ":" + long + ": 10.96.0.1:80 > 10.0.0.1:1"}},
		"a name that is none": {spec: "{clusterIP: 10.96.0.1, ports: [{port: 80}, {name: ' ', port: 81}]}", slices: pod,
			want:     []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080"},
			problems: []string{invalidName}},
	})
}

// TestSourceRanges has who may come to the addresses of a load balancer.
func TestSourceRanges(t *testing.T) {
	t.Parallel()
	const balanced = "{type: LoadBalancer, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}], loadBalancerSourceRanges: "
	testPlans(t, map[string]planCase{
		"ranges": {spec: balanced + "[' 10.1.2.3/8 ', 10.0.0.0/8, 'fd00::/8']}", status: "203.0.113.1", slices: pod,
			want: []string{
				"default/web: 10.96.0.1:80 192.168.0.1:30080 > 10.0.0.1:8080",
				"default/web/loadbalancer: 203.0.113.1:80 > 10.0.0.1:8080 allow=10.0.0.0/8 on-deny=drop"}},
		"ranges of the other family alone": {spec: balanced + "['fd00::/8']}", status: "203.0.113.1", slices: pod,
			want: []string{"default/web: 10.96.0.1:80 203.0.113.1:80 192.168.0.1:30080 > 10.0.0.1:8080"}},
		"ranges that are all addresses": {spec: balanced + "[0.0.0.0/0, 10.0.0.0/8]}", status: "203.0.113.1", slices: pod,
			want: []string{"default/web: 10.96.0.1:80 203.0.113.1:80 192.168.0.1:30080 > 10.0.0.1:8080"}},
		"a range that cannot be read": {spec: balanced + "[10.0.0.0/8, x]}", status: "203.0.113.1", slices: pod,
			want: []string{
				"default/web: 10.96.0.1:80 192.168.0.1:30080 > 10.0.0.1:8080",
				"default/web/loadbalancer: 203.0.113.1:80 > 10.0.0.1:8080 allow=10.0.0.0/8 on-deny=drop"},
			problems: []string{invalidSourceRange}},
		"no range that can be read": {spec: balanced + "[10.0.0/8]}", status: "203.0.113.1", slices: pod,
			want: []string{
				"default/web: 10.96.0.1:80 192.168.0.1:30080 > 10.0.0.1:8080",
				"default/web/loadbalancer: 203.0.113.1:80 > 10.0.0.1:8080 deny=0.0.0.0/0,::/0 on-deny=drop"},
			problems: []string{invalidSourceRange}},
		"a range with this node, whose source may be the load balancer's address": {spec: balanced + "[192.168.0.0/16]}", status: "203.0.113.1", slices: pod,
			want: []string{
				"default/web: 10.96.0.1:80 192.168.0.1:30080 > 10.0.0.1:8080",
				"default/web/loadbalancer: 203.0.113.1:80 > 10.0.0.1:8080 allow=192.168.0.0/16,203.0.113.1 on-deny=drop"}},
		"ranges and options": {spec: balanced + "[10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16]}", status: "203.0.113.1", slices: pod,
			with: func(s *corev1.Service) {
				s.Annotations = map[string]string{
					AnnotationPrefix + "allow": "10.1.0.0/16,172.0.0.0/8,11.0.0.0/8", AnnotationPrefix + "deny": "10.0.0.0/9,192.0.0.0/8,172.16.1.0/24"}
			},
			want: []string{
				"default/web: 10.96.0.1:80 192.168.0.1:30080 > 10.0.0.1:8080 allow=10.1.0.0/16,172.0.0.0/8,11.0.0.0/8 deny=10.0.0.0/9,192.0.0.0/8,172.16.1.0/24",
				"default/web/loadbalancer: 203.0.113.1:80 > 10.0.0.1:8080 allow=10.1.0.0/16,172.16.0.0/12 deny=10.0.0.0/9,192.0.0.0/8,172.16.1.0/24 on-deny=drop"}},
		"ranges whose clients an option denies": {spec: balanced + "[10.1.0.0/16]}", status: "203.0.113.1", slices: pod,
			with: func(s *corev1.Service) { s.Annotations = map[string]string{AnnotationPrefix + "deny": "10.0.0.0/8"} },
			want: []string{
				"default/web: 10.96.0.1:80 192.168.0.1:30080 > 10.0.0.1:8080 deny=10.0.0.0/8",
				"default/web/loadbalancer: 203.0.113.1:80 > 10.0.0.1:8080 deny=0.0.0.0/0,::/0 on-deny=drop"}},
		"ranges of the annotation": {spec: balanced + "[]}", status: "203.0.113.1", slices: pod,
			with: func(s *corev1.Service) {
				s.Annotations = map[string]string{corev1.AnnotationLoadBalancerSourceRangesKey: "10.0.0.0/8, 172.16.0.0/12"}
			},
			want: []string{
				"default/web: 10.96.0.1:80 192.168.0.1:30080 > 10.0.0.1:8080",
				"default/web/loadbalancer: 203.0.113.1:80 > 10.0.0.1:8080 allow=10.0.0.0/8,172.16.0.0/12 on-deny=drop"}},
	})
}
