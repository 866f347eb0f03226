package migrate

import (
	"slices"
	"strings"
)

// proxy is a section frontend, backend or listen, with what its defaults say.
type proxy struct {
	*section
	b              *builder
	others         map[string]*proxy // by name, for their tables
	mode           string
	settings       map[string]*statement // the last line of each, by its first words
	acls           acls
	aclLines       map[string][]*statement
	binds          []*statement
	servers        []*server
	serverDefaults map[string]string
	uses           []*statement // use_backend
	gates          []*statement // tcp-request
	sticks         []*statement
	steps          []*statement // tcp-check
	requests       []*statement // http-check
	isUsed         bool
}

func (h *haproxy) readProxy(s *section) {
	p := &proxy{
		section: s, b: h.b, others: h.backends, mode: "tcp", settings: make(map[string]*statement), acls: make(acls), aclLines: make(map[string][]*statement),
		serverDefaults: make(map[string]string),
	}
	h.proxies = append(h.proxies, p)
	var chain []*section // of defaults, the outermost first
	for d := s.defaults; d != nil && len(chain) < maxDefaults; d = d.defaults {
		chain = append(chain, d)
	}
	slices.Reverse(chain)
	for _, d := range append(chain, s) {
		for _, at := range d.body {
			if at.words[0] == "mode" {
				p.mode = at.has(1)
			}
		}
	}
	if p.kind != "frontend" {
		h.backends[p.name] = p
	}
	if p.mode != "tcp" {
		p.loseAll("mode " + p.mode + ": usher passes bytes and does not read requests: keep a proxy for " + p.mode +
			" behind usher (send-proxy passes the client's address on)")
		return
	}
	s.head.done()
	for _, d := range chain {
		d.head.done()
		for _, at := range d.body {
			p.read(at)
		}
	}
	for _, at := range s.body {
		p.read(at)
	}
}

// table returns the line stick-table of another proxy, or nil.
func (p *proxy) table(name string) *statement {
	other := p.others[name]
	if other == nil || other.settings["stick-table"] == nil {
		return nil
	}
	other.isUsed = true
	return other.settings["stick-table"]
}

// maxDefaults bounds how deep defaults follow from others.
const maxDefaults = 16

// loseAll gives all lines of the section one reason.
func (p *proxy) loseAll(reason string) {
	for _, at := range append([]*statement{p.head}, p.body...) {
		p.b.lose(at, "", "%s", reason)
	}
}

// read takes a line in.
func (p *proxy) read(at *statement) {
	if at.isVoid {
		return
	}
	key := keyOf(at)
	lists := map[string]*[]*statement{
		"bind": &p.binds, "use_backend": &p.uses, "tcp-check": &p.steps, "http-check": &p.requests, "stick": &p.sticks,
		"tcp-request": &p.gates,
	}
	switch off, isOff := strings.CutPrefix(key, "no "); {
	case lists[key] != nil:
		*lists[key] = append(*lists[key], at)
	case key == "acl":
		if len(at.words) > 2 {
			name := at.words[1]
			p.acls[name] = append(p.acls[name], newCriterion(at.words[2:]))
			p.aclLines[name] = append(p.aclLines[name], at)
		}
	case key == "server":
		if s := p.readServer(at); s != nil {
			p.servers = append(p.servers, s)
		}
	case key == "default-server":
		if s := p.readServer(at); s != nil {
			p.serverDefaults = s.set
		}
	case isOff:
		delete(p.settings, off)
		at.done()
	case proxyDone[key]:
		p.settings[key] = at
		at.done()
	case key == "server-template" || key == "dispatch" || key == "default_backend":
		p.settings[key] = at
		if key == "server-template" {
			p.readTemplate(at)
		}
		at.done()
	}
}

// keyOf is what tells lines of a proxy apart: the first word, of some the first two, or three behind a no.
func keyOf(at *statement) string {
	n := 1
	if at.words[0] == "no" {
		n++
	}
	if first := at.has(n - 1); first == "option" || first == "timeout" {
		n++
	}
	return strings.Join(at.words[:min(n, len(at.words))], " ")
}

// readTemplate makes a backend of a line server-template: all records of a name, or all SRV records.
func (p *proxy) readTemplate(at *statement) {
	if len(at.words) < 4 {
		p.b.lose(at, p.name, "it needs a prefix, a number and an address")
		return
	}
	line := *at
	line.words = append([]string{"server", at.words[1], at.words[3]}, at.words[4:]...)
	s := p.readServer(&line)
	if s == nil {
		return
	}
	s.at = at
	if host, _, _ := strings.Cut(s.address, ":"); strings.HasPrefix(host, "_") {
		s.address = "srv:" + host
	}
	p.b.tell(at, p.name, "all addresses of the name are backends, however many: usher has no number of places")
	p.servers = append(p.servers, s)
}

