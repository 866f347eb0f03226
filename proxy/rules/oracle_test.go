package rules

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"
)

// oracle is a second reading of the rules: it walks the list, and keeps all states plainly.
// Its clock goes in whole milliseconds. It shares no code with the compiled set.
type oracle struct {
	list     *List
	states   map[*Rule]*oracleRule
	policy   oracleCounter
	hash     map[string]*oracleHash
	recent   map[string]*oracleRecent
	logged   []*Rule
	groupsOf map[int]map[*oracleRule][]string // in which connlimits of rules count a flow
}

type oracleCounter struct{ flows, datagrams, bytes uint64 }

type oracleRule struct {
	rule    *Rule
	counter oracleCounter
	match   []oracleMatch // as the rule has them
}

type oracleMatch struct {
	tokens    oracleTokens
	evaluated uint64
	seed      uint64
	groups    map[string]map[int]bool // flows that live
}

// oracleTokens is a bucket, in parts of a token as small as its period has milliseconds.
type oracleTokens struct{ level, last int64 }

type oracleHash struct {
	first  *Hashlimit
	tokens map[string]*oracleTokens
	used   map[string]int64
	order  []string // least recently used first
}

type oracleRecent struct {
	mask    netip.Addr
	stamps  int
	entries []*oracleSeen // least recently stamped first
}

type oracleSeen struct {
	addr   netip.Addr
	stamps []int64
}

func newOracle(list *List, before *oracle, seed uint64) *oracle {
	o := &oracle{
		list: list, states: map[*Rule]*oracleRule{}, hash: map[string]*oracleHash{},
		recent: map[string]*oracleRecent{}, groupsOf: map[int]map[*oracleRule][]string{},
	}
	hitCounts := map[string]int{}
	for c, chain := range list.Chains {
		for n, r := range chain.Rules {
			state := &oracleRule{rule: r, match: make([]oracleMatch, len(r.Matches))}
			for i, m := range r.Matches {
				x := &state.match[i]
				x.seed = seed + uint64(c)<<40 + uint64(n)<<8 + uint64(i)
				x.groups = map[string]map[int]bool{}
				switch m := m.(type) {
				case *Limit:
					x.tokens = oracleTokens{level: int64(m.Rate.Burst) * m.Rate.Per.Milliseconds()}
				case *Hashlimit:
					if o.hash[m.Name] == nil {
						o.hash[m.Name] = &oracleHash{m, map[string]*oracleTokens{}, map[string]int64{}, nil}
					}
				case *Recent:
					if o.recent[m.Name] == nil {
						o.recent[m.Name] = &oracleRecent{mask: m.Mask}
					}
					hitCounts[m.Name] = max(hitCounts[m.Name], m.HitCount)
				}
			}
			o.states[r] = state
		}
	}
	for name, l := range o.recent {
		l.stamps = max(20, hitCounts[name])
	}
	if before != nil {
		o.inherit(before)
	}
	return o
}

// inherit takes over what is equal.
func (o *oracle) inherit(before *oracle) {
	o.policy = before.policy
	o.groupsOf = before.groupsOf
	for _, chain := range o.list.Chains {
		for _, old := range before.list.Chains {
			if old.Name != chain.Name {
				continue
			}
			rest := slices.Clone(old.Rules)
			for _, r := range chain.Rules {
				i := slices.IndexFunc(rest, func(x *Rule) bool { return x == r || reflect.DeepEqual(x, r) })
				if i >= 0 {
					o.states[r] = before.states[rest[i]]
					rest = slices.Delete(rest, i, i+1)
				}
			}
		}
	}
	for name, h := range o.hash {
		if old := before.hash[name]; old != nil {
			a, b := *h.first, *old.first
			a.Above, b.Above = false, false
			if a == b {
				o.hash[name] = old
			}
		}
	}
	for name, l := range o.recent {
		if old := before.recent[name]; old != nil && old.mask == l.mask && old.stamps == l.stamps {
			o.recent[name] = old
		}
	}
}

// oracleVisit is a packet of a flow with a number; judged means without effect.
type oracleVisit struct {
	*Packet
	now    int64
	flow   int
	judged bool
}

// decide returns the verdict, and the rule that decided, or nil for the policy.
func (o *oracle) decide(v oracleVisit) (Target, *Rule) {
	target, r := o.chain(o.list.Chains[0], v)
	if r == nil {
		target = o.list.Chains[0].Policy
		if !v.judged {
			o.policy.count(v.Packet)
		}
	}
	if !v.judged && target != Accept {
		o.end(v.flow)
	}
	return target, r
}

