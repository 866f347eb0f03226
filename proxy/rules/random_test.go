package rules

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"usher/proxy/limit"
)

// generator makes random lists and packets, out of few addresses and ports, so that much
// matches.
type generator struct {
	*rand.Rand
	chains int
	jumps  [20]int // made in each chain, few, since they multiply
}

func oneOf[T any](g *generator, all ...T) T { return all[g.IntN(len(all))] }

func (g *generator) isRare() bool { return g.IntN(5) == 0 }

func (g *generator) addr() netip.Addr {
	if g.isRare() {
		return netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::%x", g.IntN(3), g.IntN(4)))
	}
	return netip.AddrFrom4([4]byte{byte(10 + g.IntN(3)), byte(g.IntN(2)), byte(g.IntN(3)), byte(g.IntN(8))})
}

func (g *generator) prefix() Prefix {
	if g.IntN(3) == 0 {
		return Prefix{}
	}
	a := g.addr()
	bits := oneOf(g, a.BitLen(), a.BitLen(), a.BitLen()-2, g.IntN(a.BitLen()+1), a.BitLen()/4)
	return Prefix{netip.PrefixFrom(a, bits), g.isRare()}
}

func (g *generator) port() uint16 {
	return oneOf[uint16](g, 0, 22, 80, 443, 65535, uint16(g.IntN(100)))
}

func (g *generator) ports() PortRange {
	a, b := g.port(), g.port()
	if g.IntN(2) == 0 {
		return PortRange{a, a}
	}
	return PortRange{min(a, b), max(a, b)}
}

func (g *generator) rate() limit.Rate {
	per := oneOf(g, time.Second, time.Second, time.Minute, time.Hour, 24*time.Hour)
	return limit.Rate{Events: 1 + g.IntN(20), Per: per, Burst: 1 + g.IntN(5)}
}

func (g *generator) match() Match {
	isNot := g.isRare()
	switch g.IntN(12) {
	case 0, 1, 2:
		m := &Ports{Protocol: oneOf(g, TCP, UDP)}
		if g.isRare() {
			r := g.ports()
			m.Source, m.NotSource = &r, isNot
		}
		if !g.isRare() {
			r := g.ports()
			m.Destination, m.NotDestination = &r, isNot
		}
		return m
	case 3, 4:
		m := &Multiport{Side: PortSide(g.IntN(3)), Not: isNot}
		for range 1 + g.IntN(4) {
			m.Ranges = append(m.Ranges, g.ports())
		}
		return m
	case 5:
		return &Conntrack{oneOf(g, []string{"NEW"}, []string{"NEW", "ESTABLISHED"}, []string{"ESTABLISHED"}), isNot}
	case 6:
		return &Comment{"hello"}
	case 7:
		return &Limit{g.rate()}
	case 8:
		n := g.IntN(3)
		// The table is that of the name; only its sense is the rule's own.
		return &Hashlimit{
			Name: fmt.Sprint(n), Rate: limit.Rate{Events: 3, Per: time.Second, Burst: 2 + n}, Above: isNot,
			Source: n != 1, Destination: n == 1, SourcePort: n == 2, SourceBits: 30, DestinationBits: 64,
			TableMax: 10 + 10*n, Expire: time.Duration(n) * time.Second,
		}
	case 9:
		return &Connlimit{g.IntN(2) == 0, g.IntN(4), oneOf(g, 32, 24, 0, 64), g.isRare()}
	case 10:
		n := g.IntN(3)
		mask := oneOf(g, "255.255.255.255", "255.255.255.0", "ffff:ffff:ffff:ffff::")
		seconds := g.IntN(3)
		return &Recent{
			Name: fmt.Sprint(n), Action: RecentAction(g.IntN(4)), Not: isNot, Seconds: seconds, HitCount: g.IntN(30),
			Reap: seconds > 0 && g.isRare(), Mask: netip.MustParseAddr(mask), Destination: g.isRare(),
		}
	}
	if g.IntN(2) == 0 {
		every := 1 + g.IntN(4)
		return &Statistic{Not: isNot, Every: uint32(every), Packet: uint32(g.IntN(every))}
	}
	return &Statistic{Not: isNot, Probability: oneOf(g, 0, 1, 0.5, g.Float64())}
}

// rule returns a rule of a chain. It may jump to any chain after it.
func (g *generator) rule(chain int) *Rule {
	r := &Rule{
		Target: oneOf(g, Continue, Accept, Drop, Reject, Return, Log, Jump, Jump),
		Source: g.prefix(), Destination: g.prefix(),
	}
	if g.isRare() {
		r.Interface = Interface{oneOf(g, "eth0", "eth1", "eth+", "e+", "eth0.1", "lo", "+"), g.isRare()}
	}
	if g.isRare() {
		r.Protocol, r.NotProtocol = oneOf(g, TCP, UDP, All, 1), g.isRare()
	}
	for range oneOf(g, 0, 0, 1, 1, 2, 3) {
		r.Matches = append(r.Matches, g.match())
	}
	if r.Target == Jump {
		// To go far, most jumps are to the next chains.
		to := chain + 1 + g.IntN(min(4, g.chains))
		if to >= g.chains || g.jumps[chain] > 20 || chain > 0 && g.jumps[chain] > 1 {
			r.Target = Continue
		} else {
			r.Chain = fmt.Sprint(to)
			g.jumps[chain]++
		}
	}
	return r
}

func (g *generator) list(rules int) *List {
	g.chains, g.jumps = 1+g.IntN(12), [20]int{}
	list := &List{[]*Chain{{Name: Input, Policy: oneOf(g, Accept, Drop)}}}
	for n := 1; n < g.chains; n++ {
		list.Chains = append(list.Chains, &Chain{Name: fmt.Sprint(n)})
	}
	for range rules {
		n := oneOf(g, 0, g.IntN(g.chains))
		list.Chains[n].Rules = append(list.Chains[n].Rules, g.rule(n))
	}
	return list
}

