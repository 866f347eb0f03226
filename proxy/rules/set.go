package rules

import (
	"net/netip"
	"sync/atomic"
	"time"

	"usher/proxy/limit"
)

// Options say what a Set needs beside its rules.
type Options struct {
	// Seed makes the hashes of tables and the course of -m statistic hard to foresee.
	Seed uint64
	// Connections bounds the groups of flows that each -m connlimit counts. Zero is
	// DefaultConnections.
	Connections int
	// Log writes the line of a rule with target Log. It must not block. Nil: no lines.
	Log func(*Rule, Packet)
	// State gives counters and states to rules that the set before does not have.
	State *State
}

// DefaultConnections is how many groups of flows a -m connlimit counts.
const DefaultConnections = 1 << 16

// Packet is the first one of a flow, or of no flow yet. IPv4-mapped addresses are unmapped.
type Packet struct {
	Client, Local netip.AddrPort
	Protocol      Protocol // TCP or UDP
	Interface     string   // by which it came in; unknown unless NeedsInterface
	Bytes         int      // of a datagram
}

// Verdict is what becomes of a flow: the target Accept, Drop or Reject, and the counter of
// the rule or policy that decided. The counter is nil if there are no rules.
type Verdict struct {
	Target  Target
	Counter *Counter
}

// Counter counts what a rule matched. Decide counts a TCP connection as a flow, and
// a datagram with its bytes. Whoever carries the flow adds its further bytes, of both
// directions, to the counter of the verdict.
type Counter struct{ Flows, Datagrams, Bytes atomic.Uint64 }

func (c *Counter) count(p *Packet) {
	if p.Protocol == UDP {
		c.Datagrams.Add(1)
		c.Bytes.Add(uint64(p.Bytes))
	} else {
		c.Flows.Add(1)
	}
}

// Set is a compiled list of rules, safe for use by many. A nil Set accepts all.
type Set struct {
	list           *List
	log            func(*Rule, Packet)
	chains         []*chain               // as in the list
	hashlimits     map[string]*hashlimit  // by name
	recents        map[string]*recentList // by name
	needsInterface bool
	program        *program // of INPUT
}

// chain is a chain of a set with its states.
type chain struct {
	name   string
	policy *Counter
	rules  []*rule
}

// rule is a rule of a set with its state.
type rule struct {
	*Rule
	key     string
	counter *Counter
	matches []matcher // in order
	jump    *chain
}

// List returns the list that was compiled.
func (s *Set) List() *List { return s.list }

// Counters returns the counters of a chain of the list: of its policy, nil in a chain of
// one's own, and of its rules.
func (s *Set) Counters(chain int) (policy *Counter, rules []*Counter) {
	c := s.chains[chain]
	for _, r := range c.rules {
		rules = append(rules, r.counter)
	}
	return c.policy, rules
}

// NeedsInterface reports whether a rule looks at the interface of a packet.
func (s *Set) NeedsInterface() bool { return s != nil && s.needsInterface }

// Decide judges the first packet of a flow at a time: the rules that match count it, and
// take their states. The flow's holds get the counts of living flows that it enters; they
// are released when the flow ends, and at once if it is refused.
func (s *Set) Decide(p *Packet, now time.Duration, h *limit.Holds) Verdict {
	if s == nil {
		return Verdict{Target: Accept}
	}
	v := s.visit(&visit{packet: p, now: now, holds: h, mode: deciding})
	if v.Target != Accept {
		h.Release()
	}
	return v
}

// Judge returns the verdict on a flow that lives, without any effect. Rules whose match
// depends on a rate or on what was seen before are passed over.
func (s *Set) Judge(p *Packet) Verdict {
	if s == nil {
		return Verdict{Target: Accept}
	}
	return s.visit(&visit{packet: p, mode: judging})
}

// Rejoin enters a flow that lives, but whose holds were lost, in the counts of living flows
// that it comes to. It returns the counter of the rule or policy that would decide, and has no
// other effect.
func (s *Set) Rejoin(p *Packet, h *limit.Holds) *Counter {
	if s == nil {
		return nil
	}
	return s.visit(&visit{packet: p, holds: h, mode: rejoining}).Counter
}

// visit is one packet on its way through the rules.
type visit struct {
	packet *Packet
	now    time.Duration
	holds  *limit.Holds
	mode   mode
}

// mode says which effects a visit has.
type mode uint8

const (
	deciding  mode = iota
	judging        // none
	rejoining      // enters counts of living flows
)
