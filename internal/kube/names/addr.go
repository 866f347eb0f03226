package names

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// dnsPort is the port that resolvers ask.
const dnsPort = 53

// ParseAddr reads where a server listens: IP:PORT, IP (port 53), :PORT (all addresses), or PORT (127.0.0.1). Port 0 is one
// that the kernel chooses.
func ParseAddr(word string) (netip.AddrPort, error) { return parseAddr(word, 0) }

// parseAddr reads IP:PORT, IP (port 53), :PORT (all addresses), or PORT (127.0.0.1). A port must be at least least.
func parseAddr(word string, least uint16) (netip.AddrPort, error) {
	wrong := func() (netip.AddrPort, error) {
		return netip.AddrPort{}, fmt.Errorf("dns address %q: it must be IP:PORT, IP, :PORT or PORT, such as 127.0.0.53:53", word)
	}
	if addr, err := netip.ParseAddr(strings.Trim(word, "[]")); err == nil {
		return netip.AddrPortFrom(addr.Unmap(), dnsPort), nil
	}
	full := word
	switch {
	case strings.HasPrefix(word, ":"):
		full = "[::]" + word
	case !strings.Contains(word, ":"):
		full = "127.0.0.1:" + word
	}
	at, err := netip.ParseAddrPort(full)
	if err != nil || at.Port() < least {
		return wrong()
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
}

// ParseUpstreams reads a list of name servers, separated by commas: IP or IP:PORT each.
func ParseUpstreams(list string) ([]netip.AddrPort, error) {
	var upstreams []netip.AddrPort
	for word := range strings.SplitSeq(list, ",") {
		word = strings.TrimSpace(word)
		at, err := parseAddr(word, 1)
		if _, numeral := strconv.Atoi(word); err != nil || numeral == nil || at.Addr().IsUnspecified() {
			return nil, fmt.Errorf("dns upstream %q: it must be the address of a name server, IP or IP:PORT, such as 1.1.1.1", word)
		}
		upstreams = append(upstreams, at)
	}
	return upstreams, nil
}

// isSelf reports whether what is sent to that address arrives at a server of this machine that listens at the other.
func isSelf(server, to netip.AddrPort) bool {
	addr := to.Addr()
	if addr.IsUnspecified() { // the kernel takes loopback
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if to.Addr().Is6() {
			addr = netip.IPv6Loopback()
		}
	}
	if server.Port() != to.Port() {
		return false
	}
	return server.Addr() == addr || server.Addr().IsUnspecified() && isLocal(addr)
}

// isLocal reports whether an address is one of this machine.
func isLocal(addr netip.Addr) bool {
	if addr.IsLoopback() {
		return true
	}
	addrs, _ := net.InterfaceAddrs()
	for _, of := range addrs {
		prefix, err := netip.ParsePrefix(of.String())
		if err == nil && prefix.Addr().Unmap() == addr {
			return true
		}
	}
	return false
}
