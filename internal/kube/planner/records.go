package planner

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"sort"

	discoveryv1 "k8s.io/api/discovery/v1"
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
		ports := slices.Clip(appendPorts(nil, src.ports)) // which its endpoints share
		for _, c := range src.candidates {
			if !c.isReady {
				continue
			}
			k := key{c.ip, c.hostname}
			if _, ok := at[k]; !ok {
				at[k] = len(all)
				all = append(all, Endpoint{Hostname: c.hostname, Addr: c.ip})
			}
			if p.size += len(ports); p.size > maxSize {
				p.problems.add(tooLarge, "not all ports of its endpoints have names: they may be %d together", maxSize)
				continue
			}
			if e := &all[at[k]]; e.Ports == nil {
				e.Ports = ports
			} else {
				e.Ports = appendPorts(e.Ports, src.ports)
			}
		}
	}
	sort.SliceStable(all, func(i, j int) bool {
		return cmp.Or(all[i].Addr.Compare(all[j].Addr), cmp.Compare(all[i].Hostname, all[j].Hostname)) < 0
	})
	p.result.Record.Headless, p.result.Endpoints = all, len(all)
	p.recordPorts()
}

// appendPorts appends ports of a slice that are not there yet, up to maxEndpointPorts.
func appendPorts(ports []Port, more []discoveryv1.EndpointPort) []Port {
	for i := range more {
		name, network, number, ok := portOf(&more[i])
		port := Port{name, network, uint16(number)}
		isPort := ok && network != "" && number >= 1 && number <= math.MaxUint16
		if isPort && len(ports) < maxEndpointPorts && !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	return ports
}