// change returns the list with a few rules changed, most kept, and some as equal copies.
func (g *generator) change(list *List) *List {
	changed := &List{}
	for n, c := range list.Chains {
		kept := &Chain{Name: c.Name, Policy: c.Policy}
		for _, r := range c.Rules {
			switch g.IntN(10) {
			case 0:
			case 1:
				kept.Rules = append(kept.Rules, g.rule(n))
			case 2:
				equal := *r
				equal.Matches = slices.Clone(r.Matches)
				kept.Rules = append(kept.Rules, &equal)
			default:
				kept.Rules = append(kept.Rules, r)
			}
		}
		changed.Chains = append(changed.Chains, kept)
	}
	return changed
}

func (g *generator) packet() *Packet {
	p := &Packet{
		Client: netip.AddrPortFrom(g.addr(), g.port()), Local: netip.AddrPortFrom(g.addr(), g.port()),
		Protocol: TCP, Interface: oneOf(g, "eth0", "eth1", "eth0.1", "lo", "e", ""),
	}
	if g.IntN(3) == 0 {
		p.Protocol, p.Bytes = UDP, g.IntN(1000)
	}
	return p
}

// pair is a set beside its oracle.
type pair struct {
	*generator
	set      *Set
	oracle   *oracle
	logged   []*Rule
	counters map[*Rule]*Counter
	now      time.Duration
	flows    []*randomFlow
	number   int
}

type randomFlow struct {
	number int
	holds  limit.Holds
}

func (p *pair) compile(t *testing.T, list *List, seed uint64) {
	o := Options{Seed: seed, Log: func(r *Rule, _ Packet) { p.logged = append(p.logged, r) }}
	p.set = compile(t, list, p.set, o)
	p.oracle = newOracle(list, p.oracle, seed)
	p.counters = map[*Rule]*Counter{}
	for i, c := range list.Chains {
		_, counters := p.set.Counters(i)
		for n, r := range c.Rules {
			p.counters[r] = counters[n]
		}
	}
}

// step lets one packet in, or one flow go, and returns what the two disagree on.
func (p *pair) step() error {
	p.now += time.Duration(oneOf(p.generator, 0, 1, 10, 100, 3000)) * time.Millisecond
	if n := len(p.flows); n > 0 && p.IntN(3) == 0 {
		i := p.IntN(n)
		p.flows[i].holds.Release()
		p.oracle.end(p.flows[i].number)
		p.flows = slices.Delete(p.flows, i, i+1)
	}
	packet := p.packet()
	p.number++
	visit := oracleVisit{packet, p.now.Milliseconds(), p.number, p.isRare()}
	want, rule := p.oracle.decide(visit)
	counter := p.set.chains[0].policy
	if rule != nil {
		counter = p.counters[rule]
	}
	if visit.judged {
		if v := p.set.Judge(packet); v.Target != want || v.Counter != counter {
			return fmt.Errorf("%+v is judged %d, want %d", packet, v.Target, want)
		}
		return nil
	}
	f := &randomFlow{number: p.number}
	v := p.set.Decide(packet, p.now, &f.holds)
	if v.Target != want || v.Counter != counter {
		return fmt.Errorf("%+v at %v: verdict %d, want %d by %+v", packet, p.now, v.Target, want, rule)
	}
	if v.Target == Accept {
		p.flows = append(p.flows, f)
	}
	if !slices.Equal(p.logged, p.oracle.logged) {
		return fmt.Errorf("%+v: %d lines logged, want %d", packet, len(p.logged), len(p.oracle.logged))
	}
	p.logged, p.oracle.logged = p.logged[:0], p.oracle.logged[:0]
	return nil
}

// compare checks all counters.
func (p *pair) compare() error {
	check := func(what string, c *Counter, want oracleCounter) error {
		if got := (oracleCounter{c.Flows.Load(), c.Datagrams.Load(), c.Bytes.Load()}); got != want {
			return fmt.Errorf("%s counted %v, want %v", what, got, want)
		}
		return nil
	}
	policy, _ := p.set.Counters(0)
	err := check("the policy", policy, p.oracle.policy)
	for r, c := range p.counters {
		if err == nil {
			err = check(fmt.Sprintf("%+v", r), c, p.oracle.states[r].counter)
		}
	}
	return err
}

// TestCompiledIsWalked sends random packets through random lists, which change meanwhile:
// verdicts, lines and all counters are those of a plain walk of the list.
func TestCompiledIsWalked(t *testing.T) {
	t.Parallel()
	lists := 200
	if testing.Short() {
		lists = 20
	}
	const first = 1 // another one tests other cases
	for n := range lists {
		seed := first + uint64(n)
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 0))}
		g.check(t, seed, oneOf(g, g.IntN(15), g.IntN(100), g.IntN(1000)), 500)
	}
}

// TestLongListIsWalked does so with a list whose vectors have several pages.
func TestLongListIsWalked(t *testing.T) {
	t.Parallel()
	const seed = 1 // another one tests other cases
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0))}
	g.check(t, seed, 9000, 50)
}

func (g *generator) check(t *testing.T, seed uint64, rules, packets int) {
	p := &pair{generator: g}
	p.compile(t, g.list(rules), seed)
	for i := range packets {
		if i == packets/2 {
			p.compile(t, g.change(p.set.list), g.Uint64())
		}
		if err := p.step(); err != nil {
			t.Fatalf("seed %d, packet %d: %v", seed, i, err)
		}
	}
	if err := p.compare(); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
}
