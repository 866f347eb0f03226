package planner

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// source is an EndpointSlice whose addresses are read.
type source struct {
	name       string
	isIPv6     bool
	isServed   bool // by kube-proxy, rather than another one; names are those of all
	ports      []discoveryv1.EndpointPort
	candidates []candidate
}

// candidate is an endpoint of a slice, at whatever port.
type candidate struct {
	ip       netip.Addr
	hostname string
	hints    *discoveryv1.EndpointHints
	isReady  bool
	// isDraining: it ends, and serves the flows that it has.
	isDraining bool
	isLocal    bool // on this node
}

// readSlices reads the addresses of all slices. Slices that are not of IP addresses are ignored.
func (p *plan) readSlices(all []*discoveryv1.EndpointSlice) {
	byName := func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(all, byName) {
		all = slices.SortedStableFunc(slices.Values(all), byName)
	}
	p.result.Triggered = triggered(all)
	for _, s := range all {
		if s.AddressType != discoveryv1.AddressTypeIPv4 && s.AddressType != discoveryv1.AddressTypeIPv6 {
			continue
		}
		p.sources = append(p.sources, p.readSlice(s))
	}
	p.ports = make(map[servicePort][]slicePort)
	for i := range p.sources {
		p.readPorts(i)
	}
}

// servicePort is what a port of a slice belongs to.
type servicePort struct{ name, network string }

// slicePort is a port of a slice.
type slicePort struct {
	source int // in sources
	number int32
}

// readPorts reads the ports of a source that is served.
func (p *plan) readPorts(source int) {
	src := &p.sources[source]
	if !src.isServed {
		return
	}
	for i := range src.ports {
		if name, network, number, ok := portOf(&src.ports[i]); ok {
			of := servicePort{name, network}
			p.ports[of] = append(p.ports[of], slicePort{source, number})
		}
	}
}

func (p *plan) readSlice(s *discoveryv1.EndpointSlice) source {
	src := source{
		name: s.Name, isIPv6: s.AddressType == discoveryv1.AddressTypeIPv6, isServed: !isServedByOthers(s.Labels),
		ports: s.Ports, candidates: make([]candidate, 0, len(s.Endpoints)),
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if len(e.Addresses) == 0 {
			continue
		}
		ip, err := p.endpointIP(e.Addresses[0], src.isIPv6)
		if err != nil {
			p.problems.add(invalidEndpoint, "an endpoint of slice %s: %v", s.Name, err)
			continue
		}
		c := p.condition(&e.Conditions)
		c.ip, c.hints, c.hostname = ip, e.Hints, valueOr(e.Hostname, "")
		c.isLocal = p.env.Node.Name != "" && valueOr(e.NodeName, "") == p.env.Node.Name
		src.candidates = append(src.candidates, c)
	}
	return src
}

// condition reads conditions with kube-proxy's defaults: ready and serving unless they say otherwise, and not terminating.
func (p *plan) condition(c *discoveryv1.EndpointConditions) candidate {
	ready := p.Spec.PublishNotReadyAddresses || valueOr(c.Ready, true)
	return candidate{
		isReady:    ready,
		isDraining: !ready && valueOr(c.Serving, true) && valueOr(c.Terminating, false),
	}
}

// endpointIP reads the address of an endpoint. An API server refuses addresses that are another machine's on each machine,
// and so does a plan: a slice must not lead to what listens on this machine alone.
func (p *plan) endpointIP(word string, isIPv6 bool) (netip.Addr, error) {
	ip, err := parseIP(word)
	if err != nil {
		return ip, err
	}
	var why string
	switch {
	case ip.Is6() != isIPv6:
		why = " is not of the slice's address type"
	case ip.IsUnspecified():
		why = " is no address of an endpoint"
	case ip.IsLoopback() && !p.env.LoopbackEndpoints:
		why = " is a loopback address, which each machine has for itself"
	case ip.IsMulticast(), ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		why = " is a multicast or broadcast address"
	case ip.IsLinkLocalUnicast():
		why = " is a link-local address, which is of one link alone"
	default:
		return ip, nil
	}
	return ip, errors.New(ip.String() + why)
}

// portOf reads a port of a slice. ok is false for those that say nothing: kube-proxy skips them.
func portOf(e *discoveryv1.EndpointPort) (name, network string, number int32, ok bool) {
	number = valueOr(e.Port, 0)
	return valueOr(e.Name, ""), networkOf(valueOr(e.Protocol, corev1.ProtocolTCP)), number, number != 0
}

// valueOr returns what a pointer of an object stands for.
func valueOr[T any](at *T, byDefault T) T {
	if at == nil {
		return byDefault
	}
	return *at
}
