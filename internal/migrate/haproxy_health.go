package migrate

import (
	"encoding/hex"
	"fmt"
	"strings"

	"usher/internal/config"
)

// shared returns the value of an option of the servers that use it. Servers with another value get a note: it is one of
// the service.
func (p *proxy) shared(d *draft, servers []*server, option string, as config.Field) string {
	if len(servers) == 0 {
		return ""
	}
	value := servers[0].set[option]
	for _, s := range servers[1:] {
		if other := s.set[option]; other != value {
			p.b.lose(s.at, d.name, "%s: %s is one value for all backends of a service, that of the first server: %s", option, as,
				orDefault(value, "none"))
		}
	}
	return value
}

// with returns the servers that have an option.
func (p *proxy) with(option string) (all []*server) {
	for _, s := range p.servers {
		if s.is(option) {
			all = append(all, s)
		}
	}
	return all
}

// setServers sets what servers say that is of the service here.
func (p *proxy) setServers(d *draft) {
	p.setSendProxy(d)
	p.stick(d)
	if t, ok := p.longest(d, "slowstart"); ok {
		d.set("slow-start", t, p.with("slowstart")[0].at)
	}
	if at := p.settings["option abortonclose"]; at != nil {
		d.set("abort-on-close", "true", at)
	}
	if p.shared(d, p.servers, "on-marked-down", "on-down") == "shutdown-sessions" {
		d.set("on-down", "reset", p.servers[0].at)
	}
	if p.shared(d, p.servers, "observe", "eject") != "" {
		d.set("eject", orDefault(p.shared(d, p.servers, "error-limit", "eject"), "10"), p.servers[0].at)
	}
	p.setQueue(d)
	p.setAgent(d)
	p.setSource(d)
	backups := p.with("backup")
	if len(backups) > 1 && p.settings["option allbackups"] == nil {
		p.b.tell(backups[1].at, d.name, "all backups share the clients here; HAProxy gives them to the first one that is up")
	}
}

// setSource sets the address that connections to backends come from.
func (p *proxy) setSource(d *draft) {
	at, address := p.settings["source"], p.word("source", 1)
	if s := p.with("source"); len(s) > 0 {
		at, address = s[0].at, p.shared(d, p.servers, "source", "source")
	}
	if at == nil || address == "" {
		return
	}
	host, why := haproxyAddress(address)
	host = strings.Trim(host, "[]")
	switch {
	case why != "":
		p.b.lose(at, d.name, "%s", why)
	case host == "" || host == "0.0.0.0":
	case len(at.words) > 2 && at.words[0] == "source":
		p.b.lose(at, d.name, "usher connects from an address of this machine; send-proxy passes the client's address on")
	default:
		d.set("source", host, at)
	}
}

// longest returns the longest of the servers' times.
func (p *proxy) longest(d *draft, option string) (word string, ok bool) {
	servers := p.with(option)
	if len(servers) == 0 {
		return "", false
	}
	t, err := haproxyTime(p.shared(d, servers, option, "slow-start"))
	if err != nil {
		p.b.lose(servers[0].at, d.name, "%s: %v", option, err)
		return "", false
	}
	return config.Delay(t), true
}

func (p *proxy) setSendProxy(d *draft) {
	for _, v := range []struct{ option, version string }{{"send-proxy", "v1"}, {"send-proxy-v2", "v2"}} {
		if p.shared(d, p.servers, v.option, "send-proxy") != "" {
			d.set("send-proxy", v.version, p.servers[0].at)
		}
	}
}

// setQueue lets clients wait while all backends are full.
func (p *proxy) setQueue(d *draft) {
	servers := p.with("maxconn")
	if len(servers) == 0 || servers[0].set["maxconn"] == "0" {
		return
	}
	length := p.shared(d, servers, "maxqueue", "queue")
	if length == "" || length == "0" {
		length = queueLength
	}
	wait, at := p.time("timeout queue")
	if wait == 0 {
		wait, at = p.time("timeout connect")
	}
	if wait == 0 {
		p.b.lose(servers[0].at, d.name, "clients wait without end there while all servers are full: queue: 1000,1m bounds it")
		return
	}
	d.set("queue", length+","+config.Delay(wait), at)
}

