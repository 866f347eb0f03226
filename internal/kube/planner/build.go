package planner

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gaissmai/bart"
	corev1 "k8s.io/api/core/v1"

	"usher/internal/config"
)

// newService returns a service without checks of its own: the kubelet probes pods.
func newService(name, network string) *config.Service {
	s := config.NewService(name, network)
	s.Health = config.Health{Kind: "off"}
	s.OnEmpty = config.EmptyClose
	return s
}

// build returns the service of a group.
func (p *plan) build(r *route, g *group, c *choice) *config.Service {
	name := r.name + g.suffix
	if r.isIPv6 {
		name += "/ipv6"
	}
	s := newService(name, r.network)
	for _, l := range g.listeners {
		at := listener(r.network, l.listen)
		at.From = from(l.from)
		s.Listeners = append(s.Listeners, at)
		if len(l.from) == 0 {
			s.Virtual = append(s.Virtual, config.Virtual{Type: l.kind, Address: l.virtual.String(), Listen: l.listen.String()})
		}
	}
	s.Backends = backends(r.network, g.list, c)
	p.setAffinity(s)
	options := p.options[r.network]
	s = p.setOptions(s, options)
	if g.restricted {
		restrict(&s.Access, g.allow)
	}
	if !slices.ContainsFunc(options, func(o option) bool { return o.Name == onEmpty }) {
		s.OnEmpty = g.list.onEmpty(s, c)
	}
	return s
}

// from writes the clients of a listener as its option does.
func from(clients []netip.Prefix) string {
	words := make([]string, len(clients))
	for i, c := range clients {
		words[i] = c.String()
	}
	return strings.Join(words, "+")
}

// onEmpty returns what clients get while the list has no endpoint: those who may wait are held, those for whom there are
// endpoints on other nodes get no answer, and the kernel refuses all others.
func (l list) onEmpty(s *config.Service, c *choice) config.EmptyPolicy {
	switch {
	case s.Wait > 0:
		return config.EmptyRefuse
	case len(s.Backends) == 0 && l == localList && c.hasAny:
		return config.EmptyDrop
	}
	return config.EmptyClose
}

// restrict lets only those clients in whom both the source ranges and the options of the Service allow.
func restrict(a *config.Access, ranges []netip.Prefix) {
	// A verdict has the width of the tables of package rules, so that the binary has one form of both.
	const denied, allowed uint32 = 0, 1
	var options bart.Table[uint32]
	var within bart.Lite
	for _, c := range a.Allow {
		options.Insert(c, allowed)
	}
	for _, c := range a.Deny {
		options.Insert(c, denied)
	}
	var allow config.Prefixes
	for _, c := range ranges {
		within.Insert(c)
		if verdict, isListed := options.LookupPrefix(c); verdict == allowed || !isListed && len(a.Allow) == 0 {
			allow = append(allow, c)
		}
	}
	for _, c := range a.Allow {
		if verdict, _ := options.Get(c); verdict == allowed && within.LookupPrefix(c) {
			allow = append(allow, c)
		}
	}
	slices.SortFunc(allow, netip.Prefix.Compare)
	a.DropDenied = true
	if a.Allow = slices.Compact(allow); len(allow) == 0 {
		a.Deny = config.Prefixes{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
	}
}

// backends returns the endpoints of a list. Those that drain have no weight: their flows go on, and no new ones come.
func backends(network string, l list, c *choice) []config.Backend {
	isIn := func(e *endpoint) bool { return l == clusterList && e.inCluster || l == localList && e.inLocal }
	if !slices.ContainsFunc(c.endpoints, func(e endpoint) bool { return isIn(&e) }) {
		return nil
	}
	all := make([]config.Backend, 0, len(c.endpoints))
	for i := range c.endpoints {
		e := &c.endpoints[i]
		b := config.Backend{Addr: listener(network, e.addr)}
		switch {
		case isIn(e):
			b.Weight = 1
		case !e.isDraining || l == localList && !e.isLocal:
			continue
		}
		all = append(all, b)
	}
	return all
}

// setAffinity keeps a client at its endpoint for as long as the Service says.
func (p *plan) setAffinity(s *config.Service) {
	if p.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return
	}
	seconds := corev1.DefaultClientIPServiceAffinitySeconds
	if c := p.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil {
		seconds = valueOr(c.ClientIP.TimeoutSeconds, seconds)
	}
	if seconds < 1 || seconds > maxAffinity {
		p.problems.add(invalidSpec, "sessionAffinityConfig: a timeout is 1 to %d seconds, not %d", maxAffinity, seconds)
		seconds = corev1.DefaultClientIPServiceAffinitySeconds
	}
	s.Persist = config.Persist{Timeout: time.Duration(seconds) * time.Second, LeaveQuiesced: true}
}

// maxAffinity is the longest timeout of an affinity, in seconds.
const maxAffinity = 86400

// setOptions returns the service with the options that have an effect on it. Some need several backends.
func (p *plan) setOptions(s *config.Service, options []option) *config.Service {
	for options = slices.Clone(options); len(options) > 0; {
		done, wrong, err := with(s, options)
		if err == nil {
			return done
		}
		if wrong < 0 {
			p.problems.add(invalidAnnotation, "the options of this Service have no effect on %s: %v", s.Name, err)
			break
		}
		options = slices.Delete(options, wrong, wrong+1)
	}
	s.Scheduler = config.Scheduler{Name: "rr"} // as it is derived without options
	return s
}
