package iptables

import (
	"net/netip"

	"usher/proxy/rules"
)

// Rule is a rule of a chain. It does not change once a chain has it.
type Rule struct {
	Source, Destination rules.Prefix
	In, Out             rules.Interface
	Protocol            rules.Protocol // any number
	NotProtocol         bool
	Fragment            Fragment
	Matches             []Match // in the order in which they are written, and evaluated
	Target              string  // the word behind -j or -g; empty: the rule only counts
	IsJump              bool    // the target is a chain
	IsGoto              bool    // by -g: the chain ends where this one does
	Options             any     // of the target: nil, *Reject, *Log, *NAT, *Mark or *Other

	// Packets and Bytes are what the rule was given by -c, beyond what its live counters say. They count modulo 2^64.
	Packets, Bytes uint64

	origin *Rule
}

// Origin returns the rule as it was first made, before its counters were set: live counters belong to that one.
func (r *Rule) Origin() *Rule {
	if r.origin != nil {
		return r.origin
	}
	return r
}

// withCounters returns the rule with other counters.
func (r *Rule) withCounters(packets, bytes uint64) *Rule {
	other := *r
	other.origin = r.Origin()
	other.Packets, other.Bytes = packets, bytes
	return &other
}

// isTCP reports whether the rule is for TCP alone.
func (r *Rule) isTCP() bool { return r.Protocol == rules.TCP && !r.NotProtocol }

// fitsProtocol reports whether matches on ports stand behind their protocol, as the kernel wants it.
func (r *Rule) fitsProtocol() bool {
	for _, m := range r.Matches {
		if m, ok := m.(*rules.Ports); ok && m.Protocol != r.Protocol {
			return false
		}
	}
	return true
}

// isNever reports whether no address fulfils a condition.
func isNever(p rules.Prefix) bool { return p.IsValid() && p.Bits() == 0 && p.Not }

// Match is a condition: a pointer to one of package rules that is a rules.Match, or to one of Addrtype, MarkMatch, State,
// ICMP and Other.
type Match any

// Fragment is -f: a condition that no new flow fulfils.
type Fragment uint8

const (
	AnyFragment  Fragment = iota
	OnlyFragment          // -f
	NoFragment            // ! -f
)

// State is -m state, the older form of -m conntrack.
type State struct{ rules.Conntrack }

// Addrtype is -m addrtype. The types are in iptables' order.
type Addrtype struct {
	Source, Destination       []string // such as LOCAL; nil: any
	NotSource, NotDestination bool
	LimitIn, LimitOut         bool
}

// MarkMatch is -m mark: a condition on the mark of a packet.
type MarkMatch struct {
	Value, Mask uint32
	Not         bool
}

// ICMP is -m icmp.
type ICMP struct {
	Type, Code int // code -1: any
	IsAny      bool
	Not        bool
}

// Other is a match or a target whose words nothing here understands.
type Other struct {
	Name string
	Text string // its options as they were written, with a space before each; empty: none
}

// Reject is what -j REJECT has.
type Reject struct{ With string } // a word of --reject-with

// Log is what -j LOG has.
type Log struct {
	Prefix string
	Level  uint8 // as syslog has them
	Flags  uint8 // of --log-tcp-sequence, --log-tcp-options, --log-ip-options, --log-uid and --log-macdecode
}

// NAT is what -j DNAT, SNAT, REDIRECT and MASQUERADE have.
type NAT struct {
	First, Last         netip.Addr // of a range; Last is First of a single address; zero: none is given
	FirstPort, LastPort uint16
	HasPorts            bool
	BasePort            uint16 // of DNAT: the original port that becomes FirstPort; zero: none
	Random, RandomFully bool
	Persistent          bool
}

// Mark is what -j MARK has: the mark becomes (mark AND NOT Mask) XOR Value.
type Mark struct{ Value, Mask uint32 }
