package nat

import (
	"slices"
	"strings"

	"usher/internal/iptables"
	"usher/proxy/rules"
)

// protocols is a set of those that usher carries.
type protocols uint8

const (
	tcp protocols = 1 << iota
	udp
	both = tcp | udp
)

func (p protocols) String() string {
	if p == udp {
		return "udp"
	}
	return "tcp"
}

// conditions are those of a rule.
type conditions struct {
	source, destination rules.Prefix
	in, out             rules.Interface
	protocols           protocols
	ports               portSet
	isLocalSource       tristate // the client is one of this machine
	isLocalTarget       bool     // the address must be one of this machine: each that usher listens on is
	isNever             bool
	share               float64 // of the flows that meet all other conditions
	isTurn              bool    // the share is each n-th flow
	check, set          *rules.Recent
	// unknown says why usher cannot tell whether a flow meets the rule; empty: it can.
	unknown string
}

// tristate is a condition on something that is or is not.
type tristate uint8

const (
	either tristate = iota
	mustBe
	mustNotBe
)

// meets reports whether something fulfils the condition.
func (t tristate) meets(is bool) bool { return t == either || is == (t == mustBe) }

func compileConditions(r *iptables.Rule) conditions {
	c := conditions{source: masked(r.Source), destination: masked(r.Destination), in: r.In, out: r.Out, protocols: both, share: 1}
	switch r.Protocol {
	case rules.All:
		c.isNever = r.NotProtocol
	case rules.TCP:
		c.protocols = tcp
	case rules.UDP:
		c.protocols = udp
	default:
		c.protocols = 0
	}
	if r.NotProtocol {
		c.protocols ^= both
	}
	c.isNever = c.isNever || r.Fragment == iptables.OnlyFragment
	for _, m := range r.Matches {
		c.add(m)
	}
	return c
}

// masked returns a condition without the bits beyond its length.
func masked(p rules.Prefix) rules.Prefix {
	p.Prefix = p.Masked()
	return p
}

// add adds a match.
func (c *conditions) add(m iptables.Match) {
	switch m := m.(type) {
	case *rules.Comment:
	case *rules.Ports:
		c.addPorts(m)
	case *rules.Multiport:
		if m.Side != rules.DestinationPort {
			c.setUnknown("usher does not tell clients by their ports: leave --sport out")
			return
		}
		c.ports = c.ports.and(newPortSet(portsOf(m.Ranges...), m.Not))
	case *rules.Conntrack:
		c.addStates(m)
	case *iptables.State:
		c.addStates(&m.Conntrack)
	case *iptables.Addrtype:
		c.addTypes(m)
	case *rules.Statistic:
		c.addShare(m)
	case *rules.Recent:
		c.addRecent(m)
	case *iptables.ICMP:
		c.protocols = 0
	case *iptables.MarkMatch:
		c.setUnknown("flows have no marks in usher: name their addresses")
	case *rules.Limit, *rules.Hashlimit, *rules.Connlimit:
		c.setUnknown("a rate does not choose a backend: bound the service by client-rate, rate or max-client-conns")
	case *iptables.Other:
		c.setUnknown(otherReason(m.Name))
	default:
		c.setUnknown("usher does not know this match")
	}
}

func otherReason(name string) string {
	switch name {
	case "set":
		return "usher has no sets: name the addresses by -s"
	case "owner":
		return "usher does not know the processes of clients: leave the owner out"
	case "iprange":
		return "write the range as prefixes, by -s or -d"
	}
	return "usher has no match " + name + ": leave it out"
}

// setUnknown keeps the first reason.
func (c *conditions) setUnknown(reason string) {
	if c.unknown == "" {
		c.unknown = reason
	}
}

func (c *conditions) addPorts(m *rules.Ports) {
	switch m.Protocol {
	case rules.TCP:
		c.protocols &= tcp
	case rules.UDP:
		c.protocols &= udp
	}
	if m.Source != nil {
		every := m.Source.First == 0 && m.Source.Last == allPorts.high
		switch {
		case !every:
			c.setUnknown("usher does not tell clients by their ports: leave --sport out")
		case m.NotSource:
			c.isNever = true
		}
	}
	if m.Destination != nil {
		c.ports = c.ports.and(newPortSet(portsOf(*m.Destination), m.NotDestination))
	}
}

// addStates adds the states of a connection: the table nat sees new ones alone.
func (c *conditions) addStates(m *rules.Conntrack) {
	if slices.Contains(m.States, "NEW") == m.Not {
		c.isNever = true
	}
}

func (c *conditions) addTypes(m *iptables.Addrtype) {
	if m.Destination != nil {
		isLocal := slices.Contains(m.Destination, "LOCAL")
		if isLocal == m.NotDestination {
			c.isNever = true
		}
		c.isLocalTarget = c.isLocalTarget || isLocal
	}
	if m.Source == nil {
		return
	}
	switch isLocal := slices.Contains(m.Source, "LOCAL"); {
	case isLocal && len(m.Source) > 1:
	case isLocal != m.NotSource:
		c.requireLocal(mustBe)
	default:
		c.requireLocal(mustNotBe)
	}
}

func (c *conditions) requireLocal(t tristate) {
	if c.isLocalSource != either && c.isLocalSource != t {
		c.isNever = true
	}
	c.isLocalSource = t
}

func (c *conditions) addShare(m *rules.Statistic) {
	share := m.Probability
	if m.Every > 0 {
		share, c.isTurn = 1/float64(m.Every), true
	}
	if m.Not {
		share = 1 - share
	}
	c.share *= share
}

// addRecent takes the checks and notes of kube-proxy's affinity. What else the match does is for the front door.
func (c *conditions) addRecent(m *rules.Recent) {
	const reason = "-m recent keeps clients at a backend here as kube-proxy writes it: --rcheck --seconds N before, and --set by the DNAT rule"
	switch {
	case m.Not || m.Destination || m.HitCount > 1:
		c.setUnknown(reason)
	case m.Action == rules.RecentSet && c.set == nil:
		c.set = m
	case (m.Action == rules.RecentCheck || m.Action == rules.RecentUpdate) && m.Seconds > 0 && c.check == nil:
		c.check = m
	default:
		c.setUnknown(reason)
	}
}

// takes reports whether a condition on the name of an interface is true of one.
func takes(i rules.Interface, name string) bool {
	if i.Name == "" {
		return true
	}
	prefix, isPattern := strings.CutSuffix(i.Name, "+")
	matches := i.Name == name || isPattern && strings.HasPrefix(name, prefix)
	return matches != i.Not
}
