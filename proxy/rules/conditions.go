package rules

import "slices"

// conditions are those of a rule, and of the jumps that lead to it, that hang on the packet
// alone and are evaluated before any that has a state.
type conditions struct {
	sources, destinations         []Prefix
	interfaces                    []Interface
	protocols                     protocols
	sourcePorts, destinationPorts portSet
}

// protocols is a set of protocols that packets have.
type protocols uint8

const (
	onlyTCP protocols = 1 << iota
	onlyUDP
	bothProtocols = onlyTCP | onlyUDP
)

// anything are no conditions.
func anything() conditions {
	return conditions{protocols: bothProtocols, sourcePorts: allPorts(), destinationPorts: allPorts()}
}

func protocolsOf(p Protocol, not bool) protocols {
	set := bothProtocols
	switch p {
	case TCP:
		set = onlyTCP
	case UDP:
		set = onlyUDP
	case All:
		return set
	default:
		set = 0
	}
	if not {
		set ^= bothProtocols
	}
	return set
}

// services returns the destination ports of a protocol.
func (c *conditions) services(p protocols) portSet {
	if c.protocols&p == 0 {
		return nil
	}
	return c.destinationPorts
}

// and returns the conditions with those of a rule as well, and the matches of the rule that
// are left to be evaluated in order: from the first one on that has a state.
func (c conditions) and(r *rule) (conditions, []matcher) {
	if r.Source.IsValid() {
		c.sources = append(slices.Clip(c.sources), r.Source)
	}
	if r.Destination.IsValid() {
		c.destinations = append(slices.Clip(c.destinations), r.Destination)
	}
	if r.Interface.Name != "" {
		c.interfaces = append(slices.Clip(c.interfaces), r.Interface)
	}
	c.protocols &= protocolsOf(r.Protocol, r.NotProtocol)
	var rest []matcher
	for i, m := range r.matches {
		switch m := m.(type) {
		case never:
			c.protocols = 0
		case *portsMatcher:
			c.protocols &= protocolsOf(m.protocol, false)
			c.sourcePorts = c.sourcePorts.intersect(m.source)
			c.destinationPorts = c.destinationPorts.intersect(m.destination)
		case *eitherPortMatcher:
			rest = append(rest, m)
		default:
			return c, append(rest, r.matches[i:]...)
		}
	}
	return c, rest
}

// split returns two conditions, never both met, in place of a first match of either port.
func (c conditions) split(m *eitherPortMatcher) (source, destination conditions) {
	source, destination = c, c
	source.sourcePorts = c.sourcePorts.intersect(m.ports)
	destination.sourcePorts = c.sourcePorts.intersect(m.ports.complement())
	destination.destinationPorts = c.destinationPorts.intersect(m.ports)
	return source, destination
}
