package nat

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"usher/internal/config"
	"usher/internal/iptables"
	"usher/proxy/rules"
)

// packet is the first one of a flow.
type packet struct {
	protocol rules.Protocol
	from, to netip.Addr
	port     uint16
	in       string // empty: it leaves by OUTPUT
	isLocal  bool
}

// verdict is what becomes of a packet: the shares of backends, and of no translation.
type verdict struct {
	backends map[string]float64
	accepted float64
}

// walkNaively walks a chain as a packet does, one rule after the other, and returns the share that comes back.
func (v *verdict) walkNaively(table *iptables.Table, name string, p packet, share float64) (back float64) {
	for _, r := range table.Chain(name).Rules {
		chance, ok := matchNaively(r, p)
		if !ok || share < leastShare {
			continue
		}
		taken := share * chance
		share -= taken
		switch {
		case r.IsGoto:
			back += v.walkNaively(table, r.Target, p, taken)
		case r.IsJump:
			share += v.walkNaively(table, r.Target, p, taken)
		case r.Target == "RETURN":
			back += taken
		case r.Target == "ACCEPT":
			v.accepted += taken
		case r.Target == "DNAT":
			n := r.Options.(*iptables.NAT)
			port := p.port
			if n.HasPorts {
				port = n.FirstPort
			}
			v.backends[netip.AddrPortFrom(n.First, port).String()] += taken
		default:
			share += taken
		}
	}
	return back + share
}

// matchNaively reports whether a packet meets a rule, and with which chance.
func matchNaively(r *iptables.Rule, p packet) (chance float64, ok bool) {
	isIn := func(c rules.Prefix, ip netip.Addr) bool { return !c.IsValid() || c.Contains(ip) != c.Not }
	if !isIn(r.Source, p.from) || !isIn(r.Destination, p.to) || r.Protocol != rules.All && (r.Protocol == p.protocol) == r.NotProtocol {
		return 0, false
	}
	if r.In.Name != "" && (r.In.Name == p.in) == r.In.Not {
		return 0, false
	}
	chance = 1
	for _, m := range r.Matches {
		switch m := m.(type) {
		case *rules.Ports:
			d := m.Destination
			if m.Protocol != p.protocol || d != nil && (d.First <= p.port && p.port <= d.Last) == m.NotDestination {
				return 0, false
			}
		case *rules.Multiport:
			if slices.ContainsFunc(m.Ranges, func(d rules.PortRange) bool { return d.First <= p.port && p.port <= d.Last }) == m.Not {
				return 0, false
			}
		case *iptables.Addrtype:
			if m.Source != nil && p.isLocal == m.NotSource || m.Destination != nil && m.NotDestination {
				return 0, false
			}
		case *rules.Statistic:
			if chance *= m.Probability; m.Every > 0 {
				chance = 1 / float64(m.Every)
			}
		}
	}
	return chance, true
}

// judge returns what the tables say about a packet: a client of this machine walks OUTPUT first.
func judge(table *iptables.Table, p packet) verdict {
	v := verdict{backends: make(map[string]float64)}
	if p.isLocal {
		out := p
		out.in = ""
		v.walkNaively(table, "OUTPUT", out, 1)
		if len(v.backends) > 0 || v.accepted > leastShare {
			return v
		}
		v = verdict{backends: make(map[string]float64)}
	}
	v.walkNaively(table, "PREROUTING", p, 1)
	return v
}

// served returns what the services of a result do with a packet: the shares of their backends.
func served(t testing.TB, r *Result, p packet) map[string]float64 {
	t.Helper()
	for _, g := range r.Guards {
		tables := restore(t, "*filter\n"+g.Line+"\nCOMMIT\n")
		if _, refuses := matchNaively(tables.Table("filter").Chain("INPUT").Rules[0], p); refuses {
			return nil
		}
	}
	var best *config.Service
	longest := -1
	for _, s := range r.Services {
		for _, l := range s.Listeners {
			isThere := (l.Network == "udp") == (p.protocol == rules.UDP) && (l.IP == p.to || l.IP.IsUnspecified()) &&
				l.Port <= p.port && int(p.port) < int(l.Port)+l.Ports
			if bits := bitsOf(l.From, p.from); isThere && bits > longest {
				best, longest = s, bits
			}
		}
	}
	if best == nil || len(best.Backends) == 0 {
		return nil
	}
	sum := 0
	for _, b := range best.Backends {
		sum += b.Weight
	}
	shares := make(map[string]float64)
	for _, b := range best.Backends {
		port := p.port
		if b.Addr.Ports > 0 {
			port = b.Addr.Port
		}
		shares[netip.AddrPortFrom(b.Addr.IP, port).String()] = float64(b.Weight) / float64(sum)
	}
	return shares
}

// bitsOf returns the length of the longest prefix with a client, 0 if all are taken, or -1.
func bitsOf(from string, client netip.Addr) int {
	if from == "" {
		return 0
	}
	longest := -1
	for word := range strings.SplitSeq(from, "+") {
		if p := netip.MustParsePrefix(word); p.Contains(client) {
			longest = max(longest, p.Bits())
		}
	}
	return longest
}

