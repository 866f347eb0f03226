package migrate

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"usher/internal/config"
)

// readStream reads the directives of a stream.
func (n *nginx) readStream(blocks []*block) {
	for _, at := range blocks {
		switch at.words[0] {
		case "upstream":
			n.upstreams[at.has(1)] = at
		case "map", "geo":
			n.maps[at.words[len(at.words)-1]] = at
		case "limit_conn_zone":
			if name, ok := strings.CutPrefix(at.has(2), "zone="); ok {
				name, _, _ = strings.Cut(name, ":")
				n.zones[name] = at
			}
		}
	}
	above := without(blocks, "upstream", "map", "geo", "limit_conn_zone", "server")
	for _, at := range find(blocks, "server") {
		at.done()
		s := &nginxServer{nginx: n, head: at, own: at.body, above: above}
		s.read()
	}
	for _, at := range find(blocks, "upstream") {
		if at.isMet {
			continue
		}
		for _, inner := range at.all() {
			n.b.tell(inner, "", "no server that is brought over uses it")
		}
	}
}

// nginxServer is a server of a stream, with what it inherits.
type nginxServer struct {
	*nginx
	head       *block
	own, above []*block
}

// setting returns the last directive of a name, of the server or else of the stream.
func (s *nginxServer) setting(name string) *block {
	for _, blocks := range [][]*block{s.own, s.above} {
		if found := find(blocks, name); len(found) > 0 {
			at := found[len(found)-1]
			at.done()
			return at
		}
	}
	return nil
}

// list returns the directives of some names, of the server or else of the stream.
func (s *nginxServer) list(names ...string) (all []*block) {
	for _, blocks := range [][]*block{s.own, s.above} {
		for _, at := range blocks {
			for _, name := range names {
				if at.words[0] == name {
					all = append(all, at)
				}
			}
		}
		if len(all) > 0 {
			break
		}
	}
	return all
}

// lose gives the server and all in it one reason.
func (s *nginxServer) loseAll(reason string) {
	for _, at := range s.head.all() {
		s.b.lose(at, "", "%s", reason)
	}
}

// endpoint is what listeners have in common that are of one service.
type endpoint struct {
	network string
	proxied bool
}

// read makes the services of the server: one for each kind of listeners and each backend.
func (s *nginxServer) read() {
	pass := s.setting("proxy_pass")
	if pass == nil {
		s.loseAll("it passes nothing on (proxy_pass)")
		return
	}
	if at := s.setting("proxy_ssl"); at != nil && at.has(1) == "on" {
		s.loseAll("proxy_ssl: usher passes bytes as they are and encrypts nothing: let clients speak TLS with the server")
		return
	}
	listeners := make(map[endpoint][]word)
	for _, at := range find(s.own, "listen") {
		if e, w, ok := s.listener(at); ok {
			listeners[e] = append(listeners[e], w)
		}
	}
	if len(listeners) == 0 {
		s.loseAll("it has no address that usher can listen on")
		return
	}
	routes := s.routes(pass)
	base := s.name(pass)
	for _, e := range []endpoint{{config.TCP, false}, {config.TCP, true}, {config.UDP, false}, {config.UDP, true}} {
		if len(listeners[e]) == 0 {
			continue
		}
		for _, r := range routes {
			name := base
			if len(routes) > 1 && !r.isCatchAll() {
				name += "-" + r.backend
			}
			if e.network == config.UDP && len(listeners[endpoint{config.TCP, e.proxied}]) > 0 {
				name += "-udp"
			}
			s.service(name, e, listeners[e], r, pass)
		}
	}
}

// name is that of the services: the upstream, or else the first port.
func (s *nginxServer) name(pass *block) string {
	target := strings.Trim(pass.has(1), "${}")
	if s.upstreams[target] != nil || strings.HasPrefix(pass.has(1), "$") {
		return target
	}
	if listen := find(s.own, "listen"); len(listen) > 0 {
		word := listen[0].has(1)
		if port := word[strings.LastIndexByte(word, ':')+1:]; strings.Trim(port, "0123456789-") == "" {
			return port
		}
	}
	return "stream"
}

