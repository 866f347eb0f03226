package nat

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"usher/internal/config"
	"usher/internal/iptables"
)

// udpIdle and udpUnreplied are the kernel's times of a translated flow (nf_conntrack_udp_timeout_stream and
// nf_conntrack_udp_timeout).
const (
	udpIdle      = 120 * time.Second
	udpUnreplied = 30 * time.Second
)

// services makes the services of the table nat.
func (p *planner) services() {
	var all []*study
	for _, k := range p.discover(p.nat, forTarget) {
		found := p.study(&k)
		if !p.hasWork() {
			break // rules say why; what was found may be a part
		}
		all = append(all, found...)
	}
	a := assembly{planner: p, studies: p.apart(all), groups: make(map[string]*group)}
	for _, s := range a.studies {
		a.add(s)
	}
	a.finish()
}

// apart leaves out what another study's listener on all addresses takes, or what would take its clients.
func (p *planner) apart(all []*study) (kept []*study) {
	type place struct {
		protocol protocols
		is6      bool
		port     uint16
	}
	wide, narrow := make(map[place]*study), make(map[place]*study)
	for _, s := range all {
		if len(s.cases) == 1 && s.cases[0].isNone() {
			continue // it is never translated
		}
		var clash *study
		for port := int(s.ports.low); port <= int(s.ports.high) && clash == nil; port++ {
			at := place{s.protocol, s.to.Addr().Is6(), uint16(port)}
			if clash = wide[at]; s.isAll() && clash == nil {
				clash = narrow[at]
			}
		}
		if clash != nil {
			if !s.isLike(clash) {
				p.blame(s, fmt.Sprintf("usher listens on %s for another rule, and not on all addresses of a port and on one of them: name addresses by -d", clash.name()), false)
			}
			continue
		}
		for port := int(s.ports.low); port <= int(s.ports.high); port++ {
			at := place{s.protocol, s.to.Addr().Is6(), uint16(port)}
			if s.isAll() {
				wide[at] = s
			} else {
				narrow[at] = s
			}
		}
		kept = append(kept, s)
	}
	return kept
}

// isLike reports whether the clients of two studies are served alike.
func (s *study) isLike(other *study) bool {
	return slices.EqualFunc(s.cases, other.cases, func(a, b clientCase) bool { return a.from == b.from && a.isSame(b.outcome) })
}

// blame notes the rules that translate the clients of a study.
func (p *planner) blame(s *study, reason string, isServed bool) {
	for _, c := range s.cases {
		for i := range c.backends {
			rules := c.backends[i].rules
			p.rest(rules[len(rules)-1], reason, isServed)
		}
	}
}

// group is a service while it is made.
type group struct {
	name     string
	protocol protocols
	*outcome
	listeners []config.Addr
	studies   []*study
}

// assembly makes services of studies.
type assembly struct {
	*planner
	studies []*study
	groups  map[string]*group // by outcome
	order   []*group
}

// add adds the listeners of a study to the services of its outcomes.
func (a *assembly) add(s *study) {
	byOutcome := make(map[string][]netip.Prefix)
	var order []clientCase
	serves := func(c clientCase) bool { return c.from.Bits() == 0 }
	for _, c := range s.cases {
		if c.isNone() && c.from.Bits() == 0 {
			continue // usher refuses clients of whom no listener says anything
		}
		if _, isThere := byOutcome[c.id]; !isThere {
			order = append(order, c)
		}
		if serves(c) {
			byOutcome[c.id] = append(byOutcome[c.id], netip.Prefix{})
			continue
		}
		byOutcome[c.id] = append(byOutcome[c.id], c.from)
	}
	for i, c := range order {
		name := s.name()
		switch {
		case c.isNone():
			name += "/refused"
		case i > 0:
			name += "/" + clientName(c.from)
		}
		g := a.group(s, c, name)
		g.studies = append(g.studies, s)
		g.listen(s, byOutcome[c.id])
	}
}

// clientName returns clients as a word of a name.
func clientName(p netip.Prefix) string {
	return fmt.Sprintf("%s-%d", strings.ReplaceAll(p.Addr().String(), "::", "--"), p.Bits())
}

// group returns the service of an outcome. Those that are refused have one for each key, and so has each length of a range
// of ports that go to as many.
func (a *assembly) group(s *study, c clientCase, name string) *group {
	id := fmt.Sprint(s.protocol, " ", c.id)
	if c.isNone() {
		id = name
	}
	for i := range c.backends {
		if c.backends[i].to.count > 1 {
			id += fmt.Sprint(" ", s.ports.count())
			break
		}
	}
	g := a.groups[id]
	if g == nil {
		g = &group{name: name, protocol: s.protocol, outcome: c.outcome}
		a.groups[id] = g
		a.order = append(a.order, g)
		return g
	}
	g.outcome = inCommon(g.outcome, c.outcome)
	return g
}