// proxyDone are the lines of proxies that the plan has. The makers of services look at them.
var proxyDone = setOf("mode", "balance", "hash-type", "hash-balance-factor", "retries", "source", "stick-table", "maxconn",
	"timeout connect", "timeout client", "timeout server", "timeout check", "timeout queue", "timeout tunnel",
	"timeout client-fin", "timeout server-fin", "option tcplog", "option tcp-check", "option httpchk", "option redis-check",
	"option smtpchk", "option ssl-hello-chk", "option mysql-check", "option pgsql-check", "option ldap-check",
	"option external-check", "external-check", "option redispatch", "option allbackups", "option abortonclose", "option srvtcpka",
	"option clitcpka", "option tcpka")

func setOf(words ...string) map[string]bool {
	all := make(map[string]bool, len(words))
	for _, w := range words {
		all[w] = true
	}
	return all
}

// haproxyRest says what of a line is lost, or works in another way, that no proxy of mode tcp has read.
func haproxyRest(at *statement) (reason string, lost bool) {
	key := keyOf(at)
	if proxyRemarks[key] != "" {
		return proxyRemarks[key], false
	}
	if proxyReasons[key] != "" {
		return proxyReasons[key], true
	}
	switch first := at.words[0]; {
	case strings.HasPrefix(key, "no option "), proxyHarmless[key], strings.HasPrefix(first, "clitcpka-"), strings.HasPrefix(first, "srvtcpka-"):
		return "", false
	case strings.HasPrefix(first, "http"), strings.HasPrefix(key, "option http"), strings.HasPrefix(key, "timeout http"),
		strings.HasPrefix(first, "error"), strings.HasPrefix(first, "stats"), strings.HasPrefix(first, "compression"),
		strings.HasPrefix(first, "capture"), strings.HasPrefix(first, "monitor"):
		return "it is for mode http, and has no effect here", false
	case first == "defaults":
		return "no proxy of mode tcp has these defaults", false
	case first == "acl":
		return "no line that is brought over uses it", false
	case proxyDone[key], first == "bind", first == "server", first == "default-server", first == "use_backend":
		return "no proxy of mode tcp uses it", false
	}
	return unknownDirective, true
}

// proxyRemarks say how usher does what a line of a proxy says.
var proxyRemarks = map[string]string{
	"log":                         "usher logs to stderr; access-log has a line for each flow",
	"log-format":                  "the access log has fields of its own (usher help access); log-format: json is for programs",
	"error-log-format":            "the access log has fields of its own (usher help access)",
	"log-format-sd":               "the access log has fields of its own (usher help access)",
	"log-tag":                     "usher logs to stderr",
	"option logasap":              "the access log has a line when a flow ends",
	"option log-health-checks":    "usher logs each change of a backend, and not each check",
	"option nolinger":             "a reset passes as a reset, and an end as an end",
	"option independent-streams":  "usher counts both directions for idle-timeout",
	"option persist":              "a client leaves a backend that is down",
	"load-server-state-from-file": "usher keeps the states of backends over an upgrade, and asks them at each start",
	"bind-process":                "usher is one process with several event loops (workers)",
	"grace":                       "SIGTERM stops at once to accept; drain-timeout is for flows",
	"retry-on":                    "usher tries another backend whenever a connect fails, and never sends data twice",
	"option dontlog-normal":       "usher's access log has a line for each flow",
}

// proxyReasons say why usher lacks what a line of a proxy says, and what comes nearest.
var proxyReasons = map[string]string{
	"option transparent": "usher connects from its own address: send-proxy passes the client's on",
	"persist":            "RDP cookies are not read: persist: 1h keeps clients by their addresses",
	"force-persist":      "usher knows clients by their addresses alone",
	"ignore-persist":     "usher knows clients by their addresses alone",
	"fullconn":           "a backend's bound does not move with the load: max=N is fixed",
	"rate-limit":         "rate: N/s bounds the new flows of a service",
	"cookie":             "it is for mode http: persist: 1h keeps clients by their addresses",
	"use-server":         "backends of a service are alike: give the clients that it is for a service of their own (from= or sni=)",
	"tcp-response":       "usher does not look at what servers answer",
	"filter":             "usher has no filters",
	"email-alert":        "usher sends no mail: usher events and the metrics say what changes",
	"unique-id-format":   "send-proxy-id gives each flow an id",
	"disabled":           "the proxy is disabled there: leave the service out",
}

// proxyHarmless are lines of proxies that have nothing to say to usher.
var proxyHarmless = setOf("description", "id", "backlog", "option log-separate-errors", "option prefer-last-server", "max-keep-alive-queue",
	"option disable-h2-upgrade", "option forceclose", "option forwardfor", "option originalto", "option use-htx", "option accept-invalid-http-request",
	"hash-preserve-affinity", "guid", "timeout tarpit", "enabled", "option splice-auto", "option splice-request", "option splice-response", "option tcp-smart-accept",
	"option tcp-smart-connect", "option dontlognull", "option socket-stats", "option checkcache", "option contstats", "option idle-close-on-response", "option spop-check")
