package planner

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// group is one service of a route: the addresses whose clients get the same list, from the same sources.
type group struct {
	suffix     string // of its name
	list       list
	allow      []netip.Prefix // of a restricted one
	restricted bool           // others are dropped
	listeners  []groupListener
}

// groupListener is an address of a group, for some of its clients.
type groupListener struct {
	address
	from []netip.Prefix // empty: all that no other listener of the address takes
}

// longestSuffix is the longest one that the name of a service may have.
const longestSuffix = "/loadbalancer/node/ipv6"

// internal returns the list of those who connect to a ClusterIP.
func (p *plan) internal() list {
	return p.listOf(valueOr(p.Spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster) == corev1.ServiceInternalTrafficPolicyLocal)
}

// external returns the list of those who connect to any other address.
func (p *plan) external() list {
	return p.listOf(p.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal)
}

// listOf returns the list of a policy. Without a node nothing is local, and Local means Cluster.
func (p *plan) listOf(isLocal bool) list {
	if isLocal && p.env.Node.Name != "" {
		return localList
	}
	return clusterList
}

// groups splits the addresses of a route by their lists and sources. Under the external policy Local, those who connect from
// this node get the list of the cluster.
//
//	addresses       clients         list       group
//	ClusterIP       all             internal   NAME
//	external        all             external   NAME if the lists are equal, else /external
//	external Local  this node's     cluster    NAME if the lists are equal, else /external
//	with ranges     those allowed   external   /loadbalancer
//	with ranges     this node's     cluster    /loadbalancer/node
func (p *plan) groups(r *route) []group {
	internal, external := p.internal(), p.external()
	allow, restricted := p.ranges.of(r.isIPv6)
	var all []group
	for _, a := range r.addresses {
		g := group{list: external}
		switch {
		case !a.isExternal():
			g.list = internal
		case restricted && a.kind == kindLoadBalancer:
			g.suffix, g.allow, g.restricted = "/loadbalancer", allow, true
		case internal != external:
			g.suffix = "/external"
		}
		all = join(all, g, groupListener{address: a})
		if !a.isExternal() || external != localList {
			continue
		}
		switch g.list = clusterList; {
		case g.restricted:
			g.suffix = "/loadbalancer/node"
		case internal == clusterList:
			g.suffix = ""
		default:
			g.suffix = "/external"
		}
		all = join(all, g, groupListener{address: a, from: p.ownSources(a)})
	}
	return all
}

// join adds a listener to the group of its suffix, which is new or not.
func join(all []group, g group, l groupListener) []group {
	i := slices.IndexFunc(all, func(h group) bool { return h.suffix == g.suffix })
	if i < 0 {
		i, all = len(all), append(all, g)
	}
	all[i].listeners = append(all[i].listeners, l)
	return all
}

// ownSources returns the addresses that this node and its pods connect from to an address. Those of a link are left out:
// they come and go with pods.
func (p *plan) ownSources(a address) []netip.Prefix {
	ip := a.listen.Addr()
	isOf := func(own netip.Prefix) bool { return own.Addr().Is6() == ip.Is6() && !own.Addr().IsLinkLocalUnicast() }
	loopback := netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)
	if ip.Is6() {
		loopback = netip.PrefixFrom(netip.IPv6Loopback(), 128)
	}
	own := []netip.Prefix{loopback}
	if !ip.IsUnspecified() {
		own = append(own, netip.PrefixFrom(ip, ip.BitLen()))
	}
	for _, l := range p.env.Node.Local {
		if isOf(l) {
			own = append(own, l.Masked())
		}
	}
	slices.SortFunc(own, netip.Prefix.Compare)
	return slices.Compact(own)
}