// end takes a flow out of all groups.
func (o *oracle) end(flow int) {
	for state, groups := range o.groupsOf[flow] {
		for i := range state.match {
			for _, g := range groups {
				delete(state.match[i].groups[g], flow)
			}
		}
	}
	delete(o.groupsOf, flow)
}

func (c *oracleCounter) count(p *Packet) {
	if p.Protocol == UDP {
		c.datagrams++
		c.bytes += uint64(p.Bytes)
	} else {
		c.flows++
	}
}

func (o *oracle) chain(c *Chain, v oracleVisit) (Target, *Rule) {
	for _, r := range c.Rules {
		if !o.matches(r, v) {
			continue
		}
		if !v.judged {
			o.states[r].counter.count(v.Packet)
		}
		switch r.Target {
		case Accept, Drop, Reject:
			return r.Target, r
		case Return:
			return 0, nil
		case Log:
			if !v.judged {
				o.logged = append(o.logged, r)
			}
		case Jump:
			for _, to := range o.list.Chains {
				if to.Name == r.Chain {
					if target, by := o.chain(to, v); by != nil {
						return target, by
					}
				}
			}
		}
	}
	return 0, nil
}

func (o *oracle) matches(r *Rule, v oracleVisit) bool {
	in := func(p Prefix, a netip.Addr) bool {
		return p.Prefix == netip.Prefix{} || p.Contains(a) != p.Not
	}
	if !in(r.Source, v.Client.Addr()) || !in(r.Destination, v.Local.Addr()) {
		return false
	}
	if name := r.Interface.Name; name != "" {
		is := name == v.Interface
		if strings.HasSuffix(name, "+") {
			is = strings.HasPrefix(v.Interface, name[:len(name)-1])
		}
		if is == r.Interface.Not {
			return false
		}
	}
	if r.Protocol != All && (r.Protocol == v.Protocol) == r.NotProtocol {
		return false
	}
	for i, m := range r.Matches {
		if !o.match(o.states[r], i, m, v) {
			return false
		}
	}
	return true
}

func (o *oracle) match(state *oracleRule, i int, m Match, v oracleVisit) bool {
	x := &state.match[i]
	in := func(r PortRange, port uint16) bool { return r.First <= port && port <= r.Last }
	switch m := m.(type) {
	case *Ports:
		return m.Protocol == v.Protocol &&
			(m.Source == nil || in(*m.Source, v.Client.Port()) != m.NotSource) &&
			(m.Destination == nil || in(*m.Destination, v.Local.Port()) != m.NotDestination)
	case *Multiport:
		is := false
		for _, r := range m.Ranges {
			is = is || m.Side != DestinationPort && in(r, v.Client.Port()) || m.Side != SourcePort && in(r, v.Local.Port())
		}
		return is != m.Not
	case *Conntrack:
		is := false
		for _, s := range m.States {
			is = is || s == "NEW"
		}
		return is != m.Not
	case *Connlimit:
		return o.connlimit(state, x, m, v)
	}
	if _, ok := m.(*Comment); ok || v.judged {
		return ok
	}
	switch m := m.(type) {
	case *Limit:
		return x.tokens.take(int64(m.Rate.Events), m.Rate.Per.Milliseconds(), int64(m.Rate.Burst), v.now)
	case *Hashlimit:
		return o.hash[m.Name].take(v) != m.Above
	case *Recent:
		addr := v.Client.Addr()
		if m.Destination {
			addr = v.Local.Addr()
		}
		return o.recent[m.Name].visit(m, addr, v.now)
	case *Statistic:
		n := x.evaluated
		x.evaluated++
		if m.Every > 0 {
			return (n%uint64(m.Every) == uint64(m.Packet)) != m.Not
		}
		z := x.seed + 0x9e3779b97f4a7c15*(n+1)
		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
		z = (z ^ (z >> 27)) * 0x94d049bb133111eb
		return (float64((z^(z>>31))>>33) < m.Probability*2147483648) != m.Not
	}
	panic(fmt.Sprintf("match %T", m))
}

