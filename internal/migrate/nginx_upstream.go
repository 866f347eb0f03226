package migrate

import (
	"strings"

	"usher/internal/config"
)

// readUpstream sets the backends of a service, and how they are chosen.
func (n *nginx) readUpstream(d *draft, up *block) {
	up.done()
	weights := make(map[string]bool)
	eject := ""
	for _, at := range up.body {
		switch at.words[0] {
		case "server":
			weight, ejects := n.readUpstreamServer(d, at)
			if weights[weight] = true; eject == "" {
				eject = ejects
			} else if ejects != eject {
				n.b.lose(at.statement, d.name, "max_fails, fail_timeout: eject is one value for all backends of a service, that of the first server: %s", eject)
			}
		case "hash":
			n.setHash(d, at)
		case "random":
			scheduler := "p2c"
			if at.has(1) == "two" {
				scheduler = "twos"
			}
			d.set("scheduler", scheduler, at.statement)
		case "least_time":
			d.set("scheduler", "ewma", at.statement)
		}
	}
	if at := find(up.body, "least_conn"); len(at) > 0 {
		d.set("scheduler", map[bool]string{true: "wlc", false: "lc"}[len(weights) > 1], at[0].statement)
	}
	if eject != "" && eject != "off" {
		d.set("eject", eject, nil)
	}
}

// readUpstreamServer adds a backend. It returns its weight, and after which failures it gets no clients for a while.
func (n *nginx) readUpstreamServer(d *draft, at *block) (weight, eject string) {
	weight = "1"
	fails, pause, options, isDown := "1", "10s", "", false
	address, why := nginxAddress(at.has(1))
	for _, p := range at.words[min(2, len(at.words)):] {
		switch name, value, _ := strings.Cut(p, "="); name {
		case "weight":
			weight = value
		case "max_fails":
			fails = value
		case "fail_timeout":
			t, err := nginxTime(value)
			if err != nil {
				n.b.lose(at.statement, d.name, "%v", err)
				continue
			}
			pause = config.Delay(t)
		case "backup":
			options += ",backup"
		case "max_conns":
			if value != "0" {
				options += ",max=" + value
			}
		case "down":
			isDown = true
		case "slow_start":
			if t, err := nginxTime(value); err == nil {
				d.set("slow-start", config.Delay(t), at.statement)
			}
		case "service":
			address = "srv:_" + strings.TrimPrefix(value, "_") + "._tcp." + address
		case "resolve":
		default:
			n.b.lose(at.statement, d.name, "%s: %s", p, unknownDirective)
		}
	}
	if isDown {
		n.b.tell(at.statement, d.name, "it is down: its weight is 0 here, %s otherwise", weight)
	}
	switch {
	case why != "":
		n.b.lose(at.statement, d.name, "%s", why)
	case isDown:
		d.backend(address+"@0"+options, at.statement)
	case weight != "1":
		d.backend(address+"@"+weight+options, at.statement)
	default:
		d.backend(address+options, at.statement)
	}
	if fails == "0" {
		return weight, "off"
	}
	return weight, fails + ",time=" + pause + ",share=100%"
}

// setHash sets the scheduler of a directive hash.
func (n *nginx) setHash(d *draft, at *block) {
	key := strings.NewReplacer("{", "", "}", "", ":", "", "binary_", "").Replace(at.has(1))
	hashed, ok := map[string]string{
		"$remote_addr": "addr", "$remote_addr$remote_port": "addr-port", "$server_addr": "dst", "$server_addr$server_port": "dst-port",
		"$proxy_protocol_addr": "addr",
	}[key]
	if !ok {
		n.b.lose(at.statement, d.name, "usher hashes addresses: hash-key: addr, addr-port, dst or dst-port")
		return
	}
	scheduler := "mh"
	if at.has(2) == "consistent" {
		scheduler = "ring"
	}
	d.set("scheduler", scheduler, at.statement)
	if hashed != "addr" {
		d.set("hash-key", hashed, at.statement)
	}
	n.b.tell(at.statement, d.name, "clients keep together, but their backends are others than nginx's: the hashes differ")
}

// acceptProxy requires a header, from the peers of set_real_ip_from if there are any.
func (s *nginxServer) acceptProxy(d *draft, from *statement) {
	var words []string
	for _, at := range s.list("set_real_ip_from") {
		p, ok := parsePrefix(at.has(1))
		if !ok {
			s.b.lose(at.statement, d.name, "accept-proxy has addresses and prefixes alone")
			continue
		}
		words = append(words, prefixWord(p))
		from = at.statement
	}
	if len(words) == 0 {
		s.b.tell(from, d.name, "proxy_protocol: whoever connects can name any client: list the peers that you trust (accept-proxy)")
		words = []string{"0.0.0.0/0", "::/0"}
	}
	d.set("accept-proxy", strings.Join(words, ","), from)
	d.set("accept-proxy-only", "true", from)
}

