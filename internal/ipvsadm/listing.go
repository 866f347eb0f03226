package ipvsadm

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
)

// banner is the first line of a listing, and of /proc/net/ip_vs: the version of IPVS whose formats these are.
const banner = "IP Virtual Server version 1.2.1 (size=4096)\n"

// Print writes what the command List prints of v: all services, the one that the command names, timeouts or daemons. A
// service that is not there is an [*Error].
func (c *Command) Print(w io.Writer, v *View, n Names) error {
	if c.Format.Numeric {
		n = Names{}
	}
	p := &printer{w: bufio.NewWriter(w), Format: c.Format, names: n}
	switch {
	case c.HasService:
		at := slices.IndexFunc(v.Services, func(s ServiceView) bool { return s.Key() == c.Service.Key })
		if at < 0 {
			return c.Op.Answer(ESRCH)
		}
		p.title()
		p.service(&v.Services[at])
	case c.Format.Timeouts:
		fmt.Fprintf(p.w, "Timeout (tcp tcpfin udp): %d %d %d\n", v.Timeouts.TCP, v.Timeouts.TCPFin, v.Timeouts.UDP)
	case c.Format.Daemons: // there are none
	default:
		p.w.WriteString(banner)
		p.title()
		for _, i := range p.order(len(v.Services), func(i int) sortKey { return v.Services[i].Key().sortKey() }) {
			p.service(&v.Services[i])
		}
	}
	if c.Format.Verbose {
		p.w.WriteString("Masq is full NAT here: usher connects to the server from an address of its own.\n")
	}
	return p.w.Flush()
}

// Key is what names the service.
func (v *ServiceView) Key() Key {
	return Key{Protocol: v.Protocol, Addr: v.Addr, Last: v.Last, Mark: v.Mark, IPv6: v.IPv6}
}

// printer writes a listing.
type printer struct {
	Format
	w     *bufio.Writer
	names Names
	line  []byte // room for the next line
}

// order returns the indices of n things, in order unless that is switched off.
func (p *printer) order(n int, key func(int) sortKey) []int {
	keys := make([]sortKey, n)
	if !p.NoSort {
		for i := range keys {
			keys[i] = key(i)
		}
	}
	return sorted(keys) // equal keys stay where they are
}

func (p *printer) title() {
	const figures = "%-33s %8s %8s %8s %8s %8s\n"
	const local = "Prot LocalAddress:Port"
	switch {
	case p.Stats:
		fmt.Fprintf(p.w, figures, local, "Conns", "InPkts", "OutPkts", "InBytes", "OutBytes")
	case p.Rate:
		fmt.Fprintf(p.w, figures, local, "CPS", "InPPS", "OutPPS", "InBPS", "OutBPS")
	case p.Thresholds:
		fmt.Fprintf(p.w, "%-33s %-10s %-10s %-10s %-10s\n", local, "Uthreshold", "Lthreshold", "ActiveConn", "InActConn")
	case p.PersistentConn:
		fmt.Fprintf(p.w, "%-33s %-9s %-11s %-10s %-10s\n", local, "Weight", "PersistConn", "ActiveConn", "InActConn")
	default:
		p.w.WriteString(local + " Scheduler Flags\n  -> RemoteAddress:Port           Forward ")
		if p.TunInfo {
			p.w.WriteString("TunnelInfo    ")
		}
		p.w.WriteString("Weight ActiveConn InActConn\n")
		return
	}
	p.w.WriteString("  -> RemoteAddress:Port\n")
}

func (p *printer) service(v *ServiceView) {
	p.line = p.appendKey(p.line[:0], v.Key())
	switch {
	case p.Stats:
		p.line = p.appendStats(pad(p.line, 33), &v.Stats)
	case p.Rate:
		r := &v.Rates
		p.line = p.appendFigures(pad(p.line, 33), r.CPS, r.InPPS, r.OutPPS, r.InBPS, r.OutBPS)
	default:
		p.line = v.appendOptions(append(p.line, ' '))
	}
	p.w.Write(append(p.line, '\n'))
	for _, i := range p.order(len(v.Destinations), func(i int) sortKey { return addrSortKey(v.Destinations[i].Addr) }) {
		p.destination(&v.Destinations[i], v.Protocol)
	}
}

