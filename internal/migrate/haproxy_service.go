package migrate

import (
	"strings"
	"time"

	"usher/internal/config"
)

// serve makes services of a frontend or a listen: one for each backend that it uses.
func (h *haproxy) serve(p *proxy) {
	if p.mode != "tcp" {
		return
	}
	plain, proxied := p.listeners()
	if len(plain)+len(proxied) == 0 {
		p.loseAll("it has no address that usher can listen on")
		return
	}
	routes := p.routes()
	if len(routes) == 0 {
		p.loseAll("it sends clients to no backend that is known when usher starts")
		return
	}
	for _, r := range routes {
		pool := h.backends[r.backend]
		if p.kind == "listen" && r.backend == p.name {
			pool = p
		}
		switch {
		case pool == nil:
			h.b.lose(r.from, "", "there is no backend %q", r.backend)
			continue
		case pool.mode != "tcp":
			h.b.lose(r.from, "", "backend %s is of mode %s", r.backend, pool.mode)
			continue
		}
		pool.isUsed = true
		name := p.name
		if len(routes) > 1 && !r.isCatchAll() {
			name += "-" + r.backend
		}
		if len(plain) > 0 {
			h.service(name, p, pool, r, plain, false)
		}
		if len(proxied) > 0 {
			h.service(name, p, pool, r, proxied, true)
		}
	}
}

// service makes one service of listeners, and a backend.
func (h *haproxy) service(name string, p, pool *proxy, r route, listeners []word, proxied bool) {
	d := h.b.newDraft(name, config.TCP, r.from)
	r.from.done()
	for _, l := range listeners {
		addListener(d, l, r.options)
	}
	for _, s := range pool.servers {
		if w := pool.backendOf(s, d); w != "" {
			d.backend(w, s.at)
		}
	}
	if at := pool.settings["dispatch"]; at != nil && len(pool.servers) == 0 {
		if address, why := haproxyAddress(at.has(1)); why == "" {
			d.backend(address, at)
		}
	}
	if proxied {
		h.b.tell(listeners[0].from, d.name, "accept-proxy: whoever connects can name any client: list the peers that you trust")
		d.set("accept-proxy", "0.0.0.0/0,::/0", listeners[0].from)
		d.set("accept-proxy-only", "true", listeners[0].from)
	}
	p.setGates(d, proxied)
	p.setFrontend(d)
	pool.setBalance(d)
	pool.setHealth(d)
	pool.setServers(d)
	setTimeouts(p, pool, d)
}

// addListener adds a listener for each option of a route. Clients of a unix socket have no address.
func addListener(d *draft, l word, options []string) {
	for _, o := range options {
		if !strings.HasPrefix(l.text, "unix:") || !strings.HasPrefix(o, ",from=") {
			d.listen(l.text+o, l.from)
		}
	}
}

// listeners are the words of the lines bind, of those with accept-proxy apart.
func (p *proxy) listeners() (plain, proxied []word) {
	for _, at := range p.binds {
		options, withProxy, ok := p.bindOptions(at)
		if !ok {
			continue
		}
		for address := range strings.SplitSeq(at.has(1), ",") {
			w, why := listenWord(address, options)
			if why != "" {
				p.b.lose(at, p.name, "%s", why)
				continue
			}
			at.done()
			if strings.HasPrefix(w, "unix:") {
				w += options["mode"] + options["user"] + options["group"]
			}
			if withProxy {
				proxied = append(proxied, word{w, at})
			} else {
				plain = append(plain, word{w, at})
			}
		}
	}
	return plain, proxied
}

// listenWord writes an address of a line bind as usher does.
func listenWord(address string, options map[string]string) (w, why string) {
	bare := address
	if host, port, ok := strings.Cut(address, ":"); ok && (host == "" || host == "*") && !strings.Contains(port, ":") {
		return "0.0.0.0:" + port, ""
	}
	if port, ok := strings.CutPrefix(bare, ":::"); ok {
		bare = "[::]:" + port
	}
	w, why = haproxyAddress(bare)
	if port, ok := strings.CutPrefix(w, "[::]:"); ok && options["v4v6"] != "" {
		w = ":" + port
	}
	if port, ok := strings.CutPrefix(w, ":"); ok && options["v4v6"] == "" {
		w = "0.0.0.0:" + port
	}
	return w, why
}

// bindReasons say why usher lacks an option of bind; the bool says that it cannot listen without.
var bindReasons = map[string]struct {
	reason  string
	isFatal bool
}{
	"ssl":                  {"usher decrypts nothing: let TLS through to the servers (sni= chooses by name), or keep the proxy that ends it behind usher", true},
	"interface":            {"usher listens on addresses, not on interfaces: the address of one is {{ GetInterfaceIP \"eth0\" }}:PORT", false},
	"transparent":          {"usher listens on addresses of this machine alone", true},
	"maxconn":              {"usher bounds connections of a client (max-client-conns) and of the whole (max-conns)", false},
	"namespace":            {"usher listens in the network namespace that it runs in", true},
	"accept-netscaler-cip": {"usher knows the PROXY protocol alone (accept-proxy)", true},
	"expose-fd":            {"usher hands its sockets on by itself (usher upgrade)", false},
	"mss":                  {"usher leaves the segment size to the kernel", false},
	"tcp-ut":               {"usher leaves TCP_USER_TIMEOUT alone, and notices peers that vanish by keepalive", false},
	"uid":                  {"name the owner: user", false},
	"gid":                  {"name the group: group", false},
}

