package planner

import (
	"math"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// setHealth says what a load balancer learns at the healthCheckNodePort.
func (p *plan) setHealth() {
	number := p.Spec.HealthCheckNodePort
	isLocal := p.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	if number == 0 || p.Spec.Type != corev1.ServiceTypeLoadBalancer || !isLocal {
		return
	}
	if number < 1 || number > math.MaxUint16 {
		p.problems.add(invalidPort, "%d is not a healthCheckNodePort", number)
		return
	}
	p.result.Health = &Health{Service: p.key, Port: uint16(number), LocalEndpoints: max(len(p.ready[0]), len(p.ready[1]))}
}

// countReady counts the ready endpoints of this node: one of several ports once, and a pod of two families, too. Without a
// node all endpoints count, since each of them gets clients.
func (p *plan) countReady(r *route, c *choice) {
	family := 0
	if r.isIPv6 {
		family = 1
	}
	for i := range c.endpoints {
		e := &c.endpoints[i]
		if !e.isReady || !e.isLocal && p.env.Node.Name != "" {
			continue
		}
		if p.ready[family] == nil {
			p.ready[family] = make(map[netip.Addr]bool)
		}
		p.ready[family][e.addr.Addr()] = true
	}
}
