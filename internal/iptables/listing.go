package iptables

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"usher/proxy/rules"
)

// ListingOptions choose the columns of a listing.
type ListingOptions struct {
	Verbose       bool // counters and interfaces
	LineNumbers   bool
	Exact         bool  // counters in all their digits
	Numeric       bool  // no names of hosts, services and protocols
	ProtocolNames bool  // names of protocols even so, as other versions of iptables have them
	Names         Names // of a listing that is not numeric
	Counters      Counters
}

// Names are where a listing finds names. A function that is nil knows none.
type Names struct {
	Host    func(netip.Addr) string
	Service func(port uint16, protocol string) string
}

// Counters are what has been counted since, beyond what the chains and rules themselves have. A function that is nil
// counts nothing.
type Counters struct {
	Policy func(*Chain) (packets, bytes uint64)
	Rule   func(*Rule) (packets, bytes uint64)
}

func (c *Counters) ofPolicy(chain *Chain) (packets, bytes uint64) {
	if c.Policy != nil {
		packets, bytes = c.Policy(chain)
	}
	return packets + chain.Packets, bytes + chain.Bytes
}

func (c *Counters) ofRule(r *Rule) (packets, bytes uint64) {
	if c.Rule != nil {
		packets, bytes = c.Rule(r)
	}
	return packets + r.Packets, bytes + r.Bytes
}

// Write writes the chain as iptables -L does.
func (c *Chain) Write(w io.Writer, o ListingOptions) error {
	var b strings.Builder
	c.write(&b, &o)
	_, err := io.WriteString(w, b.String())
	return err
}

func (c *Chain) write(b *strings.Builder, o *ListingOptions) {
	packets, bytes := o.Counters.ofPolicy(c)
	b.WriteString("Chain " + c.Name)
	switch {
	case !c.IsBuiltin:
		fmt.Fprintf(b, " (%d references)\n", c.References)
	case o.Verbose:
		fmt.Fprintf(b, " (policy %s %s packets, %s bytes)\n", c.Policy,
			strings.TrimLeft(o.count(packets, 0), " "), strings.TrimLeft(o.count(bytes, 0), " "))
	default:
		fmt.Fprintf(b, " (policy %s)\n", c.Policy)
	}
	writeHead(b, o)
	for i, r := range c.Rules {
		writeRow(b, i+1, r, o)
	}
}

func writeHead(b *strings.Builder, o *ListingOptions) {
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

func writeRow(b *strings.Builder, number int, r *Rule, o *ListingOptions) {
	if o.LineNumbers {
		fmt.Fprintf(b, "%-4d ", number)
	}
	if o.Verbose {
		packets, bytes := o.Counters.ofRule(r)
		b.WriteString(o.count(packets, 8) + " " + o.count(bytes, 8) + " ")
	}
	fmt.Fprintf(b, "%-9s %s%-4s %s ", r.Target, sign(r.NotProtocol), o.protocol(r), r.fragment())
	if o.Verbose {
		fmt.Fprintf(b, " %-6s %-6s ", o.device(r.In), o.device(r.Out))
	}
	fmt.Fprintf(b, "%s%-19s %s%-19s ", sign(r.Source.Not), o.address(r.Source), sign(r.Destination.Not), o.address(r.Destination))
	writeDetails(b, r, o)
}

// writeDetails writes the matches and the options of the target, and ends the line.
func writeDetails(b *strings.Builder, r *Rule, o *ListingOptions) {
	if r.IsGoto {
		b.WriteString("[goto] ")
	}
	for _, m := range r.Matches {
		listMatch(b, m, r, o)
	}
	listTarget(b, r, o)
	b.WriteByte('\n')
}

// writeChanged writes a rule as iptables -v does when it is added or removed.
func writeChanged(b *strings.Builder, r *Rule) {
	o := &ListingOptions{Numeric: true}
	fmt.Fprintf(b, "%s %s%s opt %s in %s out %s %s%s %s-> %s  ", r.Target, sign(r.NotProtocol), knownProtocol(r.Protocol), r.fragment(),
		o.device(r.In), o.device(r.Out), sign(r.Source.Not), o.address(r.Source), sign(r.Destination.Not), o.address(r.Destination))
	writeDetails(b, r, o)
}

func (r *Rule) fragment() string { return [...]string{"--", "-f", "!f"}[r.Fragment] }

func (o *ListingOptions) protocol(r *Rule) string {
	if o.Numeric && !o.ProtocolNames {
		return strconv.Itoa(int(r.Protocol))
	}
	return protocolName(r.Protocol)
}

func sign(not bool) string {
	if not {
		return "!"
	}
	return " "
}

// device writes the name of an interface.
func (o *ListingOptions) device(i rules.Interface) string {
	name := i.Name
	if name == "" {
		if name = "any"; o.Numeric {
			name = "*"
		}
	}
	if i.Not {
		return "!" + name
	}
	return name
}

// address writes an address without the length of a whole one.
func (o *ListingOptions) address(p rules.Prefix) string {
	switch {
	case !o.Numeric && (!p.IsValid() || p.Bits() == 0 && !p.Not):
		return "anywhere"
	case !p.IsValid():
		return "0.0.0.0/0"
	case !p.IsSingleIP():
		return p.Prefix.String()
	case !o.Numeric && o.Names.Host != nil:
		if name := o.Names.Host(p.Addr()); name != "" {
			return name
		}
	}
	return p.Addr().String()
}

// port writes a port, or the name of its service.
func (o *ListingOptions) port(port uint16, protocol string) string {
	if !o.Numeric && o.Names.Service != nil {
		if name := o.Names.Service(port, protocol); name != "" {
			return name
		}
	}
	return strconv.Itoa(int(port))
}

// ports writes a range of ports.
func (o *ListingOptions) ports(r rules.PortRange, protocol string) string {
	if r.First == r.Last {
		return o.port(r.First, protocol)
	}
	return o.port(r.First, protocol) + ":" + o.port(r.Last, protocol)
}

func listMatch(b *strings.Builder, m Match, r *Rule, o *ListingOptions) {
	switch m := m.(type) {
	case *rules.Ports:
		listPorts(b, m, o)
	case *rules.Multiport:
		listMultiport(b, m, protocolName(r.Protocol), o)
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
	case *State:
		listState(b, m)
	case *Addrtype:
		listAddrtype(b, m)
	case *MarkMatch:
		listMarkMatch(b, m)
	case *ICMP:
		listICMP(b, m, o)
	case *Other:
		b.WriteString(" " + m.Name + m.Text)
	}
}

// count writes a counter in five columns, above 99999 rounded to thousands and so on; an exact one has a width.
func (o *ListingOptions) count(n uint64, width int) string {
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
