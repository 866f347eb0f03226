package ipvsadm_test

import (
	"errors"
	"hash/fnv"
	"math"
	"net/netip"
	"slices"
	"strings"

	"usher/internal/ipvsadm"
)

// machine runs command lines as usher does, without a server between.
type machine struct {
	state       *ipvsadm.State
	connections []ipvsadm.Connection
}

// The names of testdata/kernel.c.
var hosts = []struct{ name, addr string }{
	{"www.example", "192.0.2.1"},
	{"db.example", "10.0.0.5"},
	{"one.one", "1.1.1.1"},
	{"a.name.so.long.that.it.would.not.fit.into.a.column.example", "10.0.0.6"},
	{"six.example", "2001:db8::6"},
}

var ports = []struct {
	name      string
	port      uint16
	protocols []ipvsadm.Protocol
}{
	{"http", 80, []ipvsadm.Protocol{ipvsadm.TCP}},
	{"https", 443, []ipvsadm.Protocol{ipvsadm.TCP, ipvsadm.UDP}},
	{"domain", 53, []ipvsadm.Protocol{ipvsadm.TCP, ipvsadm.UDP}},
	{"ntp", 123, []ipvsadm.Protocol{ipvsadm.UDP}},
	{"ftp", 21, []ipvsadm.Protocol{ipvsadm.TCP}},
}

func parser() ipvsadm.Parser {
	return ipvsadm.Parser{
		Host: func(name string) (netip.Addr, bool) {
			for _, h := range hosts {
				if addr := netip.MustParseAddr(h.addr); h.name == name && addr.Is4() {
					return addr, true
				}
			}
			return netip.Addr{}, false
		},
		Port: func(name string, p ipvsadm.Protocol) (uint16, bool) {
			for _, s := range ports {
				if s.name == name && slices.Contains(s.protocols, p) {
					return s.port, true
				}
			}
			return 0, false
		},
	}
}

func names() ipvsadm.Names {
	return ipvsadm.Names{
		Host: func(addr netip.Addr) string {
			for _, h := range hosts {
				if h.addr == addr.String() {
					return h.name
				}
			}
			return ""
		},
		Port: func(port uint16, p ipvsadm.Protocol) string {
			for _, s := range ports {
				if s.port == port && slices.Contains(s.protocols, p) {
					return s.name
				}
			}
			return ""
		},
	}
}

// run runs a command line as the command of usher does.
func (m *machine) run(stdin string, args ...string) result {
	c, err := parser().Parse(args)
	if err != nil {
		return refusal(err)
	}
	if c.Op == ipvsadm.Restore {
		return m.restore(stdin)
	}
	r, _ := m.do(c)
	return r
}

func (m *machine) do(c *ipvsadm.Command) (result, error) {
	n := names()
	if c.Format.Numeric {
		n = ipvsadm.Names{}
	}
	var out strings.Builder
	var err error
	switch {
	case c.Op == ipvsadm.List && c.Format.Connections:
		err = c.Format.PrintConnections(&out, slices.Values(m.connections), n)
	case c.Op == ipvsadm.Help || c.Op == ipvsadm.Version: // in words of usher's own
	case c.Op == ipvsadm.List:
		view := viewOf(m.state)
		err = c.Print(&out, &view, n)
	case c.Op == ipvsadm.Save:
		err = m.state.Save(&out, n)
	case c.Op == ipvsadm.StartDaemon || c.Op == ipvsadm.StopDaemon:
		err = c.Op.Answer(ipvsadm.EINVAL) // as the kernel of these tests
	default:
		err = c.Do(m.state)
	}
	r := refusal(err)
	r.stdout = out.String()
	return r, err
}

// restore goes on after a line that is refused, and ends at one that ends ipvsadm. The status is that of the last line.
func (m *machine) restore(stdin string) result {
	var all result
	reader := parser()
	reader.IsRestoring = true
	for words, err := range ipvsadm.ReadLines(strings.NewReader(stdin)) {
		var c *ipvsadm.Command
		if err == nil {
			c, err = reader.Parse(words)
		}
		r, isOver := refusal(err), false
		if err == nil {
			r, err = m.do(c)
			isOver = c.Op == ipvsadm.Help || c.Op == ipvsadm.Version
		}
		all = result{r.code, all.stdout + r.stdout, all.stderr + r.stderr}
		if refused := (*ipvsadm.Error)(nil); isOver || errors.As(err, &refused) && refused.EndsRestore {
			break
		}
	}
	return all
}

func refusal(err error) result {
	var refused *ipvsadm.Error
	switch {
	case err == nil:
		return result{}
	case errors.As(err, &refused):
		return result{refused.Status, "", refused.Text + "\n"}
	}
	return result{-1, "", err.Error()}
}

// viewOf makes a view with counters that only depend on the address, of one digit to nineteen.
func viewOf(s *ipvsadm.State) ipvsadm.View {
	v := ipvsadm.View{Timeouts: s.Timeouts}
	for _, from := range s.Services() {
		to := ipvsadm.ServiceView{
			Protocol: from.Protocol, Addr: from.Addr, Mark: from.Mark, IPv6: from.IPv6, Scheduler: from.Scheduler, Flags: from.Flags,
			OnePacket: from.OnePacket, Persist: from.Persist, Bits: from.Bits, Engine: from.Engine,
		}
		count := counter(from.Addr.String())
		to.Stats, to.Rates = count.stats()
		for _, d := range from.Destinations {
			count := counter(d.Addr.String())
			stats, rates := count.stats()
			for _, n := range []*uint64{&stats.Conns, &stats.InPkts, &stats.OutPkts, &rates.CPS, &rates.InPPS, &rates.OutPPS, &rates.InBPS, &rates.OutBPS} {
				*n &= math.MaxUint32 // of which ipvsadm 1.31 prints no more here
			}
			to.Destinations = append(to.Destinations, ipvsadm.DestinationView{
				Addr: d.Addr, Method: d.Method, TunnelType: d.TunnelType, TunnelPort: d.TunnelPort, TunnelFlags: d.TunnelFlags, Weight: d.Weight,
				Upper: d.Upper, Lower: d.Lower, Active: uint32(count()), Inactive: uint32(count()), Persistent: uint32(count()), Stats: stats, Rates: rates,
			})
		}
		v.Services = append(v.Services, to)
	}
	return v
}

// counter returns a source of numbers.
func counter(seed string) count {
	h := fnv.New64a()
	h.Write([]byte(seed))
	return func() uint64 {
		h.Write([]byte{0})
		n := h.Sum64()
		return n >> (n % 64)
	}
}

type count func() uint64

func (next count) stats() (ipvsadm.Stats, ipvsadm.Rates) {
	return ipvsadm.Stats{Conns: next(), InPkts: next(), OutPkts: next(), InBytes: next(), OutBytes: next()},
		ipvsadm.Rates{CPS: next(), InPPS: next(), OutPPS: next(), InBPS: next(), OutBPS: next()}
}
