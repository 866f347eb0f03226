package config

import (
	"errors"
	"fmt"
	"net/netip"
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

// Addr is one address word: where a service listens, or where a backend is reached.
type Addr struct {
	Network string     // TCP, UDP or Unix
	IP      netip.Addr // an IP address; invalid for a name, a unix socket, and all addresses
	Name    string     // a host name; with neither IP nor Name a TCP or UDP address means all addresses of both families
	Port    uint16     // the first port; see HasPort
	Ports   int        // how many consecutive ports from Port; 0: the word has no port
	Path    string     // of a unix socket
}

// HasPort tells a word with a port (0 too: a listener on a port that the kernel chooses) from one without.
func (a Addr) HasPort() bool { return a.Ports > 0 }

// IsAll reports whether the address stands for all addresses of both families.
func (a Addr) IsAll() bool { return a.Network != Unix && !a.IP.IsValid() && a.Name == "" }

// String returns the canonical word: ParseAddr of it yields the same Addr.
func (a Addr) String() string {
	switch a.Network {
	case Unix:
		return "unix://" + a.Path
	case UDP:
		return "udp://" + a.HostPort()
	}
	if a.Ports > 0 && isProtocol(a.Name) {
		return "tcp://" + a.HostPort() // or the name would be read as the protocol
	}
	return a.HostPort()
}

// HostPort returns the word without its network; the address is no unix socket.
func (a Addr) HostPort() string {
	host := a.Name
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

// ParseAddr reads an address word whose templates are expanded: PORT, :PORT, HOST, HOST:PORT, PORT-PORT wherever a port
// may stand, each optionally after tcp:// or udp://, or unix:///PATH.
func ParseAddr(word string) (Addr, error) { return parseAddr(word, TCP) }

// parseAddr takes a word that names no network to be of the one given.
func parseAddr(word, network string) (Addr, error) {
	network, rest, err := cutNetwork(word, network)
	if err != nil {
		return Addr{}, err
	}
	if network == Unix {
		return parsePath(rest)
	}
	a, err := parseHostPort(rest)
	a.Network = network
	return a, err
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
	known := []string{TCP, UDP, Unix}
	switch {
	case slices.Contains(known, network):
		return network, rest, nil
	case !long:
		return "", "", fmt.Errorf("unknown protocol %q%s; a host of that name is %s://%s", network, orHave(network, known), implied, word)
	}
	return "", "", fmt.Errorf("unknown protocol %q%s", network, orHave(network, known))
}

// isProtocol reports whether people write the word before a colon to name a protocol, of which most are not served. A
// host may still have that name, after tcp://.
func isProtocol(word string) bool {
	switch strings.ToLower(word) {
	case "tcp", "udp", "unix", "tcp4", "tcp6", "udp4", "udp6", "sctp", "dccp", "quic", "tls", "ssl", "http", "https", "ws", "wss":
		return true
	}
	return false
}

func parsePath(path string) (Addr, error) {
	if !strings.HasPrefix(path, "/") {
		return Addr{}, fmt.Errorf("the path of a unix socket must be absolute, as in unix:///run/app.sock, not %q", path)
	}
	if strings.IndexFunc(path, func(r rune) bool { return r < ' ' }) >= 0 {
		return Addr{}, fmt.Errorf("the path %q holds a control character", path)
	}
	return Addr{Network: Unix, Path: path}, nil
}

func parseHostPort(word string) (Addr, error) {
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
		if port, hasPort = strings.CutPrefix(tail, ":"); a.IP == netip.IPv6Unspecified() {
			a.IP = netip.Addr{} // both families, as every Go program has it
			if !hasPort {
				return Addr{}, fmt.Errorf("%q needs a port", word)
			}
		}
	case strings.Count(word, ":") > 1:
		return Addr{}, fmt.Errorf("write the IPv6 address of %q in brackets, as in [::1]:80", word)
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
)

// parseHost reads an IPv4 address or a host name. A name whose last label is a number is a mistyped address, as the
// URL standard has it: no resolver would find it.
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