// listenReasons say why usher lacks a parameter of listen. With ssl it cannot listen.
var listenReasons = map[string]string{
	"ssl":           "usher decrypts nothing: let TLS through to the servers (sni= chooses by name), or keep the proxy that ends it behind usher",
	"accept_filter": "usher leaves it to the kernel when a client is accepted",
	"setfib":        "usher leaves routes to the kernel",
	"rcvbuf":        "the kernel sizes the buffers of connections",
	"sndbuf":        "the kernel sizes the buffers of connections",
	"fastopen":      "usher does not ask for TCP Fast Open",
}

// listener reads a directive listen.
func (s *nginxServer) listener(at *block) (e endpoint, w word, ok bool) {
	e, ok = endpoint{network: config.TCP}, true
	isBoth := false
	for _, p := range at.words[min(2, len(at.words)):] {
		name, value, _ := strings.Cut(p, "=")
		switch {
		case name == "udp":
			e.network = config.UDP
		case name == "proxy_protocol":
			e.proxied = true
		case name == "ipv6only":
			isBoth = value == "off"
		case listenReasons[name] != "":
			s.b.lose(at.statement, "", "%s: %s", p, listenReasons[name])
			ok = ok && name != "ssl"
		case name == "reuseport", name == "backlog", name == "deferred", name == "bind", name == "so_keepalive", name == "default_server", name == "multipath":
		default:
			s.b.lose(at.statement, "", "%s: %s", p, unknownDirective)
		}
	}
	if !ok {
		return e, w, false
	}
	address := at.has(1)
	switch {
	case strings.HasPrefix(address, "unix:"):
	case strings.Trim(address, "0123456789-") == "":
		address = "0.0.0.0:" + address
	case strings.HasPrefix(address, "*:"):
		address = "0.0.0.0" + address[1:]
	case strings.HasPrefix(address, "[::]:") && isBoth:
		address = address[len("[::]"):]
	}
	if e.network == config.UDP {
		address = "udp://" + address
	}
	return e, word{address, at.statement}, true
}

// service makes one service.
func (s *nginxServer) service(name string, e endpoint, listeners []word, r route, pass *block) {
	d := s.b.newDraft(name, e.network, r.from)
	r.from.done()
	for _, l := range listeners {
		addListener(d, l, r.options)
	}
	d.set("health", "off", nil)
	if up := s.upstreams[r.backend]; up != nil {
		s.readUpstream(d, up)
	} else if target, why := nginxAddress(r.backend); why != "" {
		s.b.lose(r.from, d.name, "%s", why)
	} else {
		d.backend(target, r.from)
	}
	if e.proxied {
		s.acceptProxy(d, listeners[0].from)
	}
	s.setAccess(d)
	s.setTimes(d, e.network)
	s.setPassing(d, e.network)
	for _, o := range r.options {
		if at := s.setting("preread_timeout"); at != nil && strings.HasPrefix(o, ",sni=") {
			s.setTime(d, "sni-timeout", at)
			break
		}
	}
}

// nginxAddress writes an address of a backend as usher does.
func nginxAddress(word string) (address, why string) {
	host, isSame := strings.CutSuffix(word, ":$server_port")
	switch {
	case isSame && !strings.Contains(host, "$"):
		return host, ""
	case strings.Contains(word, "$"):
		return "", "the variable " + word + " has its value only when a client comes"
	case strings.HasPrefix(word, "unix:"):
		return "unix://" + strings.TrimPrefix(word, "unix:"), ""
	}
	return word, ""
}

