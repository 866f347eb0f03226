package planner

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"usher/internal/config"
)

// Plan returns what a Service needs. Equal objects and an equal env give an equal result; the order of slices does not count.
// Its cost is linear in the ports and in the endpoints of each, and bounded: small objects may ask for as many endpoints
// as they have endpoints times ports.
func Plan(in Input, env *Env) Result {
	p := &plan{Service: in.Service, env: env, key: Key{in.Service.Namespace, in.Service.Name}}
	p.result.Record.Key = p.key
	switch spec := &p.Service.Spec; {
	case spec.Type == corev1.ServiceTypeExternalName:
		p.recordExternalName()
	case isHeadless(spec):
		p.readSlices(in.Slices)
		p.recordHeadless()
	case isServedByOthers(p.Service.Labels):
		p.recordAsIs()
	default:
		p.readSlices(in.Slices)
		p.serve()
	}
	p.result.Problems = p.problems.list()
	return p.result
}

// plan is the work on one Service.
type plan struct {
	*corev1.Service
	env      *Env
	key      Key
	sources  []source
	ports    map[servicePort][]slicePort // of all sources
	size     int                         // of what is planned so far
	ranges   ranges
	options  map[string][]option    // of each network
	taken    map[socket]bool        // by this Service
	ready    [2]map[netip.Addr]bool // endpoints of this node that are ready, of IPv4 and of IPv6
	problems problems
	result   Result
}

// serve makes the services of each port.
func (p *plan) serve() {
	p.readRanges()
	routes := p.routes()
	p.readOptions(routes)
	for i := range routes {
		r := &routes[i]
		c := p.choose(r)
		groups := p.groups(r)
		if !p.hasRoom(r, groups, &c) {
			break
		}
		p.count(r, &c)
		p.countReady(r, &c)
		for _, g := range groups {
			p.result.Services = append(p.result.Services, p.build(r, &g, &c))
		}
	}
	p.setHealth()
}

// route is one port of the Service in one family of addresses.
type route struct {
	port      *corev1.ServicePort
	network   string
	isIPv6    bool
	name      string // NAMESPACE/NAME[:PORT]
	addresses []address
}

// count adds what metrics and logs say about a route.
func (p *plan) count(r *route, c *choice) {
	for i := range c.endpoints {
		if e := &c.endpoints[i]; e.inCluster || e.inLocal {
			p.result.Endpoints++
		}
	}
	if !c.hasAny || c.hasLocal {
		return
	}
	if p.internal() == localList {
		p.result.NoLocalInternal++
	}
	if p.external() == localList && slices.ContainsFunc(r.addresses, address.isExternal) {
		p.result.NoLocalExternal++
	}
}

// isHeadless reports whether a Service has names alone.
func isHeadless(spec *corev1.ServiceSpec) bool {
	return spec.ClusterIP == corev1.ClusterIPNone || len(spec.ClusterIPs) > 0 && spec.ClusterIPs[0] == corev1.ClusterIPNone
}

// isServedByOthers reports whether kube-proxy ignores objects with these labels.
func isServedByOthers(labels map[string]string) bool {
	_, hasProxy := labels[labelServiceProxyName]
	_, isHeadless := labels[corev1.IsHeadlessService]
	return hasProxy || isHeadless
}

// labelServiceProxyName names the proxy that serves an object in place of kube-proxy.
const labelServiceProxyName = "service.kubernetes.io/service-proxy-name"

// triggered returns when the change behind the slices happened.
func triggered(slices []*discoveryv1.EndpointSlice) (latest time.Time) {
	for _, s := range slices {
		at, err := time.Parse(time.RFC3339Nano, s.Annotations[corev1.EndpointsLastChangeTriggerTime])
		if err == nil && at.After(latest) {
			latest = at
		}
	}
	return latest
}

// parseIP reads an address of an object. IPv4-mapped addresses are IPv4.
func parseIP(word string) (netip.Addr, error) {
	ip, err := netip.ParseAddr(strings.TrimSpace(word))
	switch {
	case err != nil:
		return netip.Addr{}, fmt.Errorf("%.64q is not an IP address", word)
	case ip.Zone() != "":
		return netip.Addr{}, fmt.Errorf("%.64q has a zone, which has no meaning on other machines", word)
	}
	return ip.Unmap(), nil
}

// networkOf returns the network of a protocol; empty: usher does not serve it.
func networkOf(p corev1.Protocol) string {
	switch p {
	case "", corev1.ProtocolTCP:
		return config.TCP
	case corev1.ProtocolUDP:
		return config.UDP
	}
	return ""
}
