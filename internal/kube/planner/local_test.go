package planner

import "testing"

// TestOwnClients has who connects from this node to an external address under the policy Local: they get the list of the
// cluster.
func TestOwnClients(t *testing.T) {
	t.Parallel()
	const (
		external = "{externalTrafficPolicy: Local, type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]}"
		both     = "{internalTrafficPolicy: Local, externalTrafficPolicy: Local, type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]}"
	)
	testPlans(t, map[string]planCase{
		"external Local": {spec: external, slices: pods, want: []string{
			"default/web: 10.96.0.1:80 192.168.0.1:30080,own > 10.0.0.1:8080 10.0.0.2:8080",
			"default/web/external: 192.168.0.1:30080 > 10.0.0.1:8080"}},
		"external Local, none here": {spec: external, slices: away, want: []string{
			"default/web: 10.96.0.1:80 192.168.0.1:30080,own > 10.0.0.2:8080",
			"default/web/external: 192.168.0.1:30080 > on-empty=drop"}},
		"external Local, none anywhere": {spec: external, want: []string{
			"default/web: 10.96.0.1:80 192.168.0.1:30080,own >",
			"default/web/external: 192.168.0.1:30080 >"}},
		"both Local": {spec: both, slices: pods, want: []string{
			"default/web: 10.96.0.1:80 192.168.0.1:30080 > 10.0.0.1:8080",
			"default/web/external: 192.168.0.1:30080,own > 10.0.0.1:8080 10.0.0.2:8080"}},
		"external Local on all addresses, of IPv6": {
			spec:   "{externalTrafficPolicy: Local, type: NodePort, clusterIP: 'fd00:96::1', ports: [{port: 80, nodePort: 30080}]}",
			slices: web("fd00:10::1 on=a"), env: func(e *Env) { e.NodePorts = unspecified },
			want: []string{
				"default/web/ipv6: [fd00:96::1]:80 [::]:30080,own > [fd00:10::1]:8080",
				"default/web/external/ipv6: [::]:30080 > [fd00:10::1]:8080"}},
		"ranges and the policy Local": {spec: "{type: LoadBalancer, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}], loadBalancerSourceRanges: [10.0.0.0/8], externalTrafficPolicy: Local}", status: "203.0.113.1", slices: pods,
			want: []string{
				"default/web: 10.96.0.1:80 192.168.0.1:30080,own > 10.0.0.1:8080 10.0.0.2:8080",
				"default/web/loadbalancer: 203.0.113.1:80 > 10.0.0.1:8080 allow=10.0.0.0/8 on-deny=drop",
				"default/web/loadbalancer/node: 203.0.113.1:80,own+203.0.113.1/32 > 10.0.0.1:8080 10.0.0.2:8080 allow=10.0.0.0/8 on-deny=drop",
				"default/web/external: 192.168.0.1:30080 > 10.0.0.1:8080"}},
	})
}
