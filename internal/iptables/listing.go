package iptables

import (
	"fmt"
	"io"
	"strings"

	"usher/proxy/rules"
)

// ChainListing is a chain with its counters, as iptables -L -n shows it.
type ChainListing struct {
	Name       string
	Policy     rules.Target // of the built-in chain
	Packets    uint64       // that the policy decided
	Bytes      uint64
	References int // rules that jump to a user chain
	Rules      []RuleListing
}

// RuleListing is a rule with its counters.
type RuleListing struct {
	Rule           *rules.Rule
	Packets, Bytes uint64
}

// ListingOptions choose the columns of a listing.
type ListingOptions struct {
	Verbose     bool // counters and interfaces
	LineNumbers bool
	Exact       bool // counters in all their digits
}

// Write writes the chain. It is the listing of iptables -n, byte for byte, with names of protocols.
func (c *ChainListing) Write(w io.Writer, o ListingOptions) error {
	var b strings.Builder
	b.WriteString("Chain " + c.Name)
	switch {
	case c.Name != rules.Input:
		fmt.Fprintf(&b, " (%d references)\n", c.References)
	case o.Verbose:
		fmt.Fprintf(&b, " (policy %s %s packets, %s bytes)\n", policyName(c.Policy),
			strings.TrimLeft(o.count(c.Packets, 0), " "), strings.TrimLeft(o.count(c.Bytes, 0), " "))
	default:
		fmt.Fprintf(&b, " (policy %s)\n", policyName(c.Policy))
	}
	writeHead(&b, o)
	for i := range c.Rules {
		writeRow(&b, i+1, &c.Rules[i], o)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func policyName(t rules.Target) string {
	if t == rules.Drop {
		return "DROP"
	}
	return "ACCEPT"
}

func writeHead(b *strings.Builder, o ListingOptions) {
	if o.LineNumbers {
		b.WriteString("num  ")
	}
	switch {
	case o.Verbose && o.Exact:
		b.WriteString("    pkts      bytes ")
	case o.Verbose:
		b.WriteString(" pkts bytes ")
	}
	b.WriteString("target     prot opt ")
	if o.Verbose {
		b.WriteString("in     out     ")
	}
	b.WriteString("source               destination         \n")
}

func writeRow(b *strings.Builder, number int, row *RuleListing, o ListingOptions) {
	r := row.Rule
	if o.LineNumbers {
		fmt.Fprintf(b, "%-4d ", number)
	}
	if o.Verbose {
		b.WriteString(o.count(row.Packets, 8) + " " + o.count(row.Bytes, 10) + " ")
	}
	fmt.Fprintf(b, "%-9s %s%-4s -- ", TargetName(r), sign(r.NotProtocol), protocolName(r.Protocol))
	if o.Verbose {
		fmt.Fprintf(b, " %-6s %-6s ", listInterface(r.Interface), "*")
	}
	fmt.Fprintf(b, "%s%-19s %s%-19s ", sign(r.Source.Not), listPrefix(r.Source), sign(r.Destination.Not), listPrefix(r.Destination))
	for _, m := range r.Matches {
		listMatch(b, m)
	}
	listTarget(b, r)
	b.WriteByte('\n')
}

func sign(not bool) string {
	if not {
		return "!"
	}
	return " "
}

func listInterface(i rules.Interface) string {
	switch {
	case i.Name == "":
		return "*"
	case i.Not:
		return "!" + i.Name
	}
	return i.Name
}

// listPrefix writes an address without the length of a whole one.
func listPrefix(p rules.Prefix) string {
	switch {
	case !p.IsValid():
		return "0.0.0.0/0"
	case p.IsSingleIP():
		return p.Addr().String()
	}
	return p.Prefix.String()
}

func listMatch(b *strings.Builder, m rules.Match) {
	switch m := m.(type) {
	case *rules.Ports:
		listPorts(b, m)
	case *rules.Multiport:
		listMultiport(b, m)
	case *rules.Conntrack:
		listConntrack(b, m)
	case *rules.Comment:
		listComment(b, m)
	case *rules.Limit:
		listLimit(b, m)
	case *rules.Hashlimit:
		listHashlimit(b, m)
	case *rules.Connlimit:
		listConnlimit(b, m)
	case *rules.Recent:
		listRecent(b, m)
	case *rules.Statistic:
		listStatistic(b, m)
	}
}

// count writes a counter in five columns, above 99999 rounded to thousands and so on; an exact one has a width.
func (o ListingOptions) count(n uint64, width int) string {
	if o.Exact || n <= 99999 {
		if !o.Exact {
			width = 5
		}
		return fmt.Sprintf("%*d", width, n)
	}
	for _, unit := range "KMGT" {
		if n = (n + 500) / 1000; n <= 9999 || unit == 'T' {
			return fmt.Sprintf("%4d%c", n, unit)
		}
	}
	panic("unreachable")
}
