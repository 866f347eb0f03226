package migrate

import (
	"net/netip"
	"slices"
	"strings"
)

// route sends the clients of a frontend that have an option of listeners to a backend.
type route struct {
	backend string
	from    *statement
	options []string // ,sni=NAME or ,from=PREFIX; empty: all other clients
}

func (r *route) isCatchAll() bool { return slices.Contains(r.options, "") }

// routeTable collects routes by their backends.
type routeTable struct {
	routes []route
	index  map[string]int
}

func (t *routeTable) add(backend string, from *statement, option string) {
	i, ok := t.index[backend]
	if !ok {
		i = len(t.routes)
		t.index[backend] = i
		t.routes = append(t.routes, route{backend: backend, from: from})
	}
	t.routes[i].options = append(t.routes[i].options, option)
}

// routes are where the clients of a frontend go. A listen sends those to its own servers that it sends nowhere else.
func (p *proxy) routes() []route {
	otherwise := p.settings["default_backend"]
	if p.kind == "listen" && len(p.servers) > 0 {
		otherwise = p.head
	}
	var named, addressed []*statement
	for _, at := range p.uses {
		c := p.conditionOf(at, 2)
		switch {
		case strings.ContainsAny(at.has(1), "%["):
			p.b.lose(at, p.name, "the backend is known only when a client comes: give each server name a listener of its own (sni=NAME)")
		case c == nil || len(c.subjects()) == 0 && !c.unless:
			otherwise = at
		case c.isAbout(names):
			named = append(named, at)
			continue
		case c.isAbout(clients):
			addressed = append(addressed, at)
			continue
		default:
			p.b.lose(at, p.name, "usher chooses a service by the listener, the server name (sni=) or the client's address (from=)")
		}
		if c == nil {
			break
		}
	}
	t := &routeTable{index: make(map[string]int)}
	if len(named) > 0 {
		p.nameRoutes(t, named)
		for _, at := range addressed {
			p.b.lose(at, p.name, "listeners share an address by server names or by the clients' addresses, and not by both")
		}
	} else if len(addressed) > 0 {
		p.clientRoutes(t, addressed, otherwise)
	}
	if otherwise != nil {
		t.add(p.defaultBackend(otherwise), otherwise, "")
	}
	return t.routes
}

// conditionOf returns the condition of a line whose words begin before if or unless; nil: there is none.
func (p *proxy) conditionOf(at *statement, first int) *condition {
	for i := first; i < len(at.words); i++ {
		if at.words[i] == "if" || at.words[i] == "unless" {
			return p.acls.parse(at.words[i], at.words[i+1:])
		}
	}
	return nil
}

// nameRoutes adds the backends of server names. usher prefers the longest name, HAProxy the first line.
func (p *proxy) nameRoutes(t *routeTable, uses []*statement) {
	taken := make(map[string]bool)
	for _, at := range uses {
		patterns, reason := p.conditionOf(at, 2).serverNames()
		if reason != "" {
			p.b.lose(at, p.name, "%s", reason)
			continue
		}
		p.useACLs(at)
		for _, pattern := range patterns {
			pattern = strings.ToLower(pattern)
			if isNameTaken(taken, pattern) {
				p.b.tell(at, p.name, "%s: a line above takes its clients", pattern)
				continue
			}
			taken[pattern] = true
			t.add(at.has(1), at, ",sni="+pattern)
		}
	}
}

// isNameTaken reports whether patterns hold all names of another one.
func isNameTaken(taken map[string]bool, pattern string) bool {
	if taken[pattern] {
		return true
	}
	for rest := strings.TrimPrefix(pattern, "*."); ; {
		_, parent, more := strings.Cut(rest, ".")
		if !more {
			return false
		}
		if taken["*."+parent] {
			return true
		}
		rest = parent
	}
}

// useACLs marks a line and its acls as brought over.
func (p *proxy) useACLs(at *statement) {
	at.done()
	for _, w := range at.words {
		for _, line := range p.aclLines[strings.TrimPrefix(w, "!")] {
			line.done()
		}
	}
}

// clientRoutes adds the backends of clients by their addresses. The first line that holds for a prefix decides.
func (p *proxy) clientRoutes(t *routeTable, uses []*statement, otherwise *statement) {
	conditions := make([]*condition, len(uses))
	prefixes := everybody()
	for i, at := range uses {
		conditions[i] = p.conditionOf(at, 2)
		prefixes = append(prefixes, conditions[i].prefixes()...)
		p.useACLs(at)
	}
	if len(prefixes)*len(uses) > maxEvaluations {
		p.b.lose(uses[0], p.name, "there are too many prefixes and lines to tell which service takes whom")
		return
	}
	for _, prefix := range sortedPrefixes(prefixes) {
		i := slices.IndexFunc(conditions, func(c *condition) bool { return c.holds(prefix) })
		switch {
		case i >= 0:
			t.add(uses[i].has(1), uses[i], ",from="+prefixWord(prefix))
		case otherwise != nil && prefix.Bits() > 0:
			t.add(p.defaultBackend(otherwise), otherwise, ",from="+prefixWord(prefix))
		}
	}
}

// defaultBackend is the backend of a line without a condition; the head of a listen has its own servers.
func (p *proxy) defaultBackend(at *statement) string {
	if at == p.head {
		return p.name
	}
	return at.has(1)
}

// maxEvaluations bounds how often conditions are evaluated for prefixes.
const maxEvaluations = 1 << 22

func sortedPrefixes(all []netip.Prefix) []netip.Prefix {
	slices.SortFunc(all, netip.Prefix.Compare)
	return slices.Compact(all)
}
