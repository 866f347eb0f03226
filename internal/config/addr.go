package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Networks that an Addr can name.
const (
	TCP  = "tcp"
	UDP  = "udp"
	Unix = "unix"
)

var networks = []string{TCP, UDP, Unix}

// Addr is one address word: where a service listens, or where a backend is reached.
type Addr struct {
	Network string     // TCP, UDP or Unix
	IP      netip.Addr // an IP address; invalid for a name, a unix socket, and all addresses
	Name    string     // a host name; with neither IP nor Name a TCP or UDP address means all addresses of both families
	Port    uint16     // the first port; see HasPort
	Ports   int        // how many consecutive ports from Port; 0: the word has no port
	Path    string     // of a unix socket; @NAME is one in the abstract namespace
	SRV     bool       // of a backend: the records of Name have hosts, ports and weights; it has no port of its own
	File    SocketFile // of a unix listener
	// ServerName (SNI) and Protocol (ALPN) are of a tcp or unix listener that shares its address with others; empty: any.
	ServerName, Protocol string
	// From has the prefixes of the clients of a tcp or udp listener that shares its address with others, with + between
	// them; empty: any.
	From string
}

// HasPort reports whether the word has a port. Port 0 counts too: the kernel chooses a listener's port.
func (a Addr) HasPort() bool { return a.Ports > 0 }

// check refuses a value that no word can express.
func (a Addr) check() error {
	switch {
	case a.Network == Unix:
		return checkPath(a.Path)
	case a.Network != TCP && a.Network != UDP:
		return fmt.Errorf("unknown protocol %q%s", a.Network, OrHave(a.Network, networks))
	case a.Ports < 0 || a.Ports > 0 && int(a.Port)+a.Ports > 1<<16:
		return fmt.Errorf("%d ports from %d on end beyond 65535", a.Ports, a.Port)
	}
	return nil
}

// IsAll reports whether the address stands for all addresses of both families.
func (a Addr) IsAll() bool { return a.Network != Unix && !a.IP.IsValid() && a.Name == "" }

// String returns the canonical word, which parseAddr reads.
func (a Addr) String() string {
	switch a.Network {
	case Unix:
		return "unix://" + a.Path + a.File.String() + a.clientOptions()
	case UDP:
		return "udp://" + a.HostPort() + a.clientOptions()
	}
	if a.Ports > 0 && isProtocol(a.Name) {
		return "tcp://" + a.HostPort() + a.clientOptions() // or the name would be read as the protocol
	}
	return a.HostPort() + a.clientOptions()
}

// HostName returns the name to look up, with srv: before that of a set of SRV records. For an IP address it is empty.
func (a Addr) HostName() string {
	if a.SRV {
		return srvPrefix + a.Name
	}
	return a.Name
}

// HostPort returns the word without its network; the address is no unix socket.
func (a Addr) HostPort() string {
	host := a.HostName()
	if a.IP.IsValid() {
		host = a.IP.String()
		if a.IP.Is6() {
			host = "[" + host + "]"
		}
	}
	switch {
	case a.Ports == 0:
		return host
	case a.Ports == 1:
		return fmt.Sprintf("%s:%d", host, a.Port)
	}
	return fmt.Sprintf("%s:%d-%d", host, a.Port, int(a.Port)+a.Ports-1)
}

// parseAddr reads an address word whose templates are expanded. The word is PORT, :PORT, HOST, HOST:PORT or srv:NAME,
// each optionally after tcp:// or udp://. A port may be a range, PORT-PORT. Or it is unix:///PATH or unix:@NAME. network
// is the network of a word that names none.
func parseAddr(word, network string) (Addr, error) {
	network, rest, err := cutNetwork(word, network)
	if err != nil {
		return Addr{}, err
	}
	if network == Unix {
		return Addr{Network: Unix, Path: rest}, checkPath(rest)
	}
	parse := parseHostPort
	if isSRV(rest) {
		parse = parseSRV
	}
	a, err := parse(rest)
	a.Network = network
	return a, err
}

// srvPrefix marks the name of a set of SRV records.
const srvPrefix = "srv:"

// isSRV reports whether the word is srv:NAME, rather than a host called srv with its port.
func isSRV(word string) bool {
	name, ok := strings.CutPrefix(word, srvPrefix)
	return ok && strings.Trim(name, "0123456789-") != ""
}

