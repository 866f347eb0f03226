package planner

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

const clusterIP = "{clusterIP: 10.96.0.1, ports: [{port: 80}]}"

// web is one slice of the Service with endpoints at port 8080.
func web(endpoints ...string) []*discoveryv1.EndpointSlice {
	return []*discoveryv1.EndpointSlice{slice("web-1", "=8080", endpoints...)}
}

// TestSlices has the rows of section 4.2 of the reference: what slices say, and that not all of it is believed.
func TestSlices(t *testing.T) {
	t.Parallel()
	fqdn := slice("web-2", "=8080", "10.0.0.2")
	fqdn.AddressType = discoveryv1.AddressTypeFQDN
	foreign := slice("web-3", "=8080", "10.0.0.3")
	foreign.Labels = map[string]string{labelServiceProxyName: "other"}
	headless := slice("web-4", "=8080", "10.0.0.4")
	headless.Labels = map[string]string{corev1.IsHeadlessService: ""}
	unnamed := slice("web-5", "=8080", "10.0.0.5")
	unnamed.Ports[0].Name = nil
	testPlans(t, map[string]planCase{
		"several slices, in any order": {spec: clusterIP,
			slices: []*discoveryv1.EndpointSlice{slice("web-2", "=8080", "10.0.0.3", "10.0.0.1"), slice("web-1", "=8080", "10.0.0.2")},
			want:   []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080 10.0.0.2:8080 10.0.0.3:8080"}},
		"no slices": {spec: clusterIP, want: []string{"default/web: 10.96.0.1:80 >"}},
		"slices that are not its own": {spec: clusterIP, slices: []*discoveryv1.EndpointSlice{fqdn, foreign, headless, unnamed},
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.5:8080"}},
		"the first address alone": {spec: clusterIP, slices: web("10.0.0.1+10.0.0.2"), want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080"}},
		"an endpoint in two slices": {spec: clusterIP,
			slices: []*discoveryv1.EndpointSlice{
				slice("web-1", "=8080", "10.0.0.1 terminating", "10.0.0.2", "10.0.0.3 notready", "10.0.0.1"),
				slice("web-2", "=8080", "10.0.0.1", "10.0.0.2 terminating", "10.0.0.3 terminating")},
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080 10.0.0.2:8080 10.0.0.3:8080@0"}},
		"conditions": {spec: clusterIP,
			slices: web("10.0.0.1", "10.0.0.2 unserving", "10.0.0.3 notready", "10.0.0.4 terminating", "10.0.0.5 terminating unserving"),
			want:   []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080 10.0.0.2:8080 10.0.0.4:8080@0"}},
		"a slice that lies": {spec: clusterIP,
			slices: web("127.0.0.1", "0.0.0.0", "224.0.0.1", "169.254.1.1", "255.255.255.255", "10.0.0.256", "", "fe80::1%eth0", "::ffff:10.0.0.9", "10.0.0.1"),
			want:   []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080 10.0.0.9:8080"}, problems: []string{
				invalidEndpoint, invalidEndpoint, invalidEndpoint, invalidEndpoint, invalidEndpoint, invalidEndpoint, invalidEndpoint}},
		"an address of the other family": {spec: clusterIP,
			slices: web("10.0.0.1", "fd00::1"), want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080"}, problems: []string{invalidEndpoint}},
		"loopback endpoints of manifests": {spec: clusterIP, slices: web("127.77.0.1"), env: func(e *Env) { e.LoopbackEndpoints = true },
			want: []string{"default/web: 10.96.0.1:80 > 127.77.0.1:8080"}},
		"an endpoint that is the Service": {spec: "{type: NodePort, clusterIP: 10.96.0.1, ports: [{name: a, port: 80, nodePort: 30080}, {name: b, port: 81, nodePort: 30081}]}",
			slices: []*discoveryv1.EndpointSlice{
				slice("web-1", "a=81 b=8080", "10.96.0.1", "10.0.0.1"), slice("web-2", "a=30081", "192.168.0.1", "192.168.0.2", "10.244.1.1")},
			want: []string{
				"default/web:a: 10.96.0.1:80 192.168.0.1:30080 > 10.0.0.1:81 10.244.1.1:30081 192.168.0.2:30081",
				"default/web:b: 10.96.0.1:81 192.168.0.1:30081 > 10.0.0.1:8080"},
			problems: []string{endpointLoop, endpointLoop, endpointLoop}},
		"an endpoint that is the ClusterIP of a Service elsewhere": {spec: clusterIP, slices: web("10.96.0.1", "10.0.0.1"), env: mapped,
			want: []string{"default/web: 127.96.0.1:10080 > 10.0.0.1:8080"}, problems: []string{endpointLoop}},
		"an endpoint that is a node port on all addresses": {spec: "{type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 8080}]}",
			slices: web("192.168.0.1", "127.0.0.1", "10.244.1.1"), env: func(e *Env) { e.NodePorts, e.LoopbackEndpoints = unspecified, true },
			want:     []string{"default/web: 10.96.0.1:80 0.0.0.0:8080 > 10.244.1.1:8080"},
			problems: []string{endpointLoop, endpointLoop}},
	})
}

// TestSelection has the rows of sections 4.3 and 4.4: which endpoints get clients, and what those get who have none.
func TestSelection(t *testing.T) {
	t.Parallel()
	const (
		internal = "{internalTrafficPolicy: Local, clusterIP: 10.96.0.1, ports: [{port: 80}]}"
		external = "{externalTrafficPolicy: Local, type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]}"
		inside   = "{internalTrafficPolicy: Local, type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]}"
	)
	testPlans(t, map[string]planCase{
		"none ready: those that end": {spec: clusterIP, slices: web("10.0.0.1 terminating", "10.0.0.2 notready", "10.0.0.3 terminating unserving"),
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080"}},
		"none usable": {spec: clusterIP, slices: web("10.0.0.1 notready", "10.0.0.2 terminating unserving"),
			want: []string{"default/web: 10.96.0.1:80 >"}},
		"same node": {spec: clusterIP, slices: web("10.0.0.1 nodes=a zones=z1", "10.0.0.2 nodes=b zones=z1", "10.0.0.3 nodes=b+a", "10.0.0.4 notready"),
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080 10.0.0.3:8080"}},
		"same node, but none is for it": {spec: clusterIP, slices: web("10.0.0.1 nodes=c zones=z1", "10.0.0.2 nodes=b zones=z2"),
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080"}},
		"same zone, with one that ends elsewhere": {spec: clusterIP, slices: web("10.0.0.1 zones=z1", "10.0.0.2 zones=z2", "10.0.0.3 zones=z2+z1", "10.0.0.4 zones=z2 terminating"),
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080 10.0.0.3:8080 10.0.0.4:8080@0"}},
		"same zone, but none is for it": {spec: clusterIP, slices: web("10.0.0.1 zones=z2", "10.0.0.2 zones=z3"),
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080 10.0.0.2:8080"}},
		"one without a hint": {spec: clusterIP, slices: web("10.0.0.1 zones=z1 nodes=a", "10.0.0.2"),
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080 10.0.0.2:8080"}},
		"one that is not ready needs no hint": {spec: clusterIP, slices: web("10.0.0.1 zones=z1", "10.0.0.2 zones=z2", "10.0.0.3 terminating"),
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080 10.0.0.3:8080@0"}},
		"hints without a node": {spec: clusterIP, slices: web("10.0.0.1 nodes=a zones=z1", "10.0.0.2 nodes=b zones=z2"), env: func(e *Env) { e.Node = Node{} },
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080 10.0.0.2:8080"}},
		"internal Local": {spec: internal, slices: pods, want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080"}},
		"internal Local, one that ends": {spec: internal, slices: web("10.0.0.1 on=a", "10.0.0.2 on=a terminating", "10.0.0.3 on=b terminating"),
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080 10.0.0.2:8080@0"}},
		"internal Local, all end here": {spec: internal, slices: web("10.0.0.1 on=a terminating", "10.0.0.2 on=b"),
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080"}},
		"internal Local, none here": {spec: internal, slices: away,
			want: []string{"default/web: 10.96.0.1:80 > on-empty=drop"}},
		"internal Local, none anywhere": {spec: internal, slices: web("10.0.0.1 on=a notready"),
			want: []string{"default/web: 10.96.0.1:80 >"}},
		"internal Local, none here and those elsewhere end": {spec: internal, slices: web("10.0.0.1 on=b terminating"),
			want: []string{"default/web: 10.96.0.1:80 > on-empty=drop"}},
		"internal Local without a node": {spec: internal, slices: pods, env: func(e *Env) { e.Node.Name = "" },
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080 10.0.0.2:8080"}},
		"hints do not hold for the local list": {spec: internal, slices: web("10.0.0.1 on=a zones=z2", "10.0.0.2 on=b zones=z1"),
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.1:8080"}},
		"external policy Local without external addresses": {spec: "{externalTrafficPolicy: Local, clusterIP: 10.96.0.1, ports: [{port: 80}]}", slices: away,
			want: []string{"default/web: 10.96.0.1:80 > 10.0.0.2:8080"}},
		"external Local without a node": {spec: external, slices: pods, env: func(e *Env) { e.Node.Name = "" },
			want: []string{"default/web: 10.96.0.1:80 192.168.0.1:30080 > 10.0.0.1:8080 10.0.0.2:8080"}},
		"internal Local, external Cluster": {spec: inside, slices: pods, want: []string{
			"default/web: 10.96.0.1:80 > 10.0.0.1:8080",
			"default/web/external: 192.168.0.1:30080 > 10.0.0.1:8080 10.0.0.2:8080"}},
	})
}
