package migrate

import (
	"net"
	"net/netip"
	"strings"
)

// server is a line server of haproxy.cfg with the options of default-server.
type server struct {
	at      *statement
	name    string
	address string
	set     map[string]string // options; a switch has the value on
}

// is reports whether a switch is on.
func (s *server) is(option string) bool { return s.set[option] != "" }

// serverSwitches are the options of servers without a value. A word no- takes one back.
var serverSwitches = set("backup check agent-check disabled send-proxy send-proxy-v2 send-proxy-v2-ssl send-proxy-v2-ssl-cn " +
	"check-send-proxy ssl check-ssl check-via-socks4 tfo non-stick allow-0rtt ssl-reuse tls-tickets strict-sni renegotiate " +
	"verifyhost force-sslv3 force-tlsv10 force-tlsv11 force-tlsv12 force-tlsv13 sslv3 tlsv10 tlsv11 tlsv12 tlsv13 check-reuse-pool")

// serverHarmless are the options of servers that change nothing for usher.
var serverHarmless = set("id cookie tfo non-stick allow-0rtt ssl-reuse tls-tickets strict-sni renegotiate verifyhost " +
	"init-addr resolvers resolve-prefer resolve-opts resolve-net guid pool-low-conn pool-max-conn pool-purge-delay max-reuse " +
	"log-proto log-bufsize proto check-proto alpn npn ca-file crl-file crt ciphers ciphersuites sni verify ssl-min-ver ssl-max-ver " +
	"force-sslv3 force-tlsv10 force-tlsv11 force-tlsv12 force-tlsv13 sslv3 tlsv10 tlsv11 tlsv12 tlsv13 curves sigalgs client-sigalgs " +
	"proxy-v2-options enabled hash-key")

// serverDone are the options of servers that the plan has. The readers of services look at them.
var serverDone = set("backup check agent-check disabled send-proxy send-proxy-v2 check-send-proxy check-ssl weight inter fastinter " +
	"downinter rise fall port addr maxconn maxqueue source slowstart agent-port agent-addr agent-inter agent-send " +
	"check-sni on-marked-down observe error-limit on-error")

// serverReasons say why usher lacks an option of servers.
var serverReasons = map[string]string{
	"send-proxy-v2-ssl":    "usher has no TLS whose data it could send; it sends the TLVs of the header that came in (send-proxy: v2)",
	"send-proxy-v2-ssl-cn": "usher has no TLS whose data it could send; it sends the TLVs of the header that came in (send-proxy: v2)",
	"minconn":              "a backend's bound does not move with the load: max=N is fixed",
	"track":                "each backend has checks of its own; where the other server is checked is check=IP:PORT",
	"on-marked-up":         "flows of backups stay when others come up; max-age spreads them again",
	"namespace":            "usher connects in the network namespace that it runs in",
	"socks4":               "usher does not connect through a proxy",
	"check-via-socks4":     "usher does not connect through a proxy",
	"redir":                "it is for mode http",
	"tcp-ut":               "usher leaves TCP_USER_TIMEOUT alone, and notices peers that vanish by keepalive",
	"shard":                "it is for peers",
	"ws":                   "it is for mode http",
	"check-reuse-pool":     "usher connects for each check",
	"set-proxy-v2-tlv-fmt": "usher sends the TLVs of the header that came in (send-proxy: v2)",
}

// set makes a set of words.
func set(words string) map[string]bool {
	all := make(map[string]bool)
	for w := range strings.FieldsSeq(words) {
		all[w] = true
	}
	return all
}

// readServer reads a line server, or default-server.
func (p *proxy) readServer(at *statement) *server {
	s := &server{at: at, set: make(map[string]string)}
	words := at.words[1:]
	if at.words[0] == "server" {
		if len(words) < 2 {
			p.b.lose(at, p.name, "a server needs a name and an address")
			return nil
		}
		s.name, s.address, words = words[0], words[1], words[2:]
	}
	at.done()
	for k, v := range p.serverDefaults {
		s.set[k] = v
	}
	for i := 0; i < len(words); i++ {
		name := words[i]
		off, isOff := strings.CutPrefix(name, "no-")
		switch {
		case isOff && serverSwitches[off]:
			delete(s.set, off)
			continue
		case name == "enabled":
			delete(s.set, "disabled")
			continue
		case serverSwitches[name]:
			s.set[name] = "on"
		case i+1 < len(words):
			i++
			s.set[name] = words[i]
		default:
			s.set[name] = "on"
		}
		i += p.readServerOption(at, name, words[i+1:])
	}
	return s
}

