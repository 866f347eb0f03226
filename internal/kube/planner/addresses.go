package planner

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"usher/internal/config"
)

// Kinds of addresses, in Kubernetes' words.
const (
	kindClusterIP    = "ClusterIP"
	kindNodePort     = "NodePort"
	kindLoadBalancer = "LoadBalancer"
	kindExternalIP   = "ExternalIP"
)

// address is one that clients connect to, and where usher listens for them.
type address struct {
	kind            string
	virtual, listen netip.AddrPort
}

// isExternal reports whether externalTrafficPolicy is that of its clients.
func (a address) isExternal() bool { return a.kind != kindClusterIP }

// socket is an address that the Service listens on.
type socket struct {
	network string
	at      netip.AddrPort
}

// addresses returns the addresses of a route. One that the Service has already is left out: the first kind with it decides,
// and source ranges of a load balancer's hold for an external IP that is equal.
func (p *plan) addresses(r *route, clusterIP netip.Addr) []address {
	port := uint16(r.port.Port)
	own := netip.AddrPortFrom(clusterIP, port)
	all := p.add(nil, r, address{kindClusterIP, own, netip.AddrPortFrom(p.listen(clusterIP), p.shift(clusterIP, port))})
	for _, ip := range p.loadBalancerIPs(r.isIPv6) {
		at := netip.AddrPortFrom(ip, port)
		all = p.add(all, r, address{kindLoadBalancer, at, at})
	}
	for _, ip := range p.externalIPs(r.isIPv6) {
		at := netip.AddrPortFrom(ip, port)
		all = p.add(all, r, address{kindExternalIP, at, at})
	}
	if nodePort, ok := p.nodePort(r.port); ok {
		for _, ip := range p.env.NodePorts {
			if ip.Is6() == r.isIPv6 {
				at := netip.AddrPortFrom(ip, nodePort)
				all = p.add(all, r, address{kindNodePort, at, at})
			}
		}
	}
	return all
}

// add appends an address that the Service does not have yet.
func (p *plan) add(all []address, r *route, a address) []address {
	s := socket{r.network, a.listen}
	if p.taken[s] {
		if !slices.ContainsFunc(all, func(b address) bool { return b.listen == a.listen }) {
			p.problems.add(invalidPort, "port %s: another port of the Service listens on %s", describe(r.port), a.listen)
		}
		return all
	}
	p.taken[s] = true
	return append(all, a)
}

// nodePort returns the node port of a port that has one.
func (p *plan) nodePort(port *corev1.ServicePort) (uint16, bool) {
	hasOne := p.Spec.Type == corev1.ServiceTypeNodePort || p.Spec.Type == corev1.ServiceTypeLoadBalancer
	switch n := port.NodePort; {
	case n == 0 && p.Spec.Type == corev1.ServiceTypeNodePort: // an API server has given one
		p.problems.add(invalidPort, "port %s has no nodePort: give it one from 30000 to 32767", describe(port))
		return 0, false
	case !hasOne || n == 0:
		return 0, false
	case n < 1 || n > 1<<16-1:
		p.problems.add(invalidPort, "port %s: %d is not a node port", describe(port), n)
		return 0, false
	default:
		return uint16(n), true
	}
}

// loadBalancerIPs returns the addresses of the load balancer that kube-proxy serves too: those of ipMode VIP.
func (p *plan) loadBalancerIPs(isIPv6 bool) (all []netip.Addr) {
	if p.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return nil
	}
	for i := range p.Status.LoadBalancer.Ingress {
		in := &p.Status.LoadBalancer.Ingress[i]
		if in.IP != "" && valueOr(in.IPMode, corev1.LoadBalancerIPModeVIP) == corev1.LoadBalancerIPModeVIP {
			all = p.appendIP(all, in.IP, isIPv6)
		}
	}
	return all
}

func (p *plan) externalIPs(isIPv6 bool) (all []netip.Addr) {
	if !p.env.ExternalIPs {
		return nil
	}
	for _, word := range p.Spec.ExternalIPs {
		all = p.appendIP(all, word, isIPv6)
	}
	return all
}

// appendIP appends an address of one family.
func (p *plan) appendIP(all []netip.Addr, word string, isIPv6 bool) []netip.Addr {
	ip, err := parseIP(word)
	switch {
	case err != nil:
		p.problems.add(invalidAddress, "%v", err)
	case ip.IsUnspecified() || ip.IsMulticast():
		p.problems.add(invalidAddress, "%s is no address of one Service", ip)
	case ip.Is6() == isIPv6 && !slices.Contains(all, ip):
		return append(all, ip)
	}
	return all
}

// isOwn reports whether the Service listens on an address. Node ports on all addresses count at those of this machine.
func (p *plan) isOwn(network string, at netip.AddrPort) bool {
	if p.taken[socket{network, at}] {
		return true
	}
	all := netip.IPv4Unspecified()
	if at.Addr().Is6() {
		all = netip.IPv6Unspecified()
	}
	return p.taken[socket{network, netip.AddrPortFrom(all, at.Port())}] && p.isThisMachine(at.Addr())
}

// isThisMachine reports whether an address is one of this machine. Longer prefixes are those of its pods.
func (p *plan) isThisMachine(ip netip.Addr) bool {
	return ip.IsLoopback() || slices.ContainsFunc(p.env.Node.Local, func(own netip.Prefix) bool {
		return own.IsSingleIP() && own.Addr() == ip
	})
}

// listener returns the word of an address to listen on.
func listener(network string, at netip.AddrPort) config.Addr {
	return config.Addr{Network: network, IP: at.Addr(), Port: at.Port(), Ports: 1}
}
