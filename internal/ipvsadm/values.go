package ipvsadm

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// number reads a decimal number as strtol does, with blanks and a sign before it.
func number(s string, least, most int64) (int64, bool) {
	n, err := strconv.ParseInt(strings.TrimLeft(s, " \t\n\v\f\r"), 10, 64)
	return n, err == nil && least <= n && n <= most
}

// illegal reads a number of an option that messages name.
func illegal(s string, least, most int64, name string) (int64, *Error) {
	n, ok := number(s, least, most)
	if !ok {
		return 0, usage("illegal %s specified", name)
	}
	return n, nil
}

// timeout reads a number of seconds.
func timeout(s string, least int64) (uint32, *Error) {
	n, ok := number(s, least, longestTimeout)
	if !ok {
		return 0, usage("invalid timeout value `%s' specified", s)
	}
	return uint32(n), nil
}

func (l *line) takePersist(g given) (err *Error) {
	l.cmd.Service.Persist = defaultPersist
	if g.hasValue {
		l.cmd.Service.Persist, err = timeout(g.value, 1)
	}
	return err
}

// takeNetmask reads a mask of IPv4, or a number of bits once the service is one of IPv6. A mask of IPv4 before the address of
// a service of IPv6 is forgotten.
func (l *line) takeNetmask(s string) *Error {
	if l.addr.ip.Is6() || l.cmd.Service.IPv6 {
		n, ok := leadingNumber(s)
		if !ok || n < 1 || n > 128 {
			return usage("illegal ipv6 netmask specified")
		}
		l.bits = n
		return nil
	}
	mask, ok := l.host(s)
	if !ok {
		return usage("illegal virtual server persistent mask specified")
	}
	ones := mask.As4()
	m := binary.BigEndian.Uint32(ones[:])
	l.bits = bits.OnesCount32(m)
	l.hasHoles = m != ^uint32(0)<<(32-l.bits)
	return nil
}

// leadingNumber reads a number as atoi does: what follows the digits does not count.
func leadingNumber(s string) (int, bool) {
	s = strings.TrimLeft(s, " \t\n\v\f\r")
	end := strings.IndexFunc(strings.TrimLeft(s, "+"), func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		s = s[:len(s)-len(strings.TrimLeft(s, "+"))+end]
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

// schedulerFlags reads the value of -b. Flags are the three bits that a scheduler gives a meaning to.
func schedulerFlags(scheduler, value string) ([]string, *Error) {
	if scheduler == "" {
		scheduler = defaultScheduler
	}
	var set [3]bool
	names := flagNames(scheduler)
	for _, flag := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' }) {
		at := slices.Index(names[:], flag)
		if at < 0 {
			at = slices.Index([]string{"flag-1", "flag-2", "flag-3"}, flag)
		}
		switch {
		case at >= 0:
			set[at] = true
		case slices.Contains([]string{"sh-fallback", "sh-port", "mh-fallback", "mh-port"}, flag):
			return nil, usage("incompatible scheduler flag `%s'", flag)
		default:
			return nil, usage("invalid scheduler flag `%s'", flag)
		}
	}
	var flags []string
	for at, isSet := range set {
		if isSet {
			flags = append(flags, names[at])
		}
	}
	return flags, nil
}

// flagNames are a scheduler's names of the three flags. The last one has none: it is kept, and no listing shows it.
func flagNames(scheduler string) [3]string {
	switch scheduler {
	case "sh", "mh":
		return [3]string{scheduler + "-fallback", scheduler + "-port", "flag-3"}
	}
	return [3]string{"flag-1", "flag-2", "flag-3"}
}

// Flags of the encapsulation of a tunnel.
const (
	tunnelCsum    = 1
	tunnelRemCsum = 2
)

// take takes in an option of a tunnel.
func (d *Destination) take(g given) *Error {
	switch g.option {
	case optTunType:
		for _, t := range []TunnelType{IPIP, GUE, GRE} {
			if t.name() == g.value {
				d.TunnelType = t
				return nil
			}
		}
		return usage("illegal tunnel type specified")
	case optTunPort:
		port, err := illegal(g.value, 1, 65535, "tunnel port")
		d.TunnelPort = uint16(port)
		return err
	case optTunCsum:
		d.TunnelFlags |= tunnelCsum
	case optTunRemCsum:
		d.TunnelFlags |= tunnelRemCsum
	}
	return nil
}

// takeDaemon checks an option of a daemon. Its value is not kept: usher has no daemon.
func takeDaemon(g given) (err *Error) {
	switch g.option {
	case optSyncID:
		_, err = illegal(g.value, 0, 255, "syncid")
	case optMcastPort:
		_, err = illegal(g.value, 1, 65535, "mcast-port")
	case optMcastTTL:
		_, err = illegal(g.value, 1, 255, "mcast-ttl")
	case optSyncMaxLen:
		_, err = illegal(g.value, 1, 65535-20-8, "sync-maxlen")
	case optMcastGroup:
		family, a := "IPv4", netip.Addr{}
		if strings.Contains(g.value, ":") {
			family = "IPv6"
		}
		a, _ = netip.ParseAddr(g.value)
		if !a.IsMulticast() || a.Zone() != "" {
			err = usage("invalid %s mcast-group `%s'", family, g.value)
		}
	}
	return err
}