// inCommon returns an outcome whose backends have the rules that those of two equal ones have in common.
func inCommon(a, b *outcome) *outcome {
	one := *a
	one.backends = slices.Clone(a.backends)
	for i := range one.backends {
		x, y := one.backends[i].rules, b.backends[i].rules
		n := 0
		for n < min(len(x), len(y)) && x[len(x)-1-n] == y[len(y)-1-n] {
			n++
		}
		one.backends[i].rules = x[len(x)-n:]
	}
	return &one
}

// listen adds a listener for all clients, or for those of prefixes; an invalid prefix is all.
func (g *group) listen(s *study, from []netip.Prefix) {
	at := config.Addr{Network: s.protocol.String(), IP: s.to.Addr(), Port: s.ports.low, Ports: s.ports.count()}
	var words []string
	for _, p := range from {
		if !p.IsValid() {
			g.listeners = append(g.listeners, at)
			continue
		}
		words = append(words, p.String())
	}
	if len(words) > 0 {
		at.From = strings.Join(words, "+")
		g.listeners = append(g.listeners, at)
	}
}

// finish makes the services and guards of the result.
func (a *assembly) finish() {
	served := make(map[*study][]string)
	for _, g := range a.order {
		s, err := g.service().Completed()
		if err != nil {
			a.refuse(g, err)
			continue
		}
		a.result.Services = append(a.result.Services, s)
		a.result.Origins = append(a.result.Origins, g.origin())
		for _, at := range g.studies {
			served[at] = append(served[at], s.Name)
		}
	}
	for _, s := range a.studies {
		for _, who := range s.guards {
			if names := served[s]; len(names) > 0 {
				a.result.Guards = append(a.result.Guards, Guard{names, s.guard(who)})
			}
		}
	}
}

// refuse notes the rules of a service that config refuses.
func (a *assembly) refuse(g *group, err error) {
	reason := err.Error()
	if e, is := errors.AsType[*config.Error](err); is {
		reason = e.Reason(func(f config.Field) string { return string(f) })
	}
	for _, s := range g.studies {
		a.blame(s, reason, false)
	}
}

// guard returns the line that refuses some clients of a study's address.
func (s *study) guard(who string) string {
	line := "-A INPUT"
	if !s.isAll() {
		line += " -d " + s.to.String()
	}
	if d, isTarget := strings.CutPrefix(who, "-d "); isTarget {
		line += " -d " + d
	} else {
		line += " " + who
	}
	port := fmt.Sprint(s.ports.low)
	if s.ports.low != s.ports.high {
		port = fmt.Sprintf("%d:%d", s.ports.low, s.ports.high)
	}
	return fmt.Sprintf("%s -p %s -m %[2]s --dport %s -j REJECT --reject-with icmp-port-unreachable", line, s.protocol, port)
}

// service returns the service of a group.
func (g *group) service() *config.Service {
	s := config.NewService(g.name, g.protocol.String())
	s.Health, s.Listeners = config.Health{Kind: "off"}, g.listeners
	if g.isNone() {
		s.OnEmpty, s.Scheduler = config.EmptyRefuse, config.Scheduler{Name: "rr"}
		return s
	}
	if g.protocol == udp {
		s.UDP.IdleTimeout, s.UDP.UnrepliedTimeout = udpIdle, udpUnreplied
	}
	if g.persist > 0 {
		s.Persist = config.Persist{Timeout: g.persist, Bits4: g.bits}
	}
	if g.isSticky && len(g.backends) > 1 {
		s.Scheduler = config.Scheduler{Name: "mh"}
	}
	for i := range g.backends {
		s.Backends = append(s.Backends, g.backends[i].config(g.protocol))
	}
	if first := g.backends[0].source; !slices.ContainsFunc(g.backends, func(b backend) bool { return b.source != first }) {
		s.Source = sourceOf(first)
		return s
	}
	for i := range g.backends {
		s.Backends[i].Source = sourceOf(g.backends[i].source)
	}
	return s
}

func (b *backend) config(p protocols) config.Backend {
	at := config.Addr{Network: p.String(), IP: b.to.ip, Port: b.to.port, Ports: b.to.count}
	return config.Backend{Addr: at, Weight: b.weight}
}

func (g *group) origin() Origin {
	var o Origin
	for i := range g.backends {
		var rules []*iptables.Rule
		for _, r := range g.backends[i].rules {
			rules = append(rules, r.iptables)
		}
		o.Backends = append(o.Backends, rules)
	}
	return o
}

// sourceOf returns an address as the source of connections; one that is not valid leaves it to the kernel.
func sourceOf(ip netip.Addr) config.Source {
	switch {
	case !ip.IsValid():
		return config.Source{}
	case ip.Is4():
		return config.Source{V4: ip}
	}
	return config.Source{V6: ip}
}
