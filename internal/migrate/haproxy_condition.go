package migrate

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"
)

// condition is what follows if or unless: one of several groups of terms, each of which must hold.
type condition struct {
	groups [][]term
	unless bool
}

// term is a named list of criteria, one of which must hold, or none of them.
type term struct {
	not bool
	any []*criterion
}

// criterion is a line acl, or what stands in braces.
type criterion struct {
	fetch   string // what is looked at, with its converters
	method  string // of -m
	values  []string
	subject subject
	clients *bart.Lite     // of the subject clients
	list    []netip.Prefix // the same
}

// subject is what a criterion is about, as far as usher looks at it.
type subject string

const (
	unknownSubject subject = ""
	always         subject = "always"  // it holds whenever usher could ask
	clients        subject = "clients" // addresses of clients
	names          subject = "names"   // server names of a ClientHello
	rate           subject = "rate"    // of connections of a client
	current        subject = "current" // connections of a client
)

// newCriterion reads the words of one.
func newCriterion(words []string) *criterion {
	c := &criterion{fetch: words[0]}
	rest := words[1:]
	for len(rest) > 0 && strings.HasPrefix(rest[0], "-") {
		flag := rest[0]
		rest = rest[1:]
		switch {
		case flag == "-m" && len(rest) > 0:
			c.method, rest = rest[0], rest[1:]
		case flag == "-f" || flag == "-M" || flag == "-u":
			c.values = nil
			return c
		}
		if flag == "--" {
			break
		}
	}
	c.values = rest
	c.subject = c.findSubject()
	return c
}

func (c *criterion) findSubject() subject {
	name, _, _ := strings.Cut(c.fetch, "(")
	switch name {
	case "TRUE", "WAIT_END", "always_true":
		return always
	case "LOCALHOST":
		c.values = []string{"127.0.0.0/8", "::1"}
		return c.readClients()
	case "req.ssl_hello_type", "req_ssl_hello_type", "req.len", "req_len", "req.proto_http", "req.ssl_ver", "req_ssl_ver":
		if strings.Contains(name, "hello") || strings.Contains(name, "_ver") || strings.HasPrefix(name, "req.ssl") {
			return always
		}
	case "src":
		if c.method == "" || c.method == "ip" {
			return c.readClients()
		}
	case "req.ssl_sni", "req_ssl_sni", "req.ssl_sni,lower", "req_ssl_sni,lower":
		return names
	case "src_conn_rate", "sc0_conn_rate", "sc1_conn_rate", "sc2_conn_rate", "sc_conn_rate":
		return rate
	case "src_conn_cur", "sc0_conn_cur", "sc1_conn_cur", "sc2_conn_cur", "sc_conn_cur":
		return current
	}
	return unknownSubject
}

// readClients reads the values as prefixes.
func (c *criterion) readClients() subject {
	c.clients = new(bart.Lite)
	for _, w := range c.values {
		p, ok := parsePrefix(w)
		if !ok {
			return unknownSubject
		}
		c.clients.Insert(p)
		c.list = append(c.list, p)
	}
	return clients
}

// acls are the named criteria of a proxy.
type acls map[string][]*criterion

// parse reads a condition from the words behind if or unless. Names that no acl has are fetches.
func (a acls) parse(word string, words []string) *condition {
	c := &condition{unless: word == "unless"}
	var group []term
	not := false
	add := func(any []*criterion) {
		group = append(group, term{not, any})
		not = false
	}
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case w == "or" || w == "||":
			c.groups, group = append(c.groups, group), nil
			continue
		case w == "!":
			not = !not
			continue
		case strings.HasPrefix(w, "!"):
			not, w = !not, w[1:]
		}
		if w != "{" {
			if any, ok := a[w]; ok {
				add(any)
			} else {
				add([]*criterion{newCriterion([]string{w})})
			}
			continue
		}
		end := slices.Index(words[i:], "}")
		if end < 2 {
			add([]*criterion{{}})
			break
		}
		add([]*criterion{newCriterion(words[i+1 : i+end])})
		i += end
	}
	c.groups = append(c.groups, group)
	return c
}

// subjects returns what a condition is about, each once and without what always holds.
func (c *condition) subjects() (all []subject) {
	for _, group := range c.groups {
		for _, t := range group {
			for _, x := range t.any {
				if x.subject != always && !slices.Contains(all, x.subject) {
					all = append(all, x.subject)
				}
			}
		}
	}
	return all
}

// isAbout reports whether a condition is about one subject alone.
func (c *condition) isAbout(s subject) bool { return slices.Equal(c.subjects(), []subject{s}) }

// holds evaluates a condition about clients, for those whose longest prefix of all lists is p.
func (c *condition) holds(p netip.Prefix) bool {
	return c.unless != slices.ContainsFunc(c.groups, func(group []term) bool {
		return !slices.ContainsFunc(group, func(t term) bool {
			return t.not == slices.ContainsFunc(t.any, func(x *criterion) bool {
				return x.subject == always || x.clients.LookupPrefix(p)
			})
		})
	})
}

// prefixes are all that a condition about clients names.
func (c *condition) prefixes() (all []netip.Prefix) {
	for _, group := range c.groups {
		for _, t := range group {
			for _, x := range t.any {
				all = append(all, x.list...)
			}
		}
	}
	return all
}

// limit is the number of a condition "more than N" about one subject.
func (c *condition) limit() (word string, x *criterion) {
	if c.unless || len(c.groups) != 1 || len(c.groups[0]) != 1 || c.groups[0][0].not || len(c.groups[0][0].any) != 1 {
		return "", nil
	}
	x = c.groups[0][0].any[0]
	if len(x.values) == 2 && (x.values[0] == "gt" || x.values[0] == "ge") {
		return x.values[1], x
	}
	return "", nil
}

// serverNames are the patterns of a condition "one of these server names"; nil: it is none, or reason says why not.
func (c *condition) serverNames() (patterns []string, reason string) {
	const inexact = "only whole names (str) and their ends (end) can be told apart: write them as sni=NAME and sni=*.NAME"
	if c.unless {
		return nil, "all names but some are those of a listener without sni: give the names of the others"
	}
	for _, group := range c.groups {
		found := 0
		for _, t := range group {
			for _, x := range t.any {
				switch {
				case x.subject == always && !t.not:
					continue
				case t.not:
					return nil, "all names but some are those of a listener without sni: give the names of the others"
				}
				found++
				for _, v := range x.values {
					switch {
					case x.method == "" || x.method == "str":
						patterns = append(patterns, v)
					case x.method == "end" && strings.HasPrefix(v, "."), x.method == "dom" && strings.Contains(v, "."):
						patterns = append(patterns, "*."+strings.TrimLeft(v, "."))
					case x.method == "end":
						patterns = append(patterns, v, "*."+v)
					default:
						return nil, inexact
					}
				}
			}
		}
		if found != 1 && len(group) > 1 {
			return nil, inexact
		}
	}
	return patterns, ""
}
