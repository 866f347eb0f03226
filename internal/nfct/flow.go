package nfct

import (
	"hash/fnv"
	"net/netip"
)

// Protocols of flows.
const (
	TCP = 6
	UDP = 17
)

// Tuple is a direction of a flow.
type Tuple struct{ Src, Dst netip.AddrPort }

// Flow is an entry of the connection table.
type Flow struct {
	Protocol        uint8
	State           string // of TCP
	Timeout         uint32 // seconds left
	Original, Reply Tuple
	Packets, Bytes  [2]uint64 // of the original direction and of the reply
	SeenReply       bool
	Assured         bool
	ID              uint32
}

// Never is the timeout that is shown of a flow that nothing ends: the kernel's of an established connection.
const Never = 432000

// NewID makes the number of a flow out of a longer name.
func NewID(name string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	return h.Sum32()
}

func (f *Flow) isIPv6() bool { return f.Original.Src.Addr().Is6() }

func (f *Flow) isSourceNAT() bool { return f.Reply.Dst != f.Original.Src }

func (f *Flow) isDestinationNAT() bool { return f.Reply.Src != f.Original.Dst }

func (f *Flow) protocolName() string {
	if f.Protocol == UDP {
		return "udp"
	}
	return "tcp"
}

// Event is what has happened to a flow.
type Event uint8

const (
	NoEvent Event = iota // of a listing
	New
	Update
	Destroy
)
