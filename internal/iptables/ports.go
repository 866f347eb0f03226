package iptables

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"usher/proxy/rules"
)

// newPorts is -m tcp or -m udp, which is loaded by -p and a port, too.
func newPorts(protocol rules.Protocol, g grammar) *extension {
	m := &rules.Ports{Protocol: protocol}
	name := protocolName(protocol)
	return &extension{match: m, flags: portFlags(m), check: func(r *Rule) *Error {
		if g == forDoor && (r.Protocol != protocol || r.NotProtocol) {
			return errorf("%s match requires '-p %s'", strings.ToUpper(name), name)
		}
		return nil
	}}
}

func portFlags(m *rules.Ports) []flag {
	flags := []flag{
		{names: []string{"--source-port", "--sport"}, canBeNot: true, set: func(v string, not bool) (err *Error) {
			m.Source, m.NotSource, err = parsePort(m.Protocol, v, not)
			return err
		}},
		{names: []string{"--destination-port", "--dport"}, canBeNot: true, set: func(v string, not bool) (err *Error) {
			m.Destination, m.NotDestination, err = parsePort(m.Protocol, v, not)
			return err
		}},
	}
	if m.Protocol == rules.TCP {
		flags = append(flags,
			flag{names: []string{"--syn"}, takes: nothing, canBeNot: true, set: func(_ string, not bool) *Error { return setSYN(m, not) }},
			flag{names: []string{"--tcp-flags"}, isPair: true, canBeNot: true, set: func(v string, not bool) *Error { return parseFlags(m, v, not) }})
	}
	return flags
}

// isPortFlag reports whether an option is of -m tcp and -m udp, which -p loads.
func isPortFlag(name string) bool {
	return slices.ContainsFunc(portFlags(&rules.Ports{Protocol: rules.TCP}), func(f flag) bool { return slices.Contains(f.names, name) })
}

// setSYN sets what is true of every new connection.
func setSYN(m *rules.Ports, not bool) *Error {
	if not {
		return refusal("rule would never match").advise("a new connection begins with SYN alone")
	}
	m.SYN = true
	return nil
}

// parseFlags reads a mask of TCP flags and those that are set. It knows those of --syn, in any order.
func parseFlags(m *rules.Ports, text string, not bool) *Error {
	mask, set, _ := strings.Cut(text, " ")
	flags := strings.Split(mask, ",")
	slices.Sort(flags)
	if strings.Join(flags, ",") != "ACK,FIN,RST,SYN" || set != "SYN" {
		return refusal("--tcp-flags %s has no meaning here", text).advise("rules see new connections; --syn is true of each")
	}
	return setSYN(m, not)
}

// parsePort reads a port or a range. All ports are no condition.
func parsePort(protocol rules.Protocol, text string, not bool) (*rules.PortRange, bool, *Error) {
	first, last, isRange := strings.Cut(text, ":")
	r := rules.PortRange{Last: 65535}
	var err *Error
	if !isRange {
		last = first
	}
	if first != "" || !isRange {
		r.First, err = lookupPort(protocol, first)
	}
	if err == nil && (last != "" || !isRange) {
		r.Last, err = lookupPort(protocol, last)
	}
	switch {
	case err != nil:
		return nil, false, err
	case r.First > r.Last:
		return nil, false, errorf("invalid portrange (min > max)")
	case r == rules.PortRange{Last: 65535} && not:
		return nil, false, refusal("rule would never match").advise("%s is every port", text)
	case r == rules.PortRange{Last: 65535}:
		return nil, false, nil
	}
	return &r, not, nil
}

// lookupPort reads a number, or a name of /etc/services.
func lookupPort(protocol rules.Protocol, text string) (uint16, *Error) {
	if n, err := parseNumber(text, 0, 65535); err == nil {
		return uint16(n), nil
	}
	if text != "" && strings.Trim(text, "+-0123456789") != "" {
		local := net.Resolver{PreferGo: true}
		if n, err := local.LookupPort(context.Background(), protocolName(protocol), text); err == nil {
			return uint16(n), nil
		}
	}
	return 0, errorf("invalid port/service `%s' specified", text)
}

func savePorts(b *strings.Builder, m *rules.Ports) {
	b.WriteString(" -m " + protocolName(m.Protocol))
	savePort(b, " --sport ", m.Source, m.NotSource)
	savePort(b, " --dport ", m.Destination, m.NotDestination)
	if m.SYN {
		b.WriteString(" --tcp-flags FIN,SYN,RST,ACK SYN")
	}
}

func savePort(b *strings.Builder, option string, r *rules.PortRange, not bool) {
	if r == nil {
		return
	}
	if not {
		b.WriteString(" !")
	}
	b.WriteString(option + formatRange(*r))
}

func formatRange(r rules.PortRange) string {
	if r.First == r.Last {
		return fmt.Sprint(r.First)
	}
	return fmt.Sprintf("%d:%d", r.First, r.Last)
}

func listPorts(b *strings.Builder, m *rules.Ports, o *ListingOptions) {
	protocol := protocolName(m.Protocol)
	b.WriteString(" " + protocol)
	list := func(name string, r *rules.PortRange, not bool) {
		if r == nil {
			return
		}
		if b.WriteString(name); r.First != r.Last {
			b.WriteByte('s')
		}
		if b.WriteByte(':'); not {
			b.WriteByte('!')
		}
		b.WriteString(o.ports(*r, protocol))
	}
	list(" spt", m.Source, m.NotSource)
	list(" dpt", m.Destination, m.NotDestination)
	if m.SYN && o.Numeric {
		b.WriteString(" flags:0x17/0x02")
	} else if m.SYN {
		b.WriteString(" flags:FIN,SYN,RST,ACK/SYN")
	}
}