// readServerOption notes an option that the plan cannot have. It returns how many words belong to the option besides its
// value.
func (p *proxy) readServerOption(at *statement, name string, rest []string) (more int) {
	switch {
	case name == "source" && len(rest) > 0 && (rest[0] == "usesrc" || rest[0] == "interface"):
		p.b.lose(at, p.name, "%s: usher connects from an address of this machine; send-proxy passes the client's address on", rest[0])
		return min(2, len(rest))
	case name == "ssl", serverDone[name], serverHarmless[name]:
	case serverReasons[name] != "":
		p.b.lose(at, p.name, "%s: %s", name, serverReasons[name])
	default:
		p.b.lose(at, p.name, "%s: %s", name, unknownDirective)
	}
	return 0
}

// backendOf returns the word of the backend that a server is; empty: there is none, and a note says so.
func (p *proxy) backendOf(s *server, d *draft) string {
	if s.is("ssl") {
		p.b.lose(s.at, d.name, "ssl: usher passes bytes as they are and encrypts nothing: let clients speak TLS with the server, "+
			"or put a TLS client such as stunnel beside usher")
		return ""
	}
	address, why := haproxyAddress(s.address)
	if why == "" && strings.HasPrefix(address, ":") {
		why = "a server needs a host"
	}
	if why != "" {
		p.b.lose(s.at, d.name, "%s", why)
		return ""
	}
	w := address
	weight := s.set["weight"]
	if p.algorithm() == "first" {
		weight = "" // which does not look at it
	}
	if s.is("disabled") {
		p.b.tell(s.at, d.name, "it is disabled: its weight is 0 here, %s otherwise", orDefault(weight, "1"))
		weight = "0"
	}
	if weight != "" {
		w += "@" + weight
	}
	if s.is("backup") {
		w += ",backup"
	}
	if n := s.set["maxconn"]; n != "" && n != "0" {
		w += ",max=" + n
	}
	if at := elsewhere(s, "addr", "port"); at != "" && s.is("check") {
		w += ",check=" + at
	}
	if at := elsewhere(s, "agent-addr", "agent-port"); at != "" && s.is("agent-check") {
		w += ",agent=" + at
	}
	return w
}

// elsewhere returns where a server is checked, if not at its own address: a port, or IP:PORT.
func elsewhere(s *server, addr, port string) string {
	host, at := s.set[addr], s.set[port]
	if host == "" {
		return at
	}
	if at == "" {
		address, _ := haproxyAddress(s.address)
		if _, p, err := net.SplitHostPort(address); err == nil {
			at = p
		}
	}
	return net.JoinHostPort(host, at)
}

func orDefault(word, otherwise string) string {
	if word == "" {
		return otherwise
	}
	return word
}

// haproxyAddress writes an address of haproxy.cfg as usher does, or says why it cannot.
func haproxyAddress(word string) (address, why string) {
	for _, prefix := range []string{"ipv4@", "ipv6@", "tcp@", "tcp4@", "tcp6@", "stream+ipv4@", "stream+ipv6@"} {
		word = strings.TrimPrefix(word, prefix)
	}
	family, rest, hasFamily := strings.Cut(word, "@")
	switch {
	case hasFamily && (family == "unix" || family == "stream+unix" || family == "uxst"):
		return "unix://" + rest, ""
	case hasFamily && (family == "abns" || family == "abnsz"):
		return "unix:@" + rest, ""
	case hasFamily && (family == "fd" || family == "sockpair"):
		return "", family + "@ is a descriptor of HAProxy's parent: usher takes sockets that systemd passes for their address"
	case hasFamily && strings.HasPrefix(family, "quic"):
		return "", "QUIC ends in HAProxy: usher passes its datagrams as udp"
	case hasFamily:
		return "", "usher has no addresses of the family " + family
	case strings.HasPrefix(word, "/"):
		return "unix://" + word, ""
	}
	host, port := word, ""
	if i := strings.LastIndexByte(word, ':'); i >= 0 && !strings.HasSuffix(word, "]") {
		host, port = word[:i], word[i+1:]
	}
	if strings.HasPrefix(port, "+") || strings.HasPrefix(port, "-") {
		return "", "the port moves by " + port + ": write a service for each port, or ranges of the same length in listen and backends"
	}
	host = strings.Trim(host, "[]")
	switch ip, err := netip.ParseAddr(host); {
	case host == "*" || host == "":
		host = ""
	case err == nil && ip.Is6():
		host = "[" + host + "]"
	}
	if port == "" || port == "0" {
		return host, ""
	}
	return host + ":" + port, ""
}
