package planner

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// ranges are the clients that may come to the addresses of a load balancer.
type ranges struct {
	ipv4, ipv6 []netip.Prefix // empty: all of the family
	isClosed   bool           // what is said cannot be read, so nobody may come
}

// of returns those of one family.
func (s *ranges) of(isIPv6 bool) (allowed []netip.Prefix, restricted bool) {
	allowed = s.ipv4
	if isIPv6 {
		allowed = s.ipv6
	}
	return allowed, s.isClosed || len(allowed) > 0
}

// readRanges reads loadBalancerSourceRanges. Prefixes of the other family are ignored, as kube-proxy does: a family without
// any is open. Where none can be read, nobody may come.
func (p *plan) readRanges() {
	words := p.Spec.LoadBalancerSourceRanges
	if list := p.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey]; len(words) == 0 && strings.TrimSpace(list) != "" {
		words = strings.Split(list, ",")
	}
	for _, word := range words {
		cidr, err := netip.ParsePrefix(strings.TrimSpace(word))
		switch {
		case err != nil:
			p.problems.add(invalidSourceRange, "source range %.64q is not a prefix, such as 10.0.0.0/8", word)
		case cidr.Addr().Is4In6():
			p.problems.add(invalidSourceRange, "source range %s is an IPv4 one in IPv6's words", cidr)
		case cidr.Addr().Is4():
			p.ranges.ipv4 = append(p.ranges.ipv4, cidr.Masked())
		default:
			p.ranges.ipv6 = append(p.ranges.ipv6, cidr.Masked())
		}
	}
	p.ranges.isClosed = len(words) > 0 && len(p.ranges.ipv4)+len(p.ranges.ipv6) == 0
	p.ranges.ipv4 = p.complete(p.ranges.ipv4, false)
	p.ranges.ipv6 = p.complete(p.ranges.ipv6, true)
}

// complete sorts the ranges of a family, each once; nil: all may come. Where this machine may come, it may do so from the
// load balancer's addresses: those are the source of a connection to itself.
func (p *plan) complete(cidrs []netip.Prefix, isIPv6 bool) []netip.Prefix {
	if slices.ContainsFunc(cidrs, func(c netip.Prefix) bool { return c.Bits() == 0 }) {
		return nil
	}
	isAllowed := func(own netip.Prefix) bool {
		return own.IsSingleIP() && slices.ContainsFunc(cidrs, func(c netip.Prefix) bool { return c.Contains(own.Addr()) })
	}
	if slices.ContainsFunc(p.env.Node.Local, isAllowed) {
		for _, ip := range p.loadBalancerIPs(isIPv6) {
			cidrs = append(cidrs, netip.PrefixFrom(ip, ip.BitLen()))
		}
	}
	slices.SortFunc(cidrs, netip.Prefix.Compare)
	return slices.Compact(cidrs)
}