func (p *printer) appendKey(b []byte, k Key) []byte {
	switch {
	case k.Mark != 0 && k.IPv6:
		return fmt.Appendf(b, "FWM  %d IPv6", int32(k.Mark))
	case k.Mark != 0:
		return fmt.Appendf(b, "FWM  %d", int32(k.Mark)) // as ipvsadm does, below 0 from 1<<31 on
	}
	b = p.names.appendService(fmt.Appendf(b, "%-4s ", k.Protocol.name()), k)
	if !k.isIPv6() {
		b = b[:min(len(b), 33)]
	}
	return b
}

func (p Protocol) name() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	}
	return "?"
}

// appendOptions appends what a listing without figures shows of a service.
func (v *ServiceView) appendOptions(b []byte) []byte {
	b = append(b, v.Scheduler...)
	if len(v.Flags) > 0 {
		shown := v.Flags
		if v.Scheduler == "sh" || v.Scheduler == "mh" {
			shown = slices.DeleteFunc(slices.Clone(shown), func(flag string) bool { return flag == flagNames("sh")[2] })
		}
		b = fmt.Appendf(b, " (%s)", strings.Join(shown, ","))
	}
	if v.Persist != 0 {
		b = fmt.Appendf(b, " persistent %d", v.Persist)
		if mask := v.Key().mask(v.Bits); mask != "" {
			b = append(append(b, " mask "...), mask...)
		}
		if v.Engine != "" {
			b = append(append(b, " pe "...), v.Engine...)
		}
	}
	if v.OnePacket {
		b = append(b, " ops"...)
	}
	return b
}

func (p *printer) destination(d *DestinationView, of Protocol) {
	b := p.names.appendAddr(append(p.line[:0], "  -> "...), d.Addr, of)
	if !d.Addr.Addr().Is6() {
		b = b[:min(len(b), 5+28)]
	}
	b = pad(b, 5+28)
	switch r := &d.Rates; {
	case p.Stats:
		b = p.appendStats(b, &d.Stats)
	case p.Rate:
		b = fmt.Appendf(b, " %8d %8d %8d", r.CPS, r.InPPS, r.OutPPS)
		b = p.appendFigures(b, r.InBPS, r.OutBPS)
	case p.Thresholds:
		b = fmt.Appendf(b, " %-10d %-10d %-10d %-10d", d.Upper, d.Lower, d.Active, d.Inactive)
	case p.PersistentConn:
		b = fmt.Appendf(b, " %-9d %-11d %-10d %-10d", d.Weight, d.Persistent, d.Active, d.Inactive)
	case p.TunInfo:
		b = fmt.Appendf(b, " %-7s %-13s %-6d %-10d %-10d", d.Method.name(), d.tunnel(), d.Weight, d.Active, d.Inactive)
	default:
		b = fmt.Appendf(b, " %-7s %-6d %-10d %-10d", d.Method.name(), d.Weight, d.Active, d.Inactive)
	}
	p.line = append(b, '\n')
	p.w.Write(p.line)
}

func (m Method) name() string {
	return [...]string{Masq: "Masq", Local: "Local", Tunnel: "Tunnel", Route: "Route"}[m]
}

// tunnel is the column TunnelInfo.
func (d *DestinationView) tunnel() string {
	flags := [...]string{0: "-c", tunnelCsum: "+c", tunnelRemCsum: "r+c"}[min(d.TunnelFlags, tunnelRemCsum)]
	switch {
	case d.Method != Tunnel:
		return "n/a"
	case d.TunnelType == GUE:
		return fmt.Sprintf("gue:%d:%s", d.TunnelPort, flags)
	case d.TunnelType == GRE:
		return "gre:" + flags
	}
	return "ipip"
}

func (p *printer) appendStats(b []byte, s *Stats) []byte {
	return p.appendFigures(b, s.Conns, s.InPkts, s.OutPkts, s.InBytes, s.OutBytes)
}

// appendFigures appends columns of 8 after a blank. A number that does not fit loses digits for a letter, or with --exact
// pushes the others to the right.
func (p *printer) appendFigures(b []byte, figures ...uint64) []byte {
	for _, n := range figures {
		switch {
		case p.Exact || n < 1e8:
			b = fmt.Appendf(b, " %8d", n)
		case n < 1e9:
			b = fmt.Appendf(b, "%8dK", n/1e3)
		case n < 1e11:
			b = fmt.Appendf(b, "%8dM", n/1e6)
		case n < 1e14:
			b = fmt.Appendf(b, "%8dG", n/1e9)
		default:
			b = fmt.Appendf(b, "%8dT", n/1e12)
		}
	}
	return b
}

// pad fills b with blanks up to a length.
func pad(b []byte, length int) []byte {
	for len(b) < length {
		b = append(b, ' ')
	}
	return b
}
