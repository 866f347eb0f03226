package kube

import (
	"net"
	"net/netip"
	"slices"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"usher/internal/kube/objects"
	"usher/internal/kube/planner"
)

// machine is what usher runs on, as Kubernetes and the system know it.
type machine struct {
	name       string // of its Node
	isGiven    bool   // by the user; otherwise it is that of the host, and counts if there is such a Node
	ports      []netip.Prefix
	interfaces func() ([]netip.Addr, error)
	log        *zap.Logger

	addrs     []netip.Addr // of this machine; those of before when they cannot be read
	isMissing bool         // there is no Node of the given name, which is logged
}

// node returns the node that usher runs on, and its object; nil: there is none.
func (m *machine) node(store *objects.Store) (planner.Node, *corev1.Node) {
	m.readInterfaces()
	object := store.Node(m.name)
	if object == nil && m.isGiven && !m.isMissing {
		m.log.Warn("there is no Node of this name: nothing is known of its zone and its pods", zap.String("node", m.name))
	}
	m.isMissing = m.isGiven && object == nil
	n := planner.Node{}
	for _, addr := range m.addrs {
		n.Local = append(n.Local, netip.PrefixFrom(addr, addr.BitLen()))
	}
	if object == nil && !m.isGiven {
		return n, nil
	}
	n.Name = m.name
	if object != nil {
		n.Zone = object.Labels[corev1.LabelTopologyZone]
		for _, word := range podCIDRs(object) {
			if prefix, err := netip.ParsePrefix(word); err == nil {
				n.Local = append(n.Local, prefix.Masked())
			}
		}
	}
	slices.SortFunc(n.Local, netip.Prefix.Compare)
	n.Local = slices.Compact(n.Local)
	return n, object
}

// isNode reports whether usher runs on a node, whose object may be gone.
func (m *machine) isNode(object *corev1.Node) bool { return m.isGiven || object != nil }

func podCIDRs(node *corev1.Node) []string {
	if len(node.Spec.PodCIDRs) > 0 {
		return node.Spec.PodCIDRs
	}
	return []string{node.Spec.PodCIDR}
}

// nodePorts returns the addresses that node ports are served on. Unless the user says otherwise these are all of them on a
// node, and loopback elsewhere.
func (m *machine) nodePorts(isNode bool) (all []netip.Addr) {
	for _, family := range []struct{ unspecified, loopback netip.Addr }{
		{netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{127, 0, 0, 1})}, {netip.IPv6Unspecified(), netip.IPv6Loopback()},
	} {
		mine := slices.DeleteFunc(slices.Clone(m.addrs), func(a netip.Addr) bool { return a.Is6() != family.loopback.Is6() })
		isAll := slices.ContainsFunc(m.ports, func(p netip.Prefix) bool { return p.Bits() == 0 && p.Addr().Is6() == family.loopback.Is6() })
		switch {
		case len(mine) == 0: // the machine is without this family
		case isAll || len(m.ports) == 0 && isNode:
			all = append(all, family.unspecified)
		case len(m.ports) == 0:
			if slices.Contains(mine, family.loopback) {
				all = append(all, family.loopback)
			}
		default:
			for _, a := range mine {
				if slices.ContainsFunc(m.ports, func(p netip.Prefix) bool { return p.Contains(a) }) {
					all = append(all, a)
				}
			}
		}
	}
	return all
}

func (m *machine) readInterfaces() {
	addrs, err := m.interfaces()
	if err != nil {
		m.log.Warn("the addresses of this machine cannot be read; those of before stand", zap.Error(err))
		return
	}
	m.addrs = addrs
}

// interfaceAddrs returns the addresses of this machine but those that are valid on one link alone, sorted.
func interfaceAddrs() (all []netip.Addr, err error) {
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		if prefix, err := netip.ParsePrefix(f.String()); err == nil && !prefix.Addr().IsLinkLocalUnicast() {
			all = append(all, prefix.Addr().Unmap())
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all), nil
}
