package rules

import "fmt"

// appendKey appends a text that two rules have in common only if they are equal. It knows
// a rule again after a change of the list, and in another process.
func appendKey(b []byte, r *Rule) []byte {
	b = fmt.Appendf(b, "%v %t %v %t %q %t %d %t", r.Source.Prefix, r.Source.Not, r.Destination.Prefix, r.Destination.Not,
		r.Interface.Name, r.Interface.Not, r.Protocol, r.NotProtocol)
	for _, m := range r.Matches {
		b = appendMatchKey(append(b, "; "...), m)
	}
	return fmt.Appendf(b, "; %d %q %q %q %d", r.Target, r.Chain, r.RejectWith, r.LogPrefix, r.LogLevel)
}

func appendMatchKey(b []byte, m Match) []byte {
	switch m := m.(type) {
	case *Ports:
		b = fmt.Appendf(b, "ports %d %t", m.Protocol, m.SYN)
		b = appendRangeKey(b, m.Source, m.NotSource)
		return appendRangeKey(b, m.Destination, m.NotDestination)
	case *Multiport:
		return fmt.Appendf(b, "multiport %v", *m)
	case *Conntrack:
		return fmt.Appendf(b, "conntrack %q %t", m.States, m.Not)
	case *Comment:
		return fmt.Appendf(b, "comment %q", m.Text)
	case *Limit:
		return fmt.Appendf(b, "limit %v", m.Rate)
	case *Hashlimit:
		return fmt.Appendf(b, "hashlimit %t %s", m.Above, hashlimitKey(m))
	case *Connlimit:
		return fmt.Appendf(b, "connlimit %v", *m)
	case *Recent:
		return fmt.Appendf(b, "recent %q %v", m.Name, []any{m.Action, m.Not, m.Seconds, m.HitCount, m.Reap, m.Mask, m.Destination})
	case *Statistic:
		return fmt.Appendf(b, "statistic %v", *m)
	}
	return fmt.Appendf(b, "%T", m)
}

func appendRangeKey(b []byte, r *PortRange, not bool) []byte {
	if r == nil {
		return append(b, " -"...)
	}
	return fmt.Appendf(b, " %v %t", *r, not)
}

// hashlimitKey returns what two hashlimits have in common if they may share buckets.
func hashlimitKey(m *Hashlimit) string {
	shared := *m
	shared.Name, shared.Above = "", false
	return fmt.Sprintf("%q %v", m.Name, shared)
}

// recentKey returns what a list of -m recent is known by.
func recentKey(name string, l *recentList) string {
	return fmt.Sprintf("%q %v %d", name, l.mask, l.stamps)
}