// bindValues are the options of bind that have a value, and nothing to say to usher but for those that have a reason.
var bindValues = setOf("name", "id", "backlog", "nice", "process", "thread", "shards", "level", "severity-output", "alpn", "npn", "crt",
	"crt-list", "ca-file", "ca-sign-file", "ca-sign-pass", "ca-verify-file", "ciphers", "ciphersuites", "crl-file", "crt-ignore-err", "ca-ignore-err",
	"curves", "ecdhe", "verify", "ssl-min-ver", "ssl-max-ver", "tls-ticket-keys", "proto", "sigalgs", "client-sigalgs", "guid-prefix", "ocsp-update",
	"interface", "maxconn", "namespace", "accept-netscaler-cip", "mss", "tcp-ut", "mode", "user", "group", "uid", "gid", "nbconn", "label", "default-crt")

// bindSwitches are the options without one.
var bindSwitches = setOf("ssl", "transparent", "v4v6", "v6only", "accept-proxy", "defer-accept", "tfo", "allow-0rtt", "generate-certificates",
	"strict-sni", "no-ca-names", "no-sslv3", "no-tls-tickets", "no-tlsv10", "no-tlsv11", "no-tlsv12", "no-tlsv13", "prefer-client-ciphers",
	"force-sslv3", "force-tlsv10", "force-tlsv11", "force-tlsv12", "force-tlsv13", "no-alpn", "no-strict-sni", "quic-force-retry")

// bindOptions reads the options of a line bind. It returns false if usher cannot listen there.
func (p *proxy) bindOptions(at *statement) (options map[string]string, withProxy, ok bool) {
	options, ok = make(map[string]string), len(at.words) > 1
	for i := 2; i < len(at.words); i++ {
		name, value := at.words[i], ""
		switch {
		case bindValues[name] && i+1 < len(at.words):
			i++
			value = at.words[i]
		case name == "expose-fd":
			i++
		case !bindSwitches[name]:
			p.b.lose(at, p.name, "%s: %s", name, unknownDirective)
			continue
		}
		if r, lost := bindReasons[name]; lost {
			p.b.lose(at, p.name, "%s: %s", name, r.reason)
			ok = ok && !r.isFatal
			continue
		}
		switch name {
		case "accept-proxy":
			withProxy = true
		case "mode", "user", "group":
			options[name] = "," + name + "=" + value
		default:
			options[name] = "on"
		}
	}
	return options, withProxy, ok
}

// setFrontend sets what the side of the clients says.
func (p *proxy) setFrontend(d *draft) {
	if at := p.settings["option tcplog"]; at != nil {
		d.set("log-access", "true", at)
	}
	if at := p.settings["maxconn"]; at != nil {
		p.b.lose(at, "", "a service has no bound on all of its connections: max-conns is one of the whole, max-client-conns of a client, "+
			"and max=N of a backend")
	}
}

// setBalance sets the scheduler.
func (p *proxy) setBalance(d *draft) {
	at := p.settings["balance"]
	isConsistent := p.word("hash-type", 1) == "consistent"
	switch name := p.algorithm(); name {
	case "", "roundrobin", "static-rr":
	case "leastconn":
		d.set("scheduler", leastConnections(p.servers), at)
	case "first":
		d.set("scheduler", "fo", at)
	case "random":
		d.set("scheduler", "p2c", at)
	case "source", "hash":
		if name == "hash" && strings.Join(at.words[2:], " ") != "src" {
			p.b.lose(at, d.name, "usher hashes addresses: scheduler: mh, with hash-key for the port or the destination")
			return
		}
		if d.set("scheduler", "sh", at); isConsistent {
			d.set("scheduler", "ring", at)
		}
		p.b.tell(at, d.name, "clients keep together, but their backends are others than HAProxy's: the hashes differ")
	default:
		p.b.lose(at, d.name, "usher does not read requests: scheduler: mh keeps clients at their backends by their addresses")
	}
	if at := p.settings["hash-balance-factor"]; at != nil && isConsistent && p.word("hash-balance-factor", 1) != "0" {
		d.set("hash-balance", at.has(1), at)
	}
}

// leastConnections is the scheduler of servers whose weights differ, or do not.
func leastConnections(servers []*server) string {
	for _, s := range servers {
		if orDefault(s.set["weight"], "1") != orDefault(servers[0].set["weight"], "1") {
			return "wlc"
		}
	}
	return "lc"
}

// algorithm is the first word behind balance, without an argument in brackets.
func (p *proxy) algorithm() string {
	name, _, _ := strings.Cut(p.word("balance", 1), "(")
	return name
}

// word returns a word of a setting, or "".
func (p *proxy) word(key string, i int) string {
	if at := p.settings[key]; at != nil {
		return at.has(i)
	}
	return ""
}

// time reads the time of a setting; 0: there is none.
func (p *proxy) time(key string) (time.Duration, *statement) {
	at := p.settings[key]
	if at == nil {
		return 0, nil
	}
	d, err := haproxyTime(at.words[len(at.words)-1])
	if err != nil {
		p.b.lose(at, "", "%v", err)
	}
	return d, at
}

// setTimeouts sets the timeouts of both sides. One of tunnels takes the place of the others.
func setTimeouts(p, pool *proxy, d *draft) {
	if t, at := pool.time("timeout connect"); t > 0 {
		d.set("connect-timeout", config.Delay(t), at)
	}
	idle, idleAt := pool.time("timeout tunnel")
	if idle == 0 {
		idle, idleAt = p.time("timeout client")
		if t, at := pool.time("timeout server"); t > 0 && (idle == 0 || t < idle) {
			idle, idleAt = t, at
		}
	}
	if idle > 0 {
		d.set("idle-timeout", config.Delay(idle), idleAt)
	}
	half, halfAt := p.time("timeout client-fin")
	if t, at := pool.time("timeout server-fin"); t > half {
		half, halfAt = t, at
	}
	if half > 0 {
		d.set("half-close-timeout", config.Delay(half), halfAt)
	}
}
