package iptables

import (
	"strings"

	"usher/proxy/rules"
)

// maxMultiport bounds the ports of -m multiport. A range counts as two.
const maxMultiport = 15

func newMultiport() *extension {
	m := &rules.Multiport{}
	x := &extension{match: m}
	names := []string{"--source-ports", "--destination-ports", "--ports"}
	option := func(side rules.PortSide, name, short string, others ...string) flag {
		return flag{names: []string{name, short}, canBeNot: true, excludes: others, set: func(v string, not bool) *Error {
			m.Side, m.Not = side, not
			return parseRanges(m, v)
		}}
	}
	x.flags = []flag{
		option(rules.SourcePort, names[0], "--sports", names[1], names[2]),
		option(rules.DestinationPort, names[1], "--dports", names[0], names[2]),
		option(rules.EitherPort, names[2], names[2], names[0], names[1]),
	}
	x.check = func(r *Rule) *Error {
		switch {
		case r.Protocol == rules.All:
			return errorf("multiport needs `-p tcp' or `-p udp'")
		case r.NotProtocol:
			return errorf("multiport only works with TCP and UDP")
		case len(x.given) == 0:
			return errorf("multiport expection an option").advise("have --sports, --dports, --ports")
		}
		return nil
	}
	return x
}

// parseRanges reads ports and ranges, separated by commas.
func parseRanges(m *rules.Multiport, text string) *Error {
	slots := 0
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, ":")
		if !isRange {
			last = first
		}
		low, err := lookupPort(rules.TCP, first)
		if err != nil {
			return err
		}
		high, err := lookupPort(rules.TCP, last)
		switch {
		case err != nil:
			return err
		case isRange && low >= high:
			return errorf("invalid portrange specified")
		}
		if slots++; isRange {
			slots++
		}
		m.Ranges = append(m.Ranges, rules.PortRange{First: low, Last: high})
	}
	if slots > maxMultiport {
		return errorf("too many ports specified").advise("at most %d, and a range counts as two", maxMultiport)
	}
	return nil
}

func multiportSide(m *rules.Multiport) string {
	return [...]string{"sports", "dports", "ports"}[m.Side]
}

func formatRanges(m *rules.Multiport) string {
	words := make([]string, len(m.Ranges))
	for i, r := range m.Ranges {
		words[i] = formatRange(r)
	}
	return strings.Join(words, ",")
}

func saveMultiport(b *strings.Builder, m *rules.Multiport) {
	b.WriteString(" -m multiport")
	if m.Not {
		b.WriteString(" !")
	}
	b.WriteString(" --" + multiportSide(m) + " " + formatRanges(m))
}

func listMultiport(b *strings.Builder, m *rules.Multiport, protocol string, o *ListingOptions) {
	b.WriteString(" multiport " + multiportSide(m) + " ")
	if m.Not {
		b.WriteString(" !")
	}
	for i, r := range m.Ranges {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(o.ports(r, protocol))
	}
}
