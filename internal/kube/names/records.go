package names

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"

	"usher/internal/kube/planner"
)

// service has the records of one Service. It is not changed once it is made, but for the turns of its sets.
type service struct {
	// nodes are by the labels before the name of the Service, in lower case: "" (the Service), "_http._tcp", "_tcp"
	// (which has no records), "pod-0". The Service has none if it is headless and no endpoint is ready.
	nodes      map[string]*node
	clusterIPs map[netip.Addr][]string
	endpoints  map[netip.Addr][]string
}

// node has the records of one name.
type node struct {
	v4, v6 set[netip.Addr]
	srv    set[target]
	cname  string // with a dot at its end; empty: it is no alias
}

// target is where an SRV record points to.
type target struct {
	node string // in the nodes of the same Service
	name string
	port uint16
}

// set are the records of one name and type. Each answer begins one further than the last, so that clients that take the
// first are spread.
type set[T any] struct {
	items []T
	next  atomic.Uint32
}

// take returns at most that many items.
func (s *set[T]) take(most int) []T {
	n := len(s.items)
	if n == 0 {
		return nil
	}
	start := int(s.next.Add(1) % uint32(n))
	taken := make([]T, 0, min(n, most))
	for i := range min(n, most) {
		taken = append(taken, s.items[(start+i)%n])
	}
	return taken
}

// newService makes the records of a Service of that full name. What cannot be a name is left out.
func newService(r planner.Record, name string) *service {
	s := &service{
		nodes:      make(map[string]*node),
		clusterIPs: make(map[netip.Addr][]string),
		endpoints:  make(map[netip.Addr][]string),
	}
	switch {
	case r.ExternalName != "":
		s.addAlias(r.ExternalName)
	case len(r.Addrs) > 0 || len(r.ClusterIPs) > 0:
		s.addClusterIPs(r, name)
	default:
		s.addHeadless(r, name)
	}
	for _, n := range s.nodes {
		n.v4.next.Store(rand.Uint32())
		n.v6.next.Store(rand.Uint32())
		n.srv.next.Store(rand.Uint32())
	}
	return s
}

func (s *service) addAlias(name string) {
	alias := s.node("")
	if _, is := dns.IsDomainName(name); is && name != "." {
		alias.cname = dns.Fqdn(name)
	}
}

func (s *service) addClusterIPs(r planner.Record, name string) {
	self := s.node("")
	seen := make(map[netip.Addr]bool)
	for _, addr := range r.Addrs {
		if addr = addr.Unmap(); addr.IsValid() && !seen[addr] {
			seen[addr] = true
			self.add(addr)
			s.clusterIPs[addr] = []string{name}
		}
	}
	for _, addr := range r.ClusterIPs {
		if addr.IsValid() {
			s.clusterIPs[addr.Unmap()] = []string{name}
		}
	}
	known := make(map[srvKey]bool)
	for _, port := range r.Ports {
		s.addPort(port, target{name: name, port: port.Number}, known)
	}
}

func (s *service) addHeadless(r planner.Record, name string) {
	type hostAddr struct {
		host string
		addr netip.Addr
	}
	known, seen, hosts := make(map[srvKey]bool), make(map[netip.Addr]bool), make(map[hostAddr]bool)
	for _, e := range r.Headless {
		addr := e.Addr.Unmap().WithZone("")
		if !addr.IsValid() {
			continue
		}
		if !seen[addr] {
			seen[addr] = true
			s.node("").add(addr)
		}
		host := hostname(e)
		full := host + "." + name
		if _, is := dns.IsDomainName(full); !is {
			continue
		}
		if !hosts[hostAddr{host, addr}] {
			hosts[hostAddr{host, addr}] = true
			s.node(host).add(addr)
			if addr != netip.AddrFrom4([4]byte{127, 0, 0, 1}) && addr != netip.IPv6Loopback() { // they stay localhost
				s.endpoints[addr] = append(s.endpoints[addr], full)
			}
		}
		for _, port := range e.Ports {
			s.addPort(port, target{node: host, name: full, port: port.Number}, known)
		}
	}
}

// srvKey tells SRV records apart: endpoints of one host name and both families share theirs.
type srvKey struct {
	node, target string
	port         uint16
}

// addPort adds the SRV records of a port: at the Service, as CoreDNS does, and at its own name if it has one.
func (s *service) addPort(port planner.Port, to target, known map[srvKey]bool) {
	proto := "_" + strings.ToLower(port.Protocol)
	nodes := []string{""}
	if isLabel(port.Name) && isLabel(proto) {
		s.node(proto)
		nodes = append(nodes, "_"+strings.ToLower(port.Name)+"."+proto)
	}
	for _, at := range nodes {
		if key := (srvKey{at, to.name, to.port}); !known[key] {
			known[key] = true
			n := s.node(at)
			n.srv.items = append(n.srv.items, to)
		}
	}
}

// node returns the node of that name, which it makes if there is none.
func (s *service) node(name string) *node {
	if s.nodes[name] == nil {
		s.nodes[name] = new(node)
	}
	return s.nodes[name]
}

func (n *node) add(addr netip.Addr) {
	if addr.Is4() {
		n.v4.items = append(n.v4.items, addr)
	} else {
		n.v6.items = append(n.v6.items, addr)
	}
}

// hostname returns the label of an endpoint: its host name, or its address with dashes.
func hostname(e planner.Endpoint) string {
	if isLabel(e.Hostname) {
		return strings.ToLower(e.Hostname)
	}
	return strings.NewReplacer(".", "-", ":", "-").Replace(e.Addr.Unmap().WithZone("").String())
}