// parseSRV reads srv:NAME.
func parseSRV(word string) (Addr, error) {
	ip, name, err := parseHost(strings.TrimPrefix(word, srvPrefix))
	if err != nil || ip.IsValid() {
		return Addr{}, fmt.Errorf("%q does not name SRV records, as srv:_http._tcp.example.com does: they say the port too", word)
	}
	return Addr{Name: name, SRV: true}, nil
}

// cutNetwork splits "tcp://rest" and its short form "tcp:rest"; a word with neither is of the network implied. The
// short form looks like "host:80", so it takes the name of a protocol.
func cutNetwork(word, implied string) (network, rest string, err error) {
	network, rest, long := strings.Cut(word, "://")
	if !long {
		head, tail, short := strings.Cut(word, ":")
		if !short || !isProtocol(head) {
			return implied, word, nil
		}
		network, rest = head, tail
	}
	if slices.Contains(networks, network) {
		return network, rest, nil
	}
	return "", "", unknownProtocol(network, rest, implied, long)
}

// isProtocol reports whether a word before a colon names a protocol, served or not. A host may still have that name,
// after tcp://.
func isProtocol(word string) bool {
	switch strings.ToLower(word) {
	case "tcp", "udp", "unix", "tcp4", "tcp6", "udp4", "udp6", "sctp", "dccp", "quic", "tls", "ssl", "http", "https", "ws", "wss":
		return true
	}
	return false
}

func parseHostPort(word string) (Addr, error) {
	if err := misplaced(word); err != nil {
		return Addr{}, err
	}
	var a Addr
	host, port, hasPort := word, "", false
	switch {
	case word == "":
		return Addr{}, errors.New("empty address")
	case isDigit(word[0]) && strings.Trim(word, "0123456789-") == "":
		a.IP, host, port, hasPort = netip.AddrFrom4([4]byte{127, 0, 0, 1}), "", word, true
	case word[0] == '[':
		end := strings.IndexByte(word, ']')
		if end < 0 {
			return Addr{}, fmt.Errorf("%q lacks the closing bracket of its IPv6 address", word)
		}
		ip, err := netip.ParseAddr(word[1:end])
		if err != nil || !ip.Is6() || strings.Trim(ip.Zone(), zoneLetters) != "" {
			return Addr{}, fmt.Errorf("%q is not an IPv6 address", word[1:end])
		}
		a.IP, host = ip.Unmap(), ""
		tail := word[end+1:]
		if tail != "" && tail[0] != ':' {
			return Addr{}, fmt.Errorf("%q: only :PORT may follow the bracket", word)
		}
		port, hasPort = strings.CutPrefix(tail, ":")
	case strings.Count(word, ":") > 1:
		if looksLikeIPv6(word) {
			return Addr{}, fmt.Errorf("write the IPv6 address of %q in brackets, as in [::1]:80", word)
		}
		return Addr{}, fmt.Errorf("%q has too many colons: write HOST:PORT", word)
	default:
		host, port, hasPort = strings.Cut(word, ":")
	}
	if host == "*" {
		return Addr{}, fmt.Errorf("%q: all addresses are written without a host (did you mean %q?)", word, word[1:])
	}
	if host != "" {
		var err error
		if a.IP, a.Name, err = parseHost(host); err != nil {
			return Addr{}, err
		}
	}
	if !hasPort {
		return a, nil
	}
	var err error
	a.Port, a.Ports, err = parsePorts(port)
	return a, err
}

const (
	nameLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	zoneLetters = nameLetters + "."
	hexDigits   = "0123456789abcdefABCDEF"
)

// looksLikeIPv6 reports whether a word with colons is written as IPv6 addresses are, be it with a port behind.
func looksLikeIPv6(word string) bool {
	first, _, _ := strings.Cut(word, ":")
	return strings.Trim(first, hexDigits) == "" && (strings.Contains(word, "::") || strings.Count(word, ":") >= 7)
}

// parseHost reads an IPv4 address or a host name. A name whose last label is a number is a mistyped address, as in the URL standard. No resolver would find it.
func parseHost(host string) (netip.Addr, string, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip, "", nil
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.Trim(label, nameLetters) != "" || label[0] == '-' {
			return netip.Addr{}, "", fmt.Errorf("%q is neither an IP address nor a host name", host)
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return netip.Addr{}, "", fmt.Errorf("%q is not an IP address", host)
	}
	if len(host) > 253 {
		return netip.Addr{}, "", fmt.Errorf("the host name %.40q… is longer than 253 letters", host)
	}
	return netip.Addr{}, host, nil
}