// queueLength bounds a queue that HAProxy does not bound.
const queueLength = "10000"

func (p *proxy) setAgent(d *draft) {
	servers := p.with("agent-check")
	if len(servers) == 0 {
		return
	}
	word := p.shared(d, servers, "agent-port", "agent")
	if word == "" {
		p.b.lose(servers[0].at, d.name, "agent-check needs an agent-port")
		return
	}
	if send := p.shared(d, servers, "agent-send", "agent"); send != "" {
		word += ",send=" + payload(send)
	}
	if t, err := haproxyTime(p.shared(d, servers, "agent-inter", "agent")); err == nil {
		word += ",interval=" + config.Delay(t)
	}
	d.set("agent", word, servers[0].at)
}

// setHealth sets the checks. Servers without check are always up.
func (p *proxy) setHealth(d *draft) {
	servers := p.with("check")
	if len(servers) == 0 {
		d.set("health", "off", nil)
		return
	}
	for _, s := range p.servers {
		if !s.is("check") {
			p.b.tell(s.at, d.name, "it is checked like the other servers: health is one value for all backends of a service")
		}
	}
	spec, from := p.checkKind(d, servers[0])
	if p.shared(d, servers, "check-send-proxy", "health") != "" {
		spec += ",proxy"
	}
	for _, o := range []struct{ option, key string }{
		{"inter", "interval"}, {"downinter", "interval-down"}, {"fastinter", "interval-change"},
	} {
		word := p.shared(d, servers, o.option, "health")
		if t, err := haproxyTime(word); err == nil && t > 0 {
			spec += "," + o.key + "=" + config.Delay(t)
		}
	}
	if t, _ := p.time("timeout check"); t > 0 {
		interval, err := haproxyTime(servers[0].set["inter"])
		if err != nil {
			interval = 2000 * 1000 * 1000
		}
		spec += ",timeout=" + config.Delay(min(t, interval))
	}
	for _, key := range []string{"rise", "fall"} {
		if word := p.shared(d, servers, key, "health"); word != "" {
			spec += "," + key + "=" + word
		}
	}
	d.set("health", spec, from)
}

// checkKind returns the kind of the checks with what is of the kind alone, and the statement that says so.
func (p *proxy) checkKind(d *draft, s *server) (spec string, from *statement) {
	secure := ""
	if s.is("check-ssl") {
		secure = "s"
	}
	verify := map[string]string{"": "", "s": ",verify=off"}[secure]
	if name := s.set["check-sni"]; name != "" && secure != "" {
		verify += ",sni=" + name
	}
	if at := p.settings["option httpchk"]; at != nil {
		return p.httpCheck(d, at, secure) + verify, at
	}
	if at := p.settings["option tcp-check"]; at != nil && len(p.steps) > 0 {
		if script := p.script(d); script != "" {
			return "tcp" + secure + ":" + script + verify, at
		}
	}
	for option, spec := range map[string]string{
		"option redis-check":   `:send=PING\r\n,expect=+PONG`,
		"option smtpchk":       `:expect=^220,send=HELO localhost\r\n,expect=^250,send=QUIT\r\n`,
		"option ssl-hello-chk": "s,verify=off",
	} {
		if at := p.settings[option]; at != nil {
			return "tcp" + spec, at
		}
	}
	for _, option := range []string{"option mysql-check", "option pgsql-check", "option ldap-check", "option external-check"} {
		if at := p.settings[option]; at != nil {
			p.b.lose(at, d.name, "the check is a connect here; a script (tcp:send=...,expect=...) or a program (exec:PROGRAM) can say more")
		}
	}
	return "tcp" + secure + verify, s.at
}

