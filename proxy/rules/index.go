package rules

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"
)

// index finds the steps of a program whose conditions a packet meets. In each dimension that
// the program looks at, a look-up gives the vector of the steps that are content with it.
// The steps in all vectors are the candidates.
//
// An address or an interface is found by the longest prefix. A port is found by the interval
// between two bounds. So there are as many vectors as there are different conditions.
type index struct {
	layout
	vectors                  *vectors
	sources, destinations    *addressVectors // or nil
	interfaces               *interfaceVectors
	sourcePorts              *portVectors
	tcpServices, udpServices *portVectors // by protocol and destination port
}

// addressVectors are vectors by the longest prefix that an address has.
type addressVectors struct {
	table *bart.Table[uint32]
	other uint32
}

// interfaceVectors are vectors by name or by its longest prefix.
type interfaceVectors struct {
	names, prefixes map[string]uint32
	longest         int // of the prefixes
	other           uint32
}

// portVectors are vectors by intervals of ports.
type portVectors struct {
	starts  []uint16 // of the intervals
	vectors []uint32
	first   [257]uint32 // by the upper byte of a port: the interval that it begins in
}

// newIndex returns the index of steps with conditions.
func newIndex(steps []conditions) *index {
	x := &index{layout: newLayout(steps), vectors: newVectors(len(steps))}
	all := x.arrange(steps)
	has := func(is func(c *conditions) bool) bool {
		return slices.ContainsFunc(all, func(c conditions) bool { return is(&c) })
	}
	if has(func(c *conditions) bool { return len(c.sources) > 0 }) {
		x.sources = x.addresses(all, func(c *conditions) []Prefix { return c.sources })
	}
	if has(func(c *conditions) bool { return len(c.destinations) > 0 }) {
		x.destinations = x.addresses(all, func(c *conditions) []Prefix { return c.destinations })
	}
	if has(func(c *conditions) bool { return len(c.interfaces) > 0 }) {
		x.interfaces = x.interfaceNames(all)
	}
	if has(func(c *conditions) bool { return !c.sourcePorts.isAll() }) {
		x.sourcePorts = x.ports(all, func(c *conditions) portSet { return c.sourcePorts })
	}
	if has(func(c *conditions) bool { return c.protocols != bothProtocols || !c.destinationPorts.isAll() }) {
		x.tcpServices = x.ports(all, func(c *conditions) portSet { return c.services(onlyTCP) })
		x.udpServices = x.ports(all, func(c *conditions) portSet { return c.services(onlyUDP) })
	}
	return x
}

// find sets the candidates of a packet.
func (x *index) find(c *candidates, p *Packet) {
	c.index = x
	if x.sources != nil {
		c.add(x.sources.find(p.Client.Addr()))
	}
	if x.destinations != nil {
		c.add(x.destinations.find(p.Local.Addr()))
	}
	if x.tcpServices != nil {
		services := x.tcpServices
		if p.Protocol == UDP {
			services = x.udpServices
		}
		c.add(services.find(p.Local.Port()))
	}
	if x.sourcePorts != nil {
		c.add(x.sourcePorts.find(p.Client.Port()))
	}
	if x.interfaces != nil {
		c.add(x.interfaces.find(p.Interface))
	}
	c.start()
}

func (a *addressVectors) find(addr netip.Addr) uint32 {
	if v, ok := a.table.Lookup(addr); ok {
		return v
	}
	return a.other
}

func (i *interfaceVectors) find(name string) uint32 {
	if v, ok := i.names[name]; ok {
		return v
	}
	for n := min(i.longest, len(name)); n >= 0; n-- {
		if v, ok := i.prefixes[name[:n]]; ok {
			return v
		}
	}
	return i.other
}

