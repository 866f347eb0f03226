package ipvsadm

import (
	"net/netip"
	"strconv"
	"strings"
)

// address is host[:port] of an option.
type address struct {
	ip      netip.Addr
	port    uint16
	last    uint16 // of a range of ports
	hasPort bool
}

func (a address) addrPort() netip.AddrPort { return netip.AddrPortFrom(a.ip, a.port) }

// address reads host[:port], where the host is an address of IPv6, bare or in brackets, or an address or name of IPv4.
// Brackets must have a colon after them, and the port after them counts for IPv6 alone: so ipvsadm reads them. A port may
// be a range, which ipvsadm has not.
func (l *line) address(s string, isRangeLegal bool) (a address, ok bool) {
	if strings.Trim(s, "0123456789") == "" {
		return a, false
	}
	host, port := s, ""
	if inner, isBracketed := strings.CutPrefix(s, "["); isBracketed {
		var rest string
		if host, rest, ok = strings.Cut(inner, "]"); !ok || !strings.HasPrefix(rest, ":") {
			return a, false
		}
		port, a.hasPort = rest[1:], true
	}
	if a.ip, ok = parseIPv6(host); !ok {
		port, a.hasPort = "", false
		if at := strings.LastIndexByte(host, ':'); at >= 0 {
			host, port, a.hasPort = host[:at], host[at+1:], true
		}
		if a.ip, ok = l.host(host); !ok {
			return a, false
		}
	}
	if !a.hasPort {
		return a, true
	}
	if first, last, isRange := strings.Cut(port, "-"); isRange && isRangeLegal {
		if a.port, a.last, ok = portRange(first, last); ok {
			return a, true
		}
	}
	a.port, ok = l.port(port)
	return a, ok
}

// parseIPv6 reads an address as inet_pton does, which knows no zones.
func parseIPv6(s string) (netip.Addr, bool) {
	if !strings.Contains(s, ":") || strings.Contains(s, "%") {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(s)
	return a, err == nil
}

// host reads an address of IPv4, or looks a name up.
func (l *line) host(s string) (netip.Addr, bool) {
	if a, ok := parseIPv4(s); ok {
		return a, true
	}
	if l.Host == nil || s == "" {
		return netip.Addr{}, false
	}
	a, ok := l.Host(s)
	return a, ok && a.Is4()
}

// parseIPv4 reads an address as inet_aton does: one to four numbers, decimal, octal or hexadecimal, the last of which
// fills the bytes that are left. What follows a blank does not count.
func parseIPv4(s string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
		return a, true
	}
	if at := strings.IndexAny(s, " \t\n\v\f\r"); at >= 0 {
		s = s[:at]
	}
	var ip uint64
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	for i, part := range parts {
		room := 8
		if i == len(parts)-1 {
			room = 32 - 8*i
		}
		n, ok := parsePart(part)
		if !ok || n >= 1<<room {
			return netip.Addr{}, false
		}
		ip = ip<<room | n
	}
	return netip.AddrFrom4([4]byte{byte(ip >> 24), byte(ip >> 16), byte(ip >> 8), byte(ip)}), true
}

// parsePart reads a number whose base is that of C.
func parsePart(s string) (uint64, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	base := 10
	switch {
	case strings.HasPrefix(s, "0x"), strings.HasPrefix(s, "0X"):
		base, s = 16, s[2:]
	case s[0] == '0':
		base = 8
	}
	n, err := strconv.ParseUint(s, base, 64)
	return n, err == nil
}

func (l *line) port(s string) (uint16, bool) {
	if n, ok := number(s, 0, 65535); ok {
		return uint16(n), true
	}
	if l.Port == nil || s == "" {
		return 0, false
	}
	return l.Port(s, l.protocol)
}

// portRange reads the ends of a range of two ports or more.
func portRange(first, last string) (uint16, uint16, bool) {
	from, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return 0, 0, false
	}
	to, err := strconv.ParseUint(last, 10, 16)
	return uint16(from), uint16(to), err == nil && 0 < from && from < to
}
