package flow

import (
	"net/netip"
	"time"

	"github.com/gaissmai/bart"

	"usher/proxy/limit"
	"usher/proxy/rules"
)

// Newcomers are judged before they have a place or a row, so that many that are refused cost
// little:
//
//	rules ──▶ has it a backend? ──▶ lists of the service ──▶ its limits ──▶ a place
//	  │ DROP      │ EmptyDrop         │ DropDenied │            │
//	  ▼           ▼                   ▼            ▼            ▼
//	silence     silence            silence       Denied    ClientLimit, RateLimited
//
// Who they are may have to be read first: see greeting.go.

const (
	// mostRates bounds the clients whose rates a service knows, each at some 90 bytes. The one
	// that came least recently is forgotten.
	mostRates = 1 << 17
	// mostCounts bounds those whose connections it counts. Each has one at least.
	mostCounts = 1 << 20
)

// Door judges the newcomers of one worker.
type Door struct {
	Admission *Admission
	// Packet is the newcomer that is judged, as its engine fills it in. An invalid client is
	// one on a unix socket, which is let in.
	Packet rules.Packet
	pass   Pass
}

// Pass is what a newcomer that is let in takes along. It is moved, not copied.
type Pass struct {
	counter *rules.Counter // of the rule that has let it in; nil: there is none
	holds   limit.Holds    // the counts that it is in
}

// Release gives back what a newcomer holds that is not let in after all.
func (p *Pass) Release() {
	p.holds.Release()
	p.counter = nil
}

// Judgement is what becomes of a newcomer. With Running it is let in.
type Judgement struct {
	Outcome   Outcome
	IsDropped bool // it gets no answer
}

// Rules returns the rules of new flows; nil: there are none.
func (a *Admission) Rules() *rules.Set { return a.rules.Load() }

// SetRules has new flows judged by a set; nil lets all in.
func (a *Admission) SetRules(set *rules.Set) { a.rules.Store(set) }

// Screen judges the newcomer by rules, and then by the lists and limits of its service. One
// that a peer should have named takes nothing from them. One that is let in has to take its pass.
func (d *Door) Screen(set *rules.Set, c *Settings, isNamed bool, now time.Duration) Judgement {
	j := d.byRules(set, now)
	switch {
	case j.Outcome != Running:
	case c.Empty == EmptyDrop:
		j = c.refusal(NoEndpoint)
	case !d.Packet.Client.IsValid():
	case c.Access.ProxyOnly && !isNamed:
		j.Outcome = Denied
	default:
		j = c.refusal(c.judge(d.Packet.Client.Addr(), now, &d.pass.holds))
	}
	if j.Outcome != Running {
		d.pass.Release()
	}
	return j
}

// TakePass returns what the newcomer that was let in last takes along.
func (d *Door) TakePass() (p Pass) {
	p, d.pass = d.pass, Pass{}
	return p
}

func (d *Door) byRules(set *rules.Set, now time.Duration) Judgement {
	if set == nil || !d.Packet.Client.IsValid() {
		return Judgement{}
	}
	v := set.Decide(&d.Packet, now, &d.pass.holds)
	d.pass.counter = v.Counter
	switch v.Target {
	case rules.Drop:
		return Judgement{Denied, true}
	case rules.Reject:
		return Judgement{Denied, false}
	}
	return Judgement{}
}

// The lists of a service have the width of the tables of package rules, so that the binary has one form of both.
const denied, allowed uint32 = 0, 1

// access is an AccessConfig, compiled.
type access struct {
	isOn    bool                // newcomers have to be judged, or to send a PROXY header
	lists   *bart.Table[uint32] // whether clients within a prefix are let in: allowed or denied; nil: all are
	others  bool                // whether those within none are
	proxies *bart.Lite          // peers that send a PROXY header; nil: there are none
}

func newAccess(c *AccessConfig) (a access) {
	if len(c.Allow)+len(c.Deny) > 0 {
		a.lists, a.others = new(bart.Table[uint32]), len(c.Allow) == 0
		for _, p := range c.Allow {
			a.lists.Insert(p, allowed)
		}
		for _, p := range c.Deny {
			a.lists.Insert(p, denied)
		}
	}
	if len(c.AcceptProxy) > 0 {
		a.proxies = new(bart.Lite)
		for _, p := range c.AcceptProxy {
			a.proxies.Insert(p)
		}
	}
	a.isOn = a.lists != nil || a.proxies != nil || c.ProxyOnly || c.hasLimits()
	return a
}

func (c *AccessConfig) hasLimits() bool {
	return c.MaxClientConns > 0 || c.ClientRate.IsOn() || c.Rate.IsOn()
}

// Screens reports whether newcomers of the service have to be judged, or to be heard first.
func (s *Settings) Screens() bool { return s.access.isOn }

// AcceptsProxy reports whether a peer has to send a PROXY header.
func (s *Settings) AcceptsProxy(peer netip.Addr) bool {
	return s.access.proxies != nil && s.access.proxies.Lookup(peer)
}

// Allows reports whether the lists of the service let a client in.
func (s *Settings) Allows(client netip.Addr) bool {
	if s.access.lists == nil {
		return true
	}
	verdict, isListed := s.access.lists.Lookup(client)
	return verdict == allowed || !isListed && s.access.others
}

// clientLimits are what a service knows of its clients for its limits. They last longer than
// settings. Flows from before a limit was set count for none.
type clientLimits struct {
	byClient *limit.Buckets
	all      limit.Bucket
	flows    *limit.Counts
}

func newClientLimits(seed uint64) *clientLimits {
	return &clientLimits{byClient: limit.NewBuckets(seed, mostRates), flows: limit.NewCounts(seed, mostCounts)}
}

// refusal says how a client gets to know of an outcome of the service's own judgement.
func (s *Settings) refusal(o Outcome) Judgement {
	return Judgement{o, o == NoEndpoint || o == Denied && s.Access.DropDenied}
}

// judge is the judgement of the service alone. What is refused for a client's sake takes
// nothing from the rate of all.
func (s *Settings) judge(client netip.Addr, now time.Duration, h *limit.Holds) Outcome {
	c := &s.Access
	switch {
	case !s.Allows(client):
		return Denied
	case !c.hasLimits():
		return Running
	}
	l := s.Service.limits.Load()
	if c.MaxClientConns > 0 && !s.IsUDP() {
		count, n := l.flows.Enter(c.ConnsBits.key(client))
		if n > c.MaxClientConns {
			count.Leave()
			return ClientLimit
		}
		h.Add(count)
	}
	if c.ClientRate.IsOn() && !l.byClient.Take(c.RateBits.key(client), c.ClientRate, now) || !l.all.Take(c.Rate, now) {
		return RateLimited
	}
	return Running
}

// key returns what the addresses of one client have in common.
func (b ClientBits) key(client netip.Addr) limit.Key {
	bits4, bits6 := b.IPv4, b.IPv6
	if bits4 == 0 {
		bits4 = 32
	}
	if bits6 == 0 {
		bits6 = 128
	}
	return limit.PrefixKey(client, bits4, bits6)
}