func (p *portVectors) find(port uint16) uint32 {
	// The interval of port is the last one that starts at or before it.
	low, high := p.first[port>>8], p.first[port>>8+1]
	for low < high {
		middle := (low + high + 1) / 2
		if p.starts[middle] <= port {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return p.vectors[low]
}

// treeNode is a prefix among others with the conditions on it. Nodes are in preorder: each
// comes before those within it, and they before the next one that is not.
type treeNode struct {
	parent     int // or -1
	conditions []treeCondition
}

// treeCondition is of a position: to be within the node, or not to be.
type treeCondition struct {
	position int32
	not      bool
}

// tree returns the vector of what is in no node, and of each node: the positions that are
// content with what is in it, and in none of those within it.
func (x *index) tree(positions int, nodes []treeNode) (other uint32, of []uint32) {
	unmet := make([]int32, positions)
	for _, n := range nodes {
		for _, c := range n.conditions {
			if !c.not {
				unmet[c.position]++
			}
		}
	}
	var changes []change
	for i, n := range unmet {
		if n == 0 {
			changes = append(changes, change{int32(i), true})
		}
	}
	other = x.vectors.derive(0, changes)
	// move counts what changes by going into a node, or out of it again.
	move := func(n treeNode, by int32) (changes []change) {
		for _, c := range n.conditions {
			before := unmet[c.position]
			if c.not {
				unmet[c.position] += by
			} else {
				unmet[c.position] -= by
			}
			if after := unmet[c.position]; (before == 0) != (after == 0) {
				changes = append(changes, change{c.position, after == 0})
			}
		}
		return changes
	}
	of = make([]uint32, len(nodes))
	at := -1
	for i, n := range nodes {
		for ; at != n.parent; at = nodes[at].parent {
			move(nodes[at], -1)
		}
		from := other
		if at >= 0 {
			from = of[at]
		}
		of[i] = x.vectors.derive(from, move(n, 1))
		at = i
	}
	return other, of
}

// parents links nodes in preorder. The function reports whether one contains another.
func parents(nodes []treeNode, contains func(i, j int) bool) {
	at := -1
	for i := range nodes {
		for at >= 0 && !contains(at, i) {
			at = nodes[at].parent
		}
		nodes[i].parent = at
		at = i
	}
}

// addresses makes the vectors of one address.
func (x *index) addresses(all []conditions, of func(*conditions) []Prefix) *addressVectors {
	byPrefix := map[netip.Prefix][]treeCondition{}
	for i := range all {
		for _, p := range of(&all[i]) {
			masked := p.Prefix.Masked()
			byPrefix[masked] = append(byPrefix[masked], treeCondition{int32(i), p.Not})
		}
	}
	prefixes := make([]netip.Prefix, 0, len(byPrefix))
	for p := range byPrefix {
		prefixes = append(prefixes, p)
	}
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	nodes := make([]treeNode, len(prefixes))
	for i, p := range prefixes {
		nodes[i].conditions = byPrefix[p]
	}
	parents(nodes, func(i, j int) bool { return prefixes[i].Contains(prefixes[j].Addr()) })
	other, vectors := x.tree(len(all), nodes)
	a := &addressVectors{new(bart.Table[uint32]), other}
	for i, p := range prefixes {
		a.table.Insert(p, vectors[i])
	}
	return a
}

// interfaceNames makes the vectors of the interface.
func (x *index) interfaceNames(all []conditions) *interfaceVectors {
	byName := map[string][]treeCondition{} // a name, or a prefix with + at its end
	for i := range all {
		for _, c := range all[i].interfaces {
			byName[c.Name] = append(byName[c.Name], treeCondition{int32(i), c.Not})
		}
	}
	names := make([]string, 0, len(byName))
	for name := range byName {
		names = append(names, name)
	}
	// A prefix comes before all that begins so, and before the name that is the same.
	slices.SortFunc(names, func(a, b string) int {
		prefixA, isPrefixA := strings.CutSuffix(a, "+")
		prefixB, isPrefixB := strings.CutSuffix(b, "+")
		if prefixA == prefixB && isPrefixA != isPrefixB {
			return map[bool]int{true: -1, false: 1}[isPrefixA]
		}
		return cmp.Compare(prefixA, prefixB)
	})
	nodes := make([]treeNode, len(names))
	for i, name := range names {
		nodes[i].conditions = byName[name]
	}
	parents(nodes, func(i, j int) bool {
		prefix, isPrefix := strings.CutSuffix(names[i], "+")
		return isPrefix && strings.HasPrefix(names[j], prefix)
	})
	other, vectors := x.tree(len(all), nodes)
	v := &interfaceVectors{names: map[string]uint32{}, prefixes: map[string]uint32{}, other: other}
	for i, name := range names {
		if prefix, isPrefix := strings.CutSuffix(name, "+"); isPrefix {
			v.prefixes[prefix] = vectors[i]
			v.longest = max(v.longest, len(prefix))
		} else {
			v.names[name] = vectors[i]
		}
	}
	return v
}

// ports makes the vectors of a port.
func (x *index) ports(all []conditions, of func(*conditions) portSet) *portVectors {
	type event struct {
		port int
		change
	}
	var events []event
	for i := range all {
		for _, r := range of(&all[i]) {
			events = append(events, event{int(r.First), change{int32(i), true}})
			if r.Last < 65535 {
				events = append(events, event{int(r.Last) + 1, change{int32(i), false}})
			}
		}
	}
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.port, b.port) })
	p := &portVectors{}
	var vector uint32
	for start := 0; ; {
		var changes []change
		for len(events) > 0 && events[0].port == start {
			changes = append(changes, events[0].change)
			events = events[1:]
		}
		vector = x.vectors.derive(vector, changes)
		p.starts, p.vectors = append(p.starts, uint16(start)), append(p.vectors, vector)
		if len(events) == 0 {
			break
		}
		start = events[0].port
	}
	n := uint32(0)
	for upper := range 256 {
		for int(n)+1 < len(p.starts) && int(p.starts[n+1]) <= upper<<8 {
			n++
		}
		p.first[upper] = n
	}
	p.first[256] = uint32(len(p.starts) - 1)
	return p
}
