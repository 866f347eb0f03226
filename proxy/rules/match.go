package rules

import (
	"sync/atomic"

	"usher/proxy/limit"
)

// matcher is a condition of a rule with its state: one of the types below. A switch calls
// their methods, rather than an interface: so the packet stays on the caller's stack.
type matcher interface{ isMatcher() }

type (
	// never is a condition that no new flow meets.
	never struct{}
	// portsMatcher is met by ports in both sets.
	portsMatcher struct {
		protocol            Protocol // or All
		source, destination portSet
	}
	// eitherPortMatcher is met by a source or destination port in a set.
	eitherPortMatcher struct{ ports portSet }
	limitMatcher      struct {
		rate   limit.Rate
		bucket *limit.Bucket
	}
	hashlimitMatcher struct {
		*Hashlimit // the first one of its name, which rules for all
		above      bool
		buckets    *limit.Buckets
	}
	connlimitMatcher struct {
		*Connlimit
		counts *limit.Counts
	}
	recentMatcher struct {
		*Recent
		list *recentList
	}
	statisticMatcher struct {
		*Statistic
		seed  uint64
		count *atomic.Uint64 // how often it was evaluated
	}
)

func (never) isMatcher()              {}
func (*portsMatcher) isMatcher()      {}
func (*eitherPortMatcher) isMatcher() {}
func (*limitMatcher) isMatcher()      {}
func (*hashlimitMatcher) isMatcher()  {}
func (*connlimitMatcher) isMatcher()  {}
func (*recentMatcher) isMatcher()     {}
func (*statisticMatcher) isMatcher()  {}

// meets reports whether the packet meets a condition, which takes its state if it has one.
func (v *visit) meets(m matcher) bool {
	p := v.packet
	switch m := m.(type) {
	case *portsMatcher:
		return (m.protocol == All || m.protocol == p.Protocol) &&
			m.source.has(p.Client.Port()) && m.destination.has(p.Local.Port())
	case *eitherPortMatcher:
		return m.ports.has(p.Client.Port()) || m.ports.has(p.Local.Port())
	case *connlimitMatcher:
		return (v.members(m) > m.N) == m.Above
	}
	if v.mode != deciding {
		return false
	}
	switch m := m.(type) {
	case *limitMatcher:
		return m.bucket.Take(m.rate, v.now)
	case *hashlimitMatcher:
		return m.buckets.Take(m.group(p), m.Rate, v.now) != m.above
	case *recentMatcher:
		addr := p.Client.Addr()
		if m.Destination {
			addr = p.Local.Addr()
		}
		return m.list.visit(m.Recent, addr, v.now)
	case *statisticMatcher:
		return m.isChosen(m.count.Add(1)-1) != m.Not
	}
	return false
}

// members returns how many flows of the packet's group live. A flow enters its group once,
// however often it comes to the rule.
func (v *visit) members(m *connlimitMatcher) int {
	addr := v.packet.Client.Addr()
	if m.Destination {
		addr = v.packet.Local.Addr()
	}
	k := limit.PrefixKey(addr, bitsIPv4(m.Bits), bitsIPv6(m.Bits))
	if v.mode == judging {
		return m.counts.Members(k)
	}
	c, n := m.counts.Enter(k)
	if v.holds.Has(c) {
		c.Leave()
		return n - 1
	}
	v.holds.Add(c)
	return n
}

// group returns the key of the packet's bucket.
func (m *hashlimitMatcher) group(p *Packet) (k limit.Key) {
	if m.Source {
		k = limit.PrefixKey(p.Client.Addr(), bitsIPv4(m.SourceBits), bitsIPv6(m.SourceBits))
	}
	if m.Destination {
		k = k.WithAddress(p.Local.Addr(), bitsIPv4(m.DestinationBits), bitsIPv6(m.DestinationBits))
	}
	var source, destination uint16
	if m.SourcePort {
		source = p.Client.Port()
	}
	if m.DestinationPort {
		destination = p.Local.Port()
	}
	return k.WithPorts(source, destination)
}

// bitsIPv4 returns how many bits of an IPv4 address make a group; see Hashlimit.
func bitsIPv4(bits int) uint8 { return uint8(min(max(bits, 0), 32)) }

// bitsIPv6 returns how many bits of an IPv6 address make a group; see Hashlimit.
func bitsIPv6(bits int) uint8 {
	if bits <= 32 {
		bits *= 4
	}
	return uint8(min(max(bits, 0), 128))
}

// isChosen reports whether the n-th packet, counted from zero, is one that is chosen.
func (m *statisticMatcher) isChosen(n uint64) bool {
	if m.Every > 0 {
		return n%uint64(m.Every) == uint64(m.Packet)
	}
	// splitmix64 makes a random number out of each count. Its upper 31 bits decide, as
	// iptables has as many for the probability.
	z := m.seed + (n+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return float64(z>>33) < m.Probability*(1<<31)
}
