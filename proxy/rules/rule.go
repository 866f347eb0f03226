// Package rules decides which new flows may come in: an ordered list of rules in chains,
// as iptables has it, with the first terminating match deciding.
package rules

import (
	"net/netip"
	"time"

	"usher/proxy/limit"
)

// Protocol is an IP protocol number; zero is all.
type Protocol uint8

const (
	All Protocol = 0
	TCP Protocol = 6
	UDP Protocol = 17
)

// Target is what a rule does with a flow that it matches.
type Target uint8

const (
	// Continue: the flow is counted, and goes on to the next rule.
	Continue Target = iota
	Accept
	Drop
	Reject
	// Return goes back to the rule after the jump; in a built-in chain to its policy.
	Return
	// Log writes a line, and goes on.
	Log
	// Jump goes to the chain that Rule.Chain names.
	Jump
)

// Rule is one rule, as it was written. Rules are not changed once they are in a list.
type Rule struct {
	Source, Destination Prefix
	Interface           Interface // by which the flow comes in
	Protocol            Protocol
	NotProtocol         bool
	Matches             []Match // in the order in which they are written, and evaluated
	Target              Target
	Chain               string // of Jump
	RejectWith          string // of Reject, a word of iptables; empty: the default
	LogPrefix           string // of Log
	LogLevel            uint8  // of Log, as syslog has them
}

// Prefix is a condition on an address; the zero one is true of any.
type Prefix struct {
	netip.Prefix
	Not bool
}

// Interface is a condition on the name of an interface; the zero one is true of any. A
// name with + at the end stands for all that begin so.
type Interface struct {
	Name string
	Not  bool
}

// Match is a condition of a rule: one of the types of this package with that method.
type Match interface{ isMatch() }

// PortRange is a range of ports, both ends within it.
type PortRange struct{ First, Last uint16 }

// Ports is -m tcp and -m udp: conditions on both ports. A nil range is true of any.
type Ports struct {
	Protocol                  Protocol // TCP or UDP
	Source, Destination       *PortRange
	NotSource, NotDestination bool
	SYN                       bool // --syn, which is true of every new flow of TCP
}

// PortSide says which ports Multiport looks at.
type PortSide uint8

const (
	SourcePort PortSide = iota
	DestinationPort
	EitherPort
)

// Multiport is -m multiport.
type Multiport struct {
	Side   PortSide
	Ranges []PortRange // at most 15, a range of more than one port counts as two
	Not    bool
}

// Conntrack is -m conntrack --ctstate. Rules see new flows alone: a rule whose states lack
// NEW matches nothing, and those of a flow that was let in are accepted anyway.
type Conntrack struct {
	States []string // of iptables, in its order
	Not    bool
}

// Comment is -m comment.
type Comment struct{ Text string }

// Limit is -m limit: one bucket for the rule.
type Limit struct{ Rate limit.Rate }

// Hashlimit is -m hashlimit: a bucket for each group of flows.
type Hashlimit struct {
	Name                        string // rules that have it in common share the buckets
	Rate                        limit.Rate
	Above                       bool // matches what is over the rate rather than what is within
	Source, Destination         bool // whether the group has that address
	SourcePort, DestinationPort bool
	SourceBits, DestinationBits int // of an IPv4 address; of IPv6 four times as many, unless more than 32
	TableSize, TableMax         int
	Expire, Interval            time.Duration
}

// Connlimit is -m connlimit: how many flows of the address group that have come to the rule
// live, the new one included.
type Connlimit struct {
	Above       bool // matches over N rather than up to N
	N           int
	Bits        int  // of the address that make the group; see Hashlimit
	Destination bool // groups by destination
}

// RecentAction is what -m recent does.
type RecentAction uint8

const (
	RecentSet RecentAction = iota
	RecentCheck
	RecentUpdate
	RecentRemove
)

// Recent is -m recent: a list of addresses with the times at which they were seen.
type Recent struct {
	Name        string
	Action      RecentAction
	Not         bool
	Seconds     int  // seen within so many; zero: ever
	HitCount    int  // seen so often within them; zero: once
	Reap        bool // forgets what is older than Seconds
	Mask        netip.Addr
	Destination bool // looks at the destination
}

// Statistic is -m statistic.
type Statistic struct {
	Not         bool
	Probability float64 // of mode random
	Every       uint32  // of mode nth; zero: the mode is random
	Packet      uint32  // of mode nth: the first to match
}

func (*Ports) isMatch()     {}
func (*Multiport) isMatch() {}
func (*Conntrack) isMatch() {}
func (*Comment) isMatch()   {}
func (*Limit) isMatch()     {}
func (*Hashlimit) isMatch() {}
func (*Connlimit) isMatch() {}
func (*Recent) isMatch()    {}
func (*Statistic) isMatch() {}

// Chain is a chain and its rules.
type Chain struct {
	Name   string
	Policy Target // of a built-in chain: Accept or Drop
	Rules  []*Rule
}

// Input is the name of the built-in chain, which new flows enter.
const Input = "INPUT"

// List is all chains. The first one is Input.
type List struct{ Chains []*Chain }
