package nfct

import "net/netip"

// Filter says which flows are meant. The zero value means all.
type Filter struct {
	IPv4, IPv6       bool
	Protocol         uint8 // 0: any
	Source           netip.Prefix
	Destination      netip.Prefix
	ReplySource      netip.Addr
	ReplyDestination netip.Addr
	// Ports by their place in a flow: source and destination, then those of the reply.
	Ports    [4]uint16
	hasPort  [4]bool
	State    string
	Assured  bool
	Replied  bool
	Unseen   bool // only flows without a reply
	IsNone   bool // no flow of usher can pass: another zone, mark or status
	ID       uint32
	hasID    bool
	NAT      [3]bool           // source, destination, any
	NATAddrs [3]netip.AddrPort // of these; invalid: any
}

// Match reports whether a flow is meant.
func (r *Filter) Match(f *Flow) bool {
	is6 := f.isIPv6()
	switch {
	case r.IsNone,
		r.IPv4 && is6, r.IPv6 && !is6,
		r.Protocol != 0 && r.Protocol != f.Protocol,
		r.Source.IsValid() && !r.Source.Contains(f.Original.Src.Addr()),
		r.Destination.IsValid() && !r.Destination.Contains(f.Original.Dst.Addr()),
		r.ReplySource.IsValid() && r.ReplySource != f.Reply.Src.Addr(),
		r.ReplyDestination.IsValid() && r.ReplyDestination != f.Reply.Dst.Addr(),
		r.State != "" && r.State != f.State,
		r.Assured && !f.Assured, r.Replied && !f.SeenReply, r.Unseen && f.SeenReply,
		r.hasID && r.ID != f.ID:
		return false
	}
	ports := [4]uint16{f.Original.Src.Port(), f.Original.Dst.Port(), f.Reply.Src.Port(), f.Reply.Dst.Port()}
	for i, has := range r.hasPort {
		if has && ports[i] != r.Ports[i] {
			return false
		}
	}
	return r.matchNAT(f)
}

// The kinds of NAT.
const (
	sourceNAT = iota
	destinationNAT
	anyNAT
)

func (r *Filter) matchNAT(f *Flow) bool {
	source := func(at netip.AddrPort) bool { return f.isSourceNAT() && isAt(at, f.Reply.Dst) }
	destination := func(at netip.AddrPort) bool { return f.isDestinationNAT() && isAt(at, f.Reply.Src) }
	return (!r.NAT[sourceNAT] || source(r.NATAddrs[sourceNAT])) &&
		(!r.NAT[destinationNAT] || destination(r.NATAddrs[destinationNAT])) &&
		(!r.NAT[anyNAT] || source(r.NATAddrs[anyNAT]) || destination(r.NATAddrs[anyNAT]))
}

// isAt reports whether an address is the one wanted: an invalid one is any, port 0 any port.
func isAt(want, have netip.AddrPort) bool {
	return !want.Addr().IsValid() || want.Addr() == have.Addr() && (want.Port() == 0 || want.Port() == have.Port())
}