// setAccess sets who may come in: the directives allow and deny, of which the first that matches decides, and the bound on
// connections.
func (s *nginxServer) setAccess(d *draft) {
	access := new(accessList)
	var from *statement
	for _, at := range s.list("allow", "deny") {
		v := accepted
		if at.words[0] == "deny" {
			v = refused
		}
		switch p, ok := parsePrefix(at.has(1)); {
		case at.has(1) == "all":
			for _, p := range everybody() {
				access.append(p, v)
			}
		case at.has(1) == "unix:":
			s.b.lose(at.statement, d.name, "the mode of a unix listener says who may connect (,mode=660)")
			continue
		case !ok:
			s.b.lose(at.statement, d.name, "%q is not an address or a prefix", at.has(1))
			continue
		default:
			access.append(p, v)
		}
		from = at.statement
		from.done()
	}
	if from != nil {
		access.apply(s.b, d, from)
	}
	for _, at := range s.list("limit_conn") {
		zone := s.zones[at.has(1)]
		if zone == nil || strings.Trim(zone.has(1), "${}") != "binary_remote_addr" && strings.Trim(zone.has(1), "${}") != "remote_addr" {
			s.b.lose(at.statement, d.name, "usher counts the connections of client addresses (max-client-conns)")
			continue
		}
		zone.done()
		name := config.Field("max-client-conns")
		if d.network == config.UDP {
			name = "max-client-flows"
		}
		d.set(name, at.has(2), at.statement)
	}
}

// routes are where the clients of a server go.
func (s *nginxServer) routes(pass *block) []route {
	target := pass.has(1)
	if !strings.HasPrefix(target, "$") || strings.Contains(target, ":") {
		return []route{{backend: target, from: pass.statement, options: []string{""}}}
	}
	variable := "$" + strings.Trim(target, "${}")
	table := s.maps[variable]
	switch {
	case table == nil:
		s.loseAll("the variable " + variable + " has its value only when a client comes")
		return nil
	case table.words[0] == "geo" && (len(table.words) == 2 || table.has(1) == "$remote_addr"):
		return s.geoRoutes(table)
	case table.words[0] == "map" && strings.Trim(table.has(1), "${}") == "ssl_preread_server_name":
		return s.nameRoutes(table)
	}
	s.loseAll("usher chooses a service by the listener, the server name (sni=) or the client's address (from=), not by " + table.has(1))
	return nil
}

// nameRoutes are those of a map of server names.
func (s *nginxServer) nameRoutes(table *block) []route {
	t := &routeTable{index: make(map[string]int)}
	table.done()
	var otherwise *block
	for _, at := range table.body {
		name, value := strings.ToLower(at.words[0]), at.has(1)
		switch {
		case name == "hostnames" || name == "volatile" || name == "include":
		case strings.Contains(value, "$"):
			s.b.lose(at.statement, "", "the variable %s has its value only when a client comes", value)
		case name == "default":
			otherwise = at
		case name == "" || name[0] == '~' || strings.HasSuffix(name, "*"):
			s.b.lose(at.statement, "", "only whole names and their ends can be told apart: write them as sni=NAME and sni=*.NAME")
		case name[0] == '.':
			t.add(value, at.statement, ",sni="+name[1:])
			t.add(value, at.statement, ",sni=*"+name)
		default:
			t.add(value, at.statement, ",sni="+strings.TrimPrefix(name, "\\"))
		}
	}
	if otherwise != nil {
		t.add(otherwise.has(1), otherwise.statement, "")
	}
	for _, r := range t.routes {
		r.from.done()
	}
	markDone(table.body, t)
	return t.routes
}

// markDone marks the lines of a table whose values are among its routes.
func markDone(lines []*block, t *routeTable) {
	for _, at := range lines {
		if _, ok := t.index[at.has(1)]; ok {
			at.done()
		}
	}
}

// geoRoutes are those of the longest prefixes that clients are in.
func (s *nginxServer) geoRoutes(table *block) []route {
	t := &routeTable{index: make(map[string]int)}
	table.done()
	var otherwise *block
	for _, at := range table.body {
		if at.words[0] == "default" {
			otherwise = at
			continue
		}
		p, ok := parsePrefix(at.words[0])
		if !ok {
			s.b.lose(at.statement, "", "from= has addresses and prefixes of clients alone")
			continue
		}
		t.add(at.has(1), at.statement, ",from="+prefixWord(p))
	}
	if otherwise != nil {
		t.add(otherwise.has(1), otherwise.statement, "")
	}
	markDone(table.body, t)
	return t.routes
}
