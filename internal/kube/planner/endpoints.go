package planner

import (
	"math"
	"net/netip"
	"slices"
	"sort"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// list is a list of endpoints that a traffic policy chooses.
type list int

const (
	clusterList list = iota
	localList
)

// endpoint is a candidate at a port.
type endpoint struct {
	addr netip.AddrPort
	candidate
	inCluster, inLocal bool // gets new flows of those who use that list
}

// choice is what kube-proxy chooses for one route.
type choice struct {
	endpoints []endpoint // in the order of addresses
	hasAny    bool       // some list has one
	hasLocal  bool       // the local list has one
}

// choose gathers the endpoints of a route and chooses both lists, each by itself.
func (p *plan) choose(r *route) choice {
	c := choice{endpoints: p.gather(r)}
	mode := p.topology(c.endpoints)
	hasCluster := c.mark(func(e *endpoint) bool { return e.isReady && p.isNear(e, mode) }, func(e *endpoint) { e.inCluster = true })
	if !hasCluster {
		hasCluster = c.mark(func(e *endpoint) bool { return e.isDraining }, func(e *endpoint) { e.inCluster = true })
	}
	c.hasLocal = c.mark(func(e *endpoint) bool { return e.isReady && e.isLocal }, func(e *endpoint) { e.inLocal = true })
	if !c.hasLocal {
		c.hasLocal = c.mark(func(e *endpoint) bool { return e.isDraining && e.isLocal }, func(e *endpoint) { e.inLocal = true })
	}
	c.hasAny = hasCluster || c.hasLocal
	return c
}

// mark marks endpoints, and reports whether there are any.
func (c *choice) mark(is func(*endpoint) bool, mark func(*endpoint)) (found bool) {
	for i := range c.endpoints {
		if is(&c.endpoints[i]) {
			mark(&c.endpoints[i])
			found = true
		}
	}
	return found
}

// gather returns the endpoints of a route from all slices, each address once, in order.
func (p *plan) gather(r *route) []endpoint {
	var all []endpoint
	for _, at := range p.ports[servicePort{r.port.Name, r.network}] {
		src := &p.sources[at.source]
		if src.isIPv6 != r.isIPv6 {
			continue
		}
		if at.number < 1 || at.number > math.MaxUint16 {
			p.problems.add(invalidPort, "slice %s: %d is not a port", src.name, at.number)
			continue
		}
		all = slices.Grow(all, len(src.candidates))
		for _, c := range src.candidates {
			all = append(all, endpoint{addr: netip.AddrPortFrom(c.ip, uint16(at.number)), candidate: c})
		}
	}
	return p.withoutLoops(r, merge(all))
}

// merge sorts endpoints and leaves each address once: as ready if any of its slices says so, else as one that drains.
func merge(all []endpoint) []endpoint {
	sort.SliceStable(all, func(i, j int) bool { return all[i].addr.Compare(all[j].addr) < 0 })
	kept := all[:0]
	for _, e := range all {
		if len(kept) == 0 || kept[len(kept)-1].addr != e.addr {
			kept = append(kept, e)
			continue
		}
		last := &kept[len(kept)-1]
		isLocal := last.isLocal || e.isLocal
		if e.rank() > last.rank() {
			*last = e
		}
		last.isLocal = isLocal
	}
	return kept
}

// rank orders what several slices say about one endpoint.
func (e *endpoint) rank() int {
	switch {
	case e.isReady:
		return 2
	case e.isDraining:
		return 1
	}
	return 0
}

// withoutLoops leaves out endpoints that are listeners of the Service itself, or its ClusterIPs, wherever those are listened
// on.
func (p *plan) withoutLoops(r *route, all []endpoint) []endpoint {
	return slices.DeleteFunc(all, func(e endpoint) bool {
		loops := p.isOwn(r.network, e.addr) || slices.Contains(p.result.Record.ClusterIPs, e.addr.Addr())
		if loops {
			p.problems.add(endpointLoop, "endpoint %s is an address of this Service, which would connect to itself", e.addr)
		}
		return loops
	})
}

// topologyMode is how endpoints are filtered by their hints.
type topologyMode int

const (
	anywhere topologyMode = iota
	sameZone
	sameNode
)

// topology returns the filter that the hints allow: each ready endpoint needs a hint, and one must name this node or zone.
func (p *plan) topology(all []endpoint) topologyMode {
	nodeHints, zoneHints, forNode, forZone := true, true, false, false
	for i := range all {
		e := &all[i]
		if !e.isReady {
			continue
		}
		nodeHints = nodeHints && e.hints != nil && len(e.hints.ForNodes) > 0
		zoneHints = zoneHints && e.hints != nil && len(e.hints.ForZones) > 0
		forNode = forNode || p.isNear(e, sameNode)
		forZone = forZone || p.isNear(e, sameZone)
	}
	switch {
	case nodeHints && forNode:
		return sameNode
	case zoneHints && forZone:
		return sameZone
	}
	return anywhere
}

// isNear reports whether the hints of an endpoint name this node or its zone.
func (p *plan) isNear(e *endpoint, mode topologyMode) bool {
	node := &p.env.Node
	switch {
	case mode == anywhere:
		return true
	case e.hints == nil:
		return false
	case mode == sameNode:
		return node.Name != "" && slices.Contains(e.hints.ForNodes, discoveryv1.ForNode{Name: node.Name})
	}
	return node.Zone != "" && slices.Contains(e.hints.ForZones, discoveryv1.ForZone{Name: node.Zone})
}
