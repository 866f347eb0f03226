package iptables

import (
	"fmt"
	"slices"
	"strings"
)

// addressTypes are those of -m addrtype, in iptables' order.
var addressTypes = []string{
	"UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE", "PROHIBIT", "THROW", "NAT", "XRESOLVE",
}

func newAddrtype() *extension {
	m := &Addrtype{}
	side := func(name string, types *[]string, isNot *bool) flag {
		return flag{names: []string{name}, canBeNot: true, set: func(v string, not bool) *Error {
			*isNot = not
			return parseTypes(types, v)
		}}
	}
	limit := func(name, other string, to *bool) flag {
		return flag{names: []string{name}, takes: nothing, excludes: []string{other}, set: func(string, bool) *Error { *to = true; return nil }}
	}
	x := &extension{match: m, flags: []flag{
		side("--src-type", &m.Source, &m.NotSource),
		side("--dst-type", &m.Destination, &m.NotDestination),
		limit("--limit-iface-in", "--limit-iface-out", &m.LimitIn),
		limit("--limit-iface-out", "--limit-iface-in", &m.LimitOut),
	}}
	x.check = func(*Rule) *Error {
		if !x.has("--src-type") && !x.has("--dst-type") {
			return errorf("addrtype: you must specify --src-type or --dst-type")
		}
		return nil
	}
	return x
}

func parseTypes(to *[]string, text string) *Error {
	given := strings.Split(strings.ToUpper(text), ",")
	for i, t := range given {
		at := slices.IndexFunc(addressTypes, func(name string) bool { return t != "" && strings.HasPrefix(name, t) })
		if at < 0 {
			return errorf("addrtype: bad type `%s'", text)
		}
		given[i] = addressTypes[at]
	}
	for _, t := range addressTypes {
		if slices.Contains(given, t) {
			*to = append(*to, t)
		}
	}
	return nil
}

func saveAddrtype(b *strings.Builder, m *Addrtype) {
	b.WriteString(" -m addrtype")
	side := func(name string, types []string, not bool) {
		if types != nil {
			saveCondition(b, " --"+name+" ", strings.Join(types, ","), not)
		}
	}
	side("src-type", m.Source, m.NotSource)
	side("dst-type", m.Destination, m.NotDestination)
	if m.LimitIn {
		b.WriteString(" --limit-iface-in")
	}
	if m.LimitOut {
		b.WriteString(" --limit-iface-out")
	}
}

func listAddrtype(b *strings.Builder, m *Addrtype) {
	b.WriteString(" ADDRTYPE match")
	side := func(name string, types []string, not bool) {
		if types == nil {
			return
		}
		b.WriteString(" " + name + " ")
		if not {
			b.WriteByte('!')
		}
		b.WriteString(strings.Join(types, ","))
	}
	side("src-type", m.Source, m.NotSource)
	side("dst-type", m.Destination, m.NotDestination)
	if m.LimitIn {
		b.WriteString(" limit-in")
	}
	if m.LimitOut {
		b.WriteString(" limit-out")
	}
}

func newMarkMatch() *extension {
	m := &MarkMatch{}
	return &extension{match: m, flags: []flag{{names: []string{"--mark"}, canBeNot: true, isNeeded: true, set: func(v string, not bool) (err *Error) {
		m.Not = not
		m.Value, m.Mask, err = parseMark("mark", "--mark", v, true)
		return err
	}}}}
}

func (m *MarkMatch) String() string {
	if m.Mask == 1<<32-1 {
		return fmt.Sprintf("0x%x", m.Value)
	}
	return fmt.Sprintf("0x%x/0x%x", m.Value, m.Mask)
}

func saveMarkMatch(b *strings.Builder, m *MarkMatch) {
	b.WriteString(" -m mark")
	saveCondition(b, " --mark ", m.String(), m.Not)
}

func listMarkMatch(b *strings.Builder, m *MarkMatch) {
	b.WriteString(" mark match ")
	if m.Not {
		b.WriteString("! ")
	}
	b.WriteString(m.String())
}

// icmpTypes are the names of types of ICMP that rules have, with the code of those that name one.
var icmpTypes = [...]struct {
	name       string
	kind, code int
}{
	{"any", 255, -1}, {"echo-reply", 0, -1}, {"pong", 0, -1}, {"destination-unreachable", 3, -1}, {"network-unreachable", 3, 0},
	{"host-unreachable", 3, 1}, {"protocol-unreachable", 3, 2}, {"port-unreachable", 3, 3}, {"fragmentation-needed", 3, 4},
	{"source-quench", 4, -1}, {"redirect", 5, -1}, {"echo-request", 8, -1}, {"ping", 8, -1}, {"router-advertisement", 9, -1},
	{"router-solicitation", 10, -1}, {"time-exceeded", 11, -1}, {"ttl-exceeded", 11, -1}, {"parameter-problem", 12, -1},
	{"timestamp-request", 13, -1}, {"timestamp-reply", 14, -1}, {"address-mask-request", 17, -1}, {"address-mask-reply", 18, -1},
}

func newICMP() *extension {
	m := &ICMP{}
	return &extension{match: m, flags: []flag{{names: []string{"--icmp-type"}, canBeNot: true, isNeeded: true, set: func(v string, not bool) *Error {
		m.Not = not
		return m.parse(v)
	}}}}
}

// parse reads a name, or a type and a code.
func (m *ICMP) parse(text string) *Error {
	for _, t := range icmpTypes {
		if t.name == text {
			m.Type, m.Code, m.IsAny = t.kind, t.code, t.kind == 255
			return nil
		}
	}
	kind, code, hasCode := strings.Cut(text, "/")
	n, err := parseNumber(kind, 0, 255)
	if err != nil {
		return errorf("Invalid ICMP type `%s'", text)
	}
	m.Type, m.Code = int(n), -1
	if hasCode {
		if n, err = parseNumber(code, 0, 255); err != nil {
			return errorf("Invalid ICMP code `%s'", code)
		}
		m.Code = int(n)
	}
	return nil
}

func saveICMP(b *strings.Builder, m *ICMP) {
	b.WriteString(" -m icmp")
	switch {
	case m.IsAny:
		saveCondition(b, " --icmp-type ", "any", m.Not)
	case m.Code >= 0:
		saveCondition(b, " --icmp-type ", fmt.Sprintf("%d/%d", m.Type, m.Code), m.Not)
	default:
		saveCondition(b, " --icmp-type ", fmt.Sprint(m.Type), m.Not)
	}
}

func listICMP(b *strings.Builder, m *ICMP, o *ListingOptions) {
	not := ""
	if m.Not {
		not = "!"
	}
	if !o.Numeric {
		for _, t := range icmpTypes {
			if t.kind == m.Type && t.code == m.Code {
				b.WriteString(" icmp " + not + t.name)
				return
			}
		}
	}
	if m.Not {
		not = " !"
	}
	fmt.Fprintf(b, " icmp%stype %d", not, m.Type)
	if m.Code >= 0 {
		fmt.Fprintf(b, " code %d", m.Code)
	}
}
