package nat

import (
	"cmp"
	"fmt"
	"net/netip"
	"sort"
	"strings"
)

// socket is where usher may listen: an address of a protocol; all addresses of a family are a prefix of no bits.
type socket struct {
	protocol protocols // tcp or udp
	to       netip.Prefix
}

func (s socket) isAll() bool { return s.to.Bits() == 0 }

// key is a socket with ports that the tables translate.
type key struct {
	socket
	ports ports
	order int // of the first rule that leads there
}

// maxPorts bounds the ports of one rule: usher opens a socket for each.
const maxPorts = 1 << 14

// region is what the conditions on the way to a rule leave of addresses and ports.
type region struct {
	protocols     protocols
	to            netip.Prefix // zero: any
	ports         portSet
	isLocalTarget bool
	isOutput      bool
}

// visit is a region at a chain.
type visit struct {
	chain                   *chain
	protocols               protocols
	to                      netip.Prefix
	ports                   string
	isLocalTarget, isOutput bool
}

// discovery finds keys. What conditions on clients and interfaces say, a study finds.
type discovery struct {
	*planner
	purpose purpose
	seen    map[visit]bool
	keys    map[socket][]key
	found   int
}

// discover returns the keys of the built-in chains that new flows enter, in the order of the tables.
func (p *planner) discover(g *graph, purpose purpose) []key {
	d := &discovery{planner: p, purpose: purpose, seen: make(map[visit]bool), keys: make(map[socket][]key)}
	for _, name := range []string{"PREROUTING", "OUTPUT"} {
		if c := g.chains[name]; c != nil {
			d.chain(c, region{protocols: both, isOutput: name == "OUTPUT"}, 0)
		}
	}
	var all []key
	for _, keys := range d.keys {
		all = append(all, joined(keys)...)
	}
	sort.Slice(all, func(i, j int) bool {
		a, b := &all[i], &all[j]
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.protocol, b.protocol), a.to.Addr().Compare(b.to.Addr()), cmp.Compare(a.ports.low, b.ports.low)) < 0
	})
	return all
}

// joined makes one key of those of a socket that overlap.
func joined(keys []key) (all []key) {
	sort.Slice(keys, func(i, j int) bool { return keys[i].ports.low < keys[j].ports.low })
	for _, k := range keys {
		if n := len(all); n > 0 && k.ports.low <= all[n-1].ports.high {
			all[n-1].ports.high = max(all[n-1].ports.high, k.ports.high)
			all[n-1].order = min(all[n-1].order, k.order)
			continue
		}
		all = append(all, k)
	}
	return all
}

// chain follows the rules of a chain from a region. One that was there already leads to nothing new.
func (d *discovery) chain(c *chain, from region, depth int) {
	v := visit{c, from.protocols, from.to, fmt.Sprint(from.ports), from.isLocalTarget, from.isOutput}
	if d.seen[v] || !c.decides[d.purpose] {
		return
	}
	d.seen[v] = true
	for _, r := range c.of(d.purpose).rules {
		if !d.hasWork() {
			d.rest(r, tooMuch, false)
			return
		}
		to, isPossible := from.and(r)
		if !isPossible {
			continue
		}
		switch {
		case r.target != nil && depth == maxDepth:
			d.rest(r, tooDeep, false)
		case r.target != nil:
			d.chain(r.target, to, depth+1)
		case r.other != "":
			d.rest(r, r.other, false)
		case d.purpose == forTarget && (r.kind == translate || r.kind == redirect), d.purpose == forMark && r.kind == setMark:
			d.target(r, to)
		}
	}
}

const (
	tooDeep = "chains jump into each other more than 64 deep here: jump to this one from a chain nearer to PREROUTING"
	tooMuch = "the ways through the tables are too many to follow: name an address and a port in each rule that leads here"
)

// and returns what a rule leaves of a region.
func (from region) and(r *rule) (region, bool) {
	from.protocols &= r.protocols
	from.isLocalTarget = from.isLocalTarget || r.isLocalTarget
	if r.ports != nil {
		from.ports = from.ports.and(r.ports)
	}
	if d := r.destination; d.IsValid() && !d.Not {
		switch {
		case !from.to.IsValid() || d.Overlaps(from.to) && d.Bits() > from.to.Bits():
			from.to = d.Prefix.Masked()
		case !d.Overlaps(from.to):
			return from, false
		}
	}
	return from, from.protocols != 0 && (from.ports == nil || len(from.ports) > 0)
}

// target adds the keys of a region at a rule that translates or marks.
func (d *discovery) target(r *rule, at region) {
	ports, reason := at.listenable()
	if reason != "" {
		d.rest(r, reason, false)
		return
	}
	if at.isOutput && !at.to.IsValid() && !at.isLocalTarget && d.purpose == forTarget {
		d.rest(r, "connections from this machine to others pass usher by: those to its own addresses are served", true)
	}
	all, reason := d.targets(r, at.to)
	if reason != "" {
		d.rest(r, reason, false)
		return
	}
	for _, protocol := range []protocols{tcp, udp} {
		if at.protocols&protocol == 0 {
			continue
		}
		for _, to := range all {
			for _, p := range ports {
				s := socket{protocol, to}
				d.found++
				d.keys[s] = append(d.keys[s], key{s, p, d.found})
			}
		}
	}
}

// listenable returns the ports of a region, or why usher cannot listen on them.
func (from region) listenable() (portSet, string) {
	if from.ports == nil {
		return nil, "usher opens a socket for each port: name ports by -p and --dport"
	}
	own := from.ports.and(portSet{{1, allPorts.high}})
	count := 0
	for _, p := range own {
		count += p.count()
	}
	if count > maxPorts {
		return nil, fmt.Sprintf("usher opens a socket for each port, and these are %d: name %d at most", count, maxPorts)
	}
	return own, ""
}

// targets returns the addresses of this machine that are meant by a destination.
func (d *discovery) targets(r *rule, to netip.Prefix) ([]netip.Prefix, string) {
	switch {
	case !to.IsValid() || to.Bits() == 0:
		if to.IsValid() && to.Addr().Is6() || !to.IsValid() && r.nat != nil && r.nat.First.Is6() {
			return []netip.Prefix{anyIPv6}, ""
		}
		return []netip.Prefix{anyIPv4}, ""
	case to.IsSingleIP():
		return []netip.Prefix{to}, ""
	}
	var own []netip.Prefix
	for _, ip := range d.env.Local {
		if to.Contains(ip) {
			own = append(own, netip.PrefixFrom(ip, ip.BitLen()))
		}
	}
	if len(own) == 0 {
		return nil, fmt.Sprintf("usher listens on addresses, and %s has none of this machine that it knows: name each by -d", to)
	}
	return own, ""
}

var (
	anyIPv4 = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	anyIPv6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
)

// name returns the name of a service of a key.
func (k *key) name() string {
	words := []string{k.protocol.String()}
	switch ip := k.to.Addr(); {
	case k.isAll() && ip.Is6():
		words = append(words, "ipv6")
	case k.isAll():
	default:
		words = append(words, ip.StringExpanded())
	}
	return strings.Join(append(words, k.ports.String()), ":")
}

func (p ports) String() string {
	if p.low == p.high {
		return fmt.Sprint(p.low)
	}
	return fmt.Sprintf("%d-%d", p.low, p.high)
}