// parsePorts reads PORT or FIRST-LAST.
func parsePorts(word string) (first uint16, ports int, err error) {
	low, high, isRange := strings.Cut(word, "-")
	if first, err = parsePort(low); err != nil || !isRange {
		return first, 1, err
	}
	last, err := parsePort(high)
	if err != nil {
		return 0, 0, err
	}
	if first == 0 {
		return 0, 0, fmt.Errorf("the port range %q must not begin with 0", word)
	}
	if last < first {
		return 0, 0, fmt.Errorf("the port range %q runs backwards", word)
	}
	return first, int(last) - int(first) + 1, nil
}

func parsePort(word string) (uint16, error) {
	if word == "" || strings.Trim(word, "0123456789") != "" {
		return 0, fmt.Errorf("%q is not a port", word)
	}
	n, err := strconv.ParseUint(word, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("port %s is out of range (1 to 65535)", word)
	}
	return uint16(n), nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// application maps protocols over tcp that users write before an address to their ports.
var application = map[string]string{"http": "80", "https": "443", "ws": "80", "wss": "443", "tls": "443", "ssl": "443", "grpc": "443"}

// unknownProtocol is the error of PROTOCOL://REST, or of PROTOCOL:REST.
func unknownProtocol(protocol, rest, implied string, long bool) error {
	if !long {
		return fmt.Errorf("unknown protocol %q%s; a host of that name is %s://%s:%s", protocol, OrHave(protocol, networks), implied, protocol, rest)
	}
	port, ok := application[protocol]
	if !ok {
		return fmt.Errorf("unknown protocol %q%s", protocol, OrHave(protocol, networks))
	}
	address, _, _ := strings.Cut(rest, "/")
	if a, err := parseAddr(address, TCP); err == nil && !a.HasPort() {
		address += ":" + port
	}
	return fmt.Errorf("unknown protocol %q: it is spoken over tcp, which passes as it is (did you mean %q?)", protocol, address)
}

// misplaced returns an error for a word that would be an address with its parts in another order. It is nil for others.
func misplaced(word string) error {
	for _, network := range []string{TCP, UDP} {
		for _, separator := range []string{"/", ":"} {
			if address, ok := strings.CutSuffix(word, separator+network); ok && address != "" {
				return fmt.Errorf("%q: the protocol comes first (did you mean %q?)", word, network+":"+address)
			}
		}
	}
	if strings.HasPrefix(word, "/") {
		return fmt.Errorf("%q is a path (did you mean %q?)", word, "unix://"+word)
	}
	if strings.HasPrefix(word, "./") || strings.HasPrefix(word, "../") || strings.HasPrefix(word, "~/") {
		return fmt.Errorf("%q is a path: write a unix socket with its absolute one, as in unix:///run/%s", word, path.Base(word))
	}
	return nil
}

// Expand evaluates the go-sockaddr template in an address word, if there is one. It returns a word for each address that
// the template yields. evaluate is template.Evaluate, which reads this machine's interfaces, except in tests. The text
// before the first {{ and after the last }} stays around each of them. IPv6 addresses get brackets there: `{{
// GetPrivateIPs }}:80` yields "10.0.0.5:80" and "[fd00::5]:80".
//
// A template that yields nothing is an error. The remaining ":80" would mean every address of the machine.
func Expand(word string, evaluate func(string) (string, error)) ([]string, error) {
	begin, end := strings.Index(word, "{{"), strings.LastIndex(word, "}}")
	if begin < 0 {
		return []string{word}, nil
	}
	if end < begin {
		return nil, fmt.Errorf("%q lacks the closing }} of its template", word)
	}
	head, input, tail := word[:begin], word[begin:end+2], word[end+2:]
	if strings.HasSuffix(head, "[") && strings.HasPrefix(tail, "]") {
		head, tail = strings.TrimSuffix(head, "["), strings.TrimPrefix(tail, "]")
	}
	text, err := evaluate(input)
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", input, err)
	}
	fields := strings.Fields(text)
	if len(fields) == 0 || strings.HasPrefix(fields[0], ":") && !isIP(fields[0]) {
		return nil, fmt.Errorf("template %s yields no address on this machine", input)
	}
	words := make([]string, len(fields))
	for i, f := range fields {
		if ip, err := netip.ParseAddr(f); err == nil && ip.Is6() {
			f = "[" + f + "]"
		}
		words[i] = head + f + tail
	}
	return words, nil
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}
