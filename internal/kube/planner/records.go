package planner

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
)

// recordExternalName says the name that the Service stands for. Its ClusterIP and ports do not count.
func (p *plan) recordExternalName() {
	if p.Spec.ExternalName == "" {
		p.problems.add(invalidSpec, "the Service is of type ExternalName and has no externalName")
	}
	p.result.Record.ExternalName = p.Spec.ExternalName
}

// recordAsIs says the addresses of a Service that another proxy serves.
func (p *plan) recordAsIs() {
	env := *p.env
	env.Listen, env.LowPort = nil, 0
	p.env = &env
	p.clusterIPs()
	p.recordPorts()
}

// recordPorts says the ports of the object as they are.
func (p *plan) recordPorts() {
	for i := range p.Spec.Ports {
		port := &p.Spec.Ports[i]
		if network := networkOf(port.Protocol); network != "" && port.Port >= 1 && port.Port <= math.MaxUint16 {
			p.result.Record.Ports = append(p.result.Record.Ports, Port{port.Name, network, uint16(port.Port)})
		}
	}
}

// recordHeadless says the endpoints of a headless Service: those that are ready.
func (p *plan) recordHeadless() {
	type key struct {
		ip       netip.Addr
		hostname string
	}
	at := make(map[key]int)
	var all []Endpoint
	for i := range p.sources {
		src := &p.sources[i]
		for _, c := range src.candidates {
			if !c.isReady {
				continue
			}
			k := key{c.ip, c.hostname}
			if _, ok := at[k]; !ok {
				at[k] = len(all)
				all = append(all, Endpoint{Hostname: c.hostname, Addr: c.ip})
			}
			e := &all[at[k]]
			e.Ports = appendPorts(e.Ports, src)
		}
	}
	slices.SortStableFunc(all, func(a, b Endpoint) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Hostname, b.Hostname))
	})
	p.result.Record.Headless, p.result.Endpoints = all, len(all)
	p.recordPorts()
}

// appendPorts appends the ports of a slice that are not there yet.
func appendPorts(ports []Port, src *source) []Port {
	for j := range src.ports {
		name, network, number, ok := portOf(&src.ports[j])
		port := Port{name, network, uint16(number)}
		if ok && network != "" && number >= 1 && number <= math.MaxUint16 && !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	return ports
}