// script writes the lines tcp-check as steps.
func (p *proxy) script(d *draft) string {
	var steps []string
	for _, at := range p.steps {
		switch kind := at.has(1) + " " + at.has(2); {
		case at.has(1) == "connect" && len(at.words) == 2, at.has(1) == "comment":
			at.done()
		case at.has(1) == "send" && at.has(2) != "":
			steps = append(steps, "send="+payload(at.has(2)))
			at.done()
		case at.has(1) == "send-binary":
			steps = append(steps, "send=hex:"+at.has(2))
			at.done()
		case kind == "expect string":
			steps = append(steps, "expect="+pattern(payload(at.has(3))))
			at.done()
		case kind == "expect binary":
			steps = append(steps, "expect=hex:"+at.has(3))
			at.done()
		case at.has(1) == "connect":
			p.b.lose(at, d.name, "a check makes one connection, to the backend or where its option check= says")
		default:
			p.b.lose(at, d.name, "a step of a check is send=TEXT or expect=TEXT, for a text as it is")
		}
	}
	return strings.Join(steps, ",")
}

// payload writes bytes as the options of checks have them.
func payload(text string) string {
	for _, r := range text {
		if (r < ' ' || r > '~') && !strings.ContainsRune("\r\n\t", r) {
			return "hex:" + hex.EncodeToString([]byte(text))
		}
	}
	text = strings.NewReplacer("\r", `\r`, "\n", `\n`, "\t", `\t`, `\`, `\\`, ",", `\,`).Replace(text)
	if rest, isHex := strings.CutPrefix(text, "hex:"); isHex {
		return `\x68ex:` + rest
	}
	return text
}

// pattern is a payload that is expected as it is.
func pattern(text string) string {
	text = strings.ReplaceAll(text, "|", `\|`)
	if strings.HasPrefix(text, "^") {
		text = `\` + text
	}
	return text
}

// httpCheck writes option httpchk and the lines http-check.
func (p *proxy) httpCheck(d *draft, at *statement, secure string) string {
	method, path, host := "OPTIONS", "/", ""
	switch words := at.words[2:]; len(words) {
	case 0:
	case 1:
		path = words[0]
	default:
		method, path = words[0], words[1]
		if len(words) > 2 {
			host = hostHeader(strings.Join(words[2:], " "))
		}
	}
	status, body := "", ""
	for _, line := range p.requests {
		switch line.has(1) {
		case "send":
			method, path, host = p.httpSend(d, line, method, path, host)
		case "expect":
			status, body = p.httpExpect(d, line, status, body)
		case "connect", "disable-on-404", "send-state", "comment":
			p.b.lose(line, d.name, "a check makes one request, and its answer counts by status and text")
		default:
			p.b.lose(line, d.name, "%s", unknownDirective)
		}
	}
	spec := "http" + secure + ":" + payload(path)
	for _, o := range []struct{ key, value string }{{"method", method}, {"host", host}, {"status", status}, {"expect", body}} {
		if o.value != "" && (o.key != "method" || o.value != "GET") {
			spec += fmt.Sprintf(",%s=%s", o.key, payload(o.value))
		}
	}
	return spec
}

// hostHeader finds the header Host behind the version in the words of option httpchk.
func hostHeader(text string) string {
	for line := range strings.SplitSeq(text, "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(strings.TrimSpace(name), "host") {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// httpSend reads a line http-check send.
func (p *proxy) httpSend(d *draft, at *statement, method, path, host string) (string, string, string) {
	for i := 2; i < len(at.words); i += 2 {
		switch value := at.has(i + 1); at.words[i] {
		case "meth":
			method = value
		case "uri":
			path = value
		case "hdr":
			if name := value; !strings.EqualFold(name, "host") {
				p.b.lose(at, d.name, "a check sends no header but Host (host=NAME)")
			} else {
				host = at.has(i + 2)
			}
			i++
		case "ver":
		default:
			p.b.lose(at, d.name, "%s: a check has a path, a method and a host", at.words[i])
		}
	}
	at.done()
	return method, path, host
}

// httpExpect reads a line http-check expect.
func (p *proxy) httpExpect(d *draft, at *statement, status, body string) (string, string) {
	switch value := at.has(3); at.has(2) {
	case "status":
		at.done()
		return strings.ReplaceAll(value, ",", "+"), body
	case "string":
		at.done()
		return status, value
	}
	p.b.lose(at, d.name, "an answer counts by its status (status=200-299) and by a text in its body (expect=TEXT)")
	return status, body
}
