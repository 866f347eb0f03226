package planner

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"usher/internal/config"
)

// routes returns the ports of the Service in each of its families, with the addresses that usher listens on.
func (p *plan) routes() []route {
	ips := p.clusterIPs()
	if len(p.Spec.Ports) == 0 {
		p.problems.add(invalidSpec, "the Service has no ports")
	}
	p.taken = make(map[socket]bool)
	names := make(map[string]bool)
	var all []route
	for i := range p.Spec.Ports {
		port := &p.Spec.Ports[i]
		network, name, ok := p.checkPort(port, names)
		if !ok {
			continue
		}
		for _, ip := range ips {
			r := route{port: port, network: network, isIPv6: ip.Is6(), name: name}
			r.addresses = p.addresses(&r, ip)
			if len(r.addresses) > 0 {
				all = append(all, r)
			}
		}
		p.result.Record.Ports = append(p.result.Record.Ports, Port{port.Name, network, p.listenPort(ips, port)})
	}
	return all
}

// checkPort returns the network of a port and the name of its services. ok is false for one that cannot be served.
func (p *plan) checkPort(port *corev1.ServicePort, names map[string]bool) (network, name string, ok bool) {
	network = networkOf(port.Protocol)
	switch {
	case network == "":
		p.problems.add(unsupported, "port %s: usher serves TCP and UDP, not %.20s", describe(port), port.Protocol)
		return "", "", false
	case port.Port < 1 || port.Port > math.MaxUint16:
		p.problems.add(invalidPort, "port %s: a port is a number from 1 to 65535", describe(port))
		return "", "", false
	}
	name = p.key.String()
	if port.Name != "" {
		name += ":" + port.Name
	}
	if names[name] {
		p.problems.add(invalidPort, "port %s: another port of the Service has this name", describe(port))
		return "", "", false
	}
	if err := cmp.Or(config.CheckServiceName(name), config.CheckServiceName(name+longestSuffix)); err != nil {
		p.problems.add(invalidName, "port %s: %v", describe(port), err)
		return "", "", false
	}
	names[name] = true
	return network, name, true
}

// describe names a port for a message.
func describe(port *corev1.ServicePort) string {
	if port.Name == "" {
		return fmt.Sprint(port.Port)
	}
	return fmt.Sprintf("%.63q (%d)", port.Name, port.Port)
}

// clusterIPs returns the first ClusterIP of each family. A family without one is not served, nor are its node ports.
func (p *plan) clusterIPs() []netip.Addr {
	words := p.Spec.ClusterIPs
	if len(words) == 0 && p.Spec.ClusterIP != "" {
		words = []string{p.Spec.ClusterIP}
	}
	if len(words) == 0 {
		p.problems.add(invalidClusterIP, "the Service has no ClusterIP yet")
	}
	var all []netip.Addr
	for _, word := range words {
		ip, err := parseIP(word)
		switch {
		case err != nil:
			p.problems.add(invalidClusterIP, "%v", err)
			continue
		case ip.IsUnspecified() || ip.IsMulticast():
			p.problems.add(invalidClusterIP, "%s is no address of one Service", ip)
			continue
		case len(all) > 0 && all[0].Is6() == ip.Is6():
			continue
		}
		at := p.listen(ip)
		if !at.IsValid() {
			p.problems.add(invalidClusterIP, "there is no address to listen on for %s", ip)
			continue
		}
		p.result.Record.ClusterIPs = append(p.result.Record.ClusterIPs, ip)
		p.result.Record.Addrs = append(p.result.Record.Addrs, at)
		if all = append(all, ip); len(all) == 2 {
			break
		}
	}
	return all
}

// listen returns where a ClusterIP is listened on.
func (p *plan) listen(ip netip.Addr) netip.Addr {
	if p.env.Listen == nil {
		return ip
	}
	return p.env.Listen(ip)
}

// listenPort returns the port that usher listens on for the ClusterIPs.
func (p *plan) listenPort(ips []netip.Addr, port *corev1.ServicePort) uint16 {
	for _, ip := range ips {
		return p.shift(ip, uint16(port.Port))
	}
	return uint16(port.Port)
}

// shift raises a port of a mapped ClusterIP that this process may not bind.
func (p *plan) shift(ip netip.Addr, port uint16) uint16 {
	if port < p.env.LowPort && p.listen(ip) != ip {
		return port + PortShift
	}
	return port
}