var (
	oracleTargets = []string{"192.168.2.1", "127.0.0.1", "198.51.100.9"}
	oracleClients = []string{"10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "192.0.2.0/24", "127.0.0.0/8"}
	oraclePorts   = []string{"80", "81", "80:90", "85:99", "443"}
)

// randomTables writes tables of a few chains that jump to later ones.
func randomTables(rnd *rand.Rand) string {
	var b strings.Builder
	chains := []string{"PREROUTING", "OUTPUT", "A", "B", "C", "D"}
	b.WriteString("*nat\n:A - [0:0]\n:B - [0:0]\n:C - [0:0]\n:D - [0:0]\n")
	narrow := rnd.IntN(2) == 0 // no listener on all addresses
	for i, chain := range chains {
		for range rnd.IntN(6) {
			fmt.Fprintf(&b, "-A %s%s%s\n", chain, randomConditions(rnd, chain, narrow && i < 2), randomTarget(rnd, chains[max(i+1, 2):]))
		}
	}
	return b.String() + "COMMIT\n"
}

func randomConditions(rnd *rand.Rand, chain string, isNarrow bool) string {
	var b strings.Builder
	pick := func(words []string) string { return words[rnd.IntN(len(words))] }
	not := func() string { return []string{"", "", "", " !"}[rnd.IntN(4)] }
	if rnd.IntN(3) == 0 {
		b.WriteString(not() + " -s " + pick(oracleClients))
	}
	if isNarrow {
		b.WriteString(" -d " + pick(oracleTargets))
	} else if rnd.IntN(4) == 0 {
		b.WriteString(not() + " -d " + pick([]string{"127.0.0.0/8", "192.168.2.1"}))
	}
	if rnd.IntN(10) == 0 && chain != "OUTPUT" {
		b.WriteString(not() + " -i " + pick([]string{"eth0", "docker0"}))
	}
	protocol := pick([]string{"tcp", "tcp", "udp"})
	b.WriteString(" -p " + protocol)
	switch rnd.IntN(3) {
	case 0:
		b.WriteString(" -m " + protocol + " --dport " + pick(oraclePorts))
	case 1:
		b.WriteString(" -m multiport --dports " + pick(oraclePorts) + ",8443")
	}
	switch rnd.IntN(8) {
	case 0:
		b.WriteString(" -m addrtype --dst-type LOCAL")
	case 1:
		b.WriteString(" -m addrtype" + not() + " --src-type LOCAL")
	case 2:
		fmt.Fprintf(&b, " -m statistic --mode random --probability 0.%d", 1+rnd.IntN(9))
	case 3:
		fmt.Fprintf(&b, " -m statistic --mode nth --every %d --packet 0", 2+rnd.IntN(3))
	}
	return b.String()
}

func randomTarget(rnd *rand.Rand, later []string) string {
	switch n := rnd.IntN(12); {
	case n < 5 && len(later) > 0:
		return []string{" -j ", " -j ", " -g "}[rnd.IntN(3)] + later[rnd.IntN(len(later))]
	case n == 5:
		return " -j RETURN"
	case n == 6:
		return " -j ACCEPT"
	case n == 7:
		return fmt.Sprintf(" -j DNAT --to-destination 10.244.0.%d", 1+rnd.IntN(5))
	}
	return fmt.Sprintf(" -j DNAT --to-destination 10.244.0.%d:%d", 1+rnd.IntN(5), 8000+rnd.IntN(2))
}

// TestServicesDoWhatAWalkDoes compares services with a naive walk of packets through random tables.
func TestServicesDoWhatAWalkDoes(t *testing.T) {
	t.Parallel()
	const tables = 2000
	whole, translated, refused := 0, 0, 0
	for seed := range uint64(tables) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		text := randomTables(rnd)
		in := restore(t, text)
		result := Plan(in, &Env{Local: []netip.Addr{netip.MustParseAddr("192.168.2.1")}})
		checkSound(t, result)
		if len(result.Rest) > 0 {
			continue // what is not done is listed; the golden files have examples
		}
		whole++
		for _, p := range packets() {
			want, got := judge(in.Table("nat"), p), served(t, result, p)
			if len(want.backends) == 0 {
				refused++
				if got != nil {
					t.Fatalf("seed %d, %+v: %v, want none\n%s\n%s", seed, p, got, text, write(result))
				}
				continue
			}
			translated++
			if !isClose(want.backends, got) {
				t.Fatalf("seed %d, %+v: %v, want %v\n%s\n%s", seed, p, got, want.backends, text, write(result))
			}
		}
	}
	if whole < tables/8 || translated < tables || refused < tables {
		t.Errorf("%d tables are done as a whole, %d packets translated, %d refused", whole, translated, refused)
	}
}

func isClose(a, b map[string]float64) bool {
	return maps.EqualFunc(a, b, func(x, y float64) bool { return math.Abs(x-y) < 1e-3 })
}

// packets are of each kind that the random tables tell apart, and of some that they do not.
func packets() (all []packet) {
	type client struct {
		ip, in  string
		isLocal bool
	}
	clients := []client{{"192.168.2.1", "lo", true}, {"127.0.0.1", "lo", true}}
	for _, in := range []string{"eth0", "docker0", "eth7"} {
		for _, ip := range []string{"10.0.0.1", "10.1.0.1", "10.1.2.3", "192.0.2.1", "203.0.113.7"} {
			clients = append(clients, client{ip, in, false})
		}
	}
	for _, c := range clients {
		for _, to := range append([]string{"203.0.113.99"}, oracleTargets...) {
			if to == "127.0.0.1" && !c.isLocal {
				continue
			}
			for _, port := range []uint16{80, 81, 83, 87, 95, 443, 8443, 22} {
				for _, protocol := range []rules.Protocol{rules.TCP, rules.UDP} {
					all = append(all, packet{protocol, netip.MustParseAddr(c.ip), netip.MustParseAddr(to), port, c.in, c.isLocal})
				}
			}
		}
	}
	return all
}