// masked returns the group of an address: bits of an IPv4 address, more of an IPv6 one.
func masked(a netip.Addr, bits int) string {
	if a.Is6() && bits <= 32 {
		bits *= 4
	}
	return netip.PrefixFrom(a, min(bits, a.BitLen())).Masked().String()
}

func (o *oracle) connlimit(state *oracleRule, x *oracleMatch, m *Connlimit, v oracleVisit) bool {
	addr := v.Client.Addr()
	if m.Destination {
		addr = v.Local.Addr()
	}
	group := masked(addr, m.Bits)
	if !v.judged {
		if x.groups[group] == nil {
			x.groups[group] = map[int]bool{}
		}
		x.groups[group][v.flow] = true
		if o.groupsOf[v.flow] == nil {
			o.groupsOf[v.flow] = map[*oracleRule][]string{}
		}
		o.groupsOf[v.flow][state] = append(o.groupsOf[v.flow][state], group)
	}
	return len(x.groups[group]) > m.N == m.Above
}

func (t *oracleTokens) take(events, per, burst, now int64) bool {
	t.level = min(t.level+(now-t.last)*events, burst*per)
	t.last = now
	if t.level < per {
		return false
	}
	t.level -= per
	return true
}

func (h *oracleHash) take(v oracleVisit) bool {
	m := h.first
	var key strings.Builder
	if m.Source {
		key.WriteString(masked(v.Client.Addr(), m.SourceBits))
	}
	if m.Destination {
		key.WriteString(" to " + masked(v.Local.Addr(), m.DestinationBits))
	}
	if m.SourcePort {
		fmt.Fprint(&key, " from port ", v.Client.Port())
	}
	if m.DestinationPort {
		fmt.Fprint(&key, " to port ", v.Local.Port())
	}
	k, per := key.String(), m.Rate.Per.Milliseconds()
	t := h.tokens[k]
	if t == nil || m.Expire > 0 && v.now-h.used[k] >= m.Expire.Milliseconds() {
		t = &oracleTokens{int64(m.Rate.Burst) * per, v.now}
	}
	if i := slices.Index(h.order, k); i >= 0 {
		h.order = slices.Delete(h.order, i, i+1)
	} else if len(h.order) == m.TableMax {
		delete(h.tokens, h.order[0])
		h.order = h.order[1:]
	}
	h.order = append(h.order, k)
	h.tokens[k], h.used[k] = t, v.now
	return t.take(int64(m.Rate.Events), per, int64(m.Rate.Burst), v.now)
}

// visit follows recent_mt of the kernel, line by line.
func (l *oracleRecent) visit(m *Recent, addr netip.Addr, now int64) bool {
	if l.mask.BitLen() == addr.BitLen() {
		bytes, mask := addr.AsSlice(), l.mask.AsSlice()
		for i := range bytes {
			bytes[i] &= mask[i]
		}
		addr, _ = netip.AddrFromSlice(bytes)
	}
	ret := m.Not
	at := slices.IndexFunc(l.entries, func(e *oracleSeen) bool { return e.addr == addr })
	if at < 0 {
		if m.Action != RecentSet {
			return ret
		}
		if len(l.entries) == 100 {
			l.entries = l.entries[1:]
		}
		l.entries = append(l.entries, &oracleSeen{addr, []int64{now}})
		return !ret
	}
	e := l.entries[at]
	since := now - int64(m.Seconds)*int64(time.Second/time.Millisecond)
	switch m.Action {
	case RecentSet:
		ret = !ret
	case RecentRemove:
		l.entries = slices.Delete(l.entries, at, at+1)
		ret = !ret
	default:
		hits := 0
		for _, stamp := range e.stamps {
			if m.Seconds > 0 && since > stamp {
				continue
			}
			hits++
			if m.HitCount == 0 || hits >= m.HitCount {
				ret = !ret
				break
			}
		}
		oldest := l.entries[0]
		if m.Reap && !(oldest == e && m.Action == RecentUpdate && ret) && since > oldest.stamps[len(oldest.stamps)-1] {
			l.entries = slices.Delete(l.entries, 0, 1)
		}
	}
	if m.Action == RecentSet || m.Action == RecentUpdate && ret {
		e.stamps = append(e.stamps, now)
		if len(e.stamps) > l.stamps {
			e.stamps = e.stamps[1:]
		}
		if at = slices.Index(l.entries, e); at >= 0 {
			l.entries = append(slices.Delete(l.entries, at, at+1), e)
		}
	}
	return ret
}
