package ipvsadm

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"math/bits"
	"net/netip"
)

// ticks is how many jiffies a second has in Debian's kernels. /proc/net/ip_vs shows the time of persistence in them.
const ticks = 250

// WriteProcServices writes v as /proc/net/ip_vs. A range of ports shows its first.
func WriteProcServices(w io.Writer, v *View) error {
	out := bufio.NewWriter(w)
	out.WriteString(banner)
	out.WriteString("Prot LocalAddress:Port Scheduler Flags\n")
	out.WriteString("  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n")
	for i := range v.Services {
		s := &v.Services[i]
		ops := ""
		if s.OnePacket {
			ops = "ops "
		}
		switch {
		case s.Mark != 0:
			fmt.Fprintf(out, "FWM  %08X %s %s", s.Mark, s.Scheduler, ops)
		case s.Addr.Addr().Is6():
			fmt.Fprintf(out, "%s  %s %s ", s.Protocol.name(), procAddr(s.Addr), s.Scheduler) // the kernel forgets ops here
		default:
			fmt.Fprintf(out, "%s  %s %s %s ", s.Protocol.name(), procAddr(s.Addr), s.Scheduler, ops)
		}
		if s.Persist != 0 {
			fmt.Fprintf(out, "persistent %d %08X", uint64(s.Persist)*ticks, s.procMask())
		}
		out.WriteByte('\n')
		for j := range s.Destinations {
			d := &s.Destinations[j]
			fmt.Fprintf(out, "  -> %s      %-7s %-6d %-10d %-10d\n",
				procAddr(d.Addr), d.Method.name(), d.Weight, d.Active, d.Inactive)
		}
	}
	return out.Flush()
}

// procMask is the mask of persistence. Of IPv6 it is the number of bits, whose bytes the kernel turns around.
func (v *ServiceView) procMask() uint32 {
	if v.Key().isIPv6() {
		return bits.ReverseBytes32(uint32(v.Bits))
	}
	return uint32(uint64(0xffffffff) << (32 - v.Bits))
}

// procAddr is an address and port in hexadecimal.
func procAddr(a netip.AddrPort) string {
	if a.Addr().Is6() {
		return fmt.Sprintf("[%s]:%04X", procIP(a.Addr()), a.Port())
	}
	return fmt.Sprintf("%s:%04X", procIP(a.Addr()), a.Port())
}

// procIP is an address in hexadecimal: of IPv6 in lower case, with colons and all its zeros.
func procIP(a netip.Addr) string {
	if a.Is6() {
		return a.StringExpanded()
	}
	b := a.As4()
	return fmt.Sprintf("%08X", binary.BigEndian.Uint32(b[:]))
}

// WriteProcConnections writes connections as /proc/net/ip_vs_conn.
func WriteProcConnections(w io.Writer, all iter.Seq[Connection]) error {
	out := bufio.NewWriter(w)
	out.WriteString("Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n")
	for c := range all {
		fmt.Fprintf(out, "%-3s %s %04X %s %04X %s %04X %-11s %7d", c.name(), procIP(c.Client.Addr()), c.Client.Port(),
			procIP(c.Virtual.Addr()), c.Virtual.Port(), procIP(c.Destination.Addr()), c.Destination.Port(), c.State, c.Expires)
		if c.Engine != "" {
			fmt.Fprintf(out, " %s %s", c.Engine, c.EngineData)
		}
		out.WriteByte('\n')
	}
	return out.Flush()
}

// WriteProcStats writes the sums of v's services as /proc/net/ip_vs_stats.
func WriteProcStats(w io.Writer, v *View) error {
	var s Stats
	var r Rates
	for i := range v.Services {
		s.add(&v.Services[i].Stats)
		r.add(&v.Services[i].Rates)
	}
	const line = "%8X %8X %8X %16X %16X\n"
	_, err := fmt.Fprintf(w, "   Total Incoming Outgoing         Incoming         Outgoing\n"+
		"   Conns  Packets  Packets            Bytes            Bytes\n"+line+"\n"+
		" Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n"+line,
		s.Conns, s.InPkts, s.OutPkts, s.InBytes, s.OutBytes, r.CPS, r.InPPS, r.OutPPS, r.InBPS, r.OutBPS)
	return err
}

func (s *Stats) add(o *Stats) {
	s.Conns += o.Conns
	s.InPkts += o.InPkts
	s.OutPkts += o.OutPkts
	s.InBytes += o.InBytes
	s.OutBytes += o.OutBytes
}

func (r *Rates) add(o *Rates) {
	r.CPS += o.CPS
	r.InPPS += o.InPPS
	r.OutPPS += o.OutPPS
	r.InBPS += o.InBPS
	r.OutBPS += o.OutBPS
}