// setTimes sets the timeouts. Ten minutes are nginx's own.
func (s *nginxServer) setTimes(d *draft, network string) {
	idle := config.Field("idle-timeout")
	if network == config.UDP {
		idle = "udp-idle-timeout"
	}
	if at := s.setting("proxy_timeout"); at != nil {
		s.setTime(d, idle, at)
	} else {
		d.set(idle, "10m", nil)
	}
	connect := s.setting("proxy_connect_timeout")
	if at := s.setting("proxy_next_upstream_timeout"); at != nil && at.has(1) != "0" {
		connect = at
	}
	if connect != nil && network == config.TCP {
		s.setTime(d, "connect-timeout", connect)
	}
}

// setTime sets an option to the time of a directive.
func (s *nginxServer) setTime(d *draft, name config.Field, at *block) {
	t, err := nginxTime(at.has(1))
	if err != nil {
		s.b.lose(at.statement, d.name, "%v", err)
		return
	}
	d.set(name, config.Delay(t), at.statement)
}

// nginxTime reads a time: numbers with units, seconds without.
func nginxTime(word string) (time.Duration, error) {
	units := []struct {
		word string
		of   time.Duration
	}{{"ms", time.Millisecond}, {"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour}, {"w", 7 * 24 * time.Hour},
		{"M", 30 * 24 * time.Hour}, {"y", 365 * 24 * time.Hour}, {"", time.Second}}
	var sum time.Duration
	const most = 365 * 24 * time.Hour
	for rest := strings.ReplaceAll(word, " ", ""); ; {
		digits := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
		n, err := strconv.ParseInt(digits, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("%q is not a time", word)
		}
		rest = rest[len(digits):]
		for _, u := range units {
			if after, ok := strings.CutPrefix(rest, u.word); ok && (u.word != "" || rest == "") {
				sum, rest = sum+min(time.Duration(n)*min(u.of, most), most), after
				break
			}
		}
		switch {
		case rest == "":
			return min(sum, most), nil
		case rest[0] < '0' || rest[0] > '9':
			return 0, fmt.Errorf("%q is not a time", word)
		}
	}
}

// setPassing sets what is about passing on: headers, replies, the source address.
func (s *nginxServer) setPassing(d *draft, network string) {
	if at := s.setting("proxy_protocol"); at != nil && at.has(1) == "on" {
		d.set("send-proxy", "v1", at.statement)
	}
	if at := s.setting("proxy_bind"); at != nil && at.has(1) != "off" {
		if strings.Contains(at.has(1), "$") || at.has(2) == "transparent" {
			s.b.lose(at.statement, d.name, "usher connects from an address of this machine; send-proxy passes the client's address on")
		} else {
			d.set("source", at.has(1), at.statement)
		}
	}
	if at := s.setting("access_log"); at != nil && at.has(1) != "off" {
		d.set("log-access", "true", at.statement)
		s.b.tell(at.statement, "", "usher logs to stderr; the access log has fields of its own (usher help access)")
	}
	if at := s.setting("proxy_next_upstream"); at != nil && at.has(1) == "off" {
		s.b.lose(at.statement, d.name, "usher tries another backend whenever a connect fails")
	}
	if at := s.setting("proxy_next_upstream_tries"); at != nil && at.has(1) != "0" {
		s.b.tell(at.statement, d.name, "connect-timeout bounds all attempts together, and not their number")
	}
	s.setting("ssl_preread")
	if network != config.UDP {
		return
	}
	if at := s.setting("proxy_responses"); at != nil {
		if at.has(1) == "0" {
			s.b.tell(at.statement, d.name, "no reply is expected: udp-unreplied-timeout ends such flows")
		} else {
			d.set("udp-replies", at.has(1), at.statement)
		}
	}
	if at := s.setting("proxy_requests"); at != nil && at.has(1) != "0" {
		if at.has(1) == "1" {
			d.set("ops", "true", at.statement)
		} else {
			s.b.lose(at.statement, d.name, "a flow does not end after a number of datagrams; ops: true chooses for each of them")
		}
	}
}
