package dialect

import (
	"iter"
	"net/netip"

	"usher/internal/api"
	"usher/internal/control"
	"usher/internal/nfct"
)

// Tracked yields all flows with addresses, as conntrack shows them. It keeps none.
func (s *Server) Tracked() iter.Seq[nfct.Flow] {
	return func(yield func(nfct.Flow) bool) {
		for a := range s.control.Flows(control.FlowQuery{Sockets: true}) {
			if f, ok := TrackedFlow(&a); ok && !yield(f) {
				return
			}
		}
	}
}

// streamAfter is how long a flow of datagrams has to last until the kernel calls it assured, in milliseconds.
const streamAfter = 2000

// TrackedFlow is a flow as conntrack shows it; ok is false for one without addresses. The original direction is that of
// the client, and the reply comes from the backend to usher. Bytes are those of the client and of the backend, without
// headers.
func TrackedFlow(a *api.Flow) (f nfct.Flow, ok bool) {
	f = nfct.Flow{
		Protocol: nfct.TCP, Timeout: nfct.Never, ID: nfct.NewID(a.ID),
		Packets: [2]uint64{a.PacketsUp, a.PacketsDown}, Bytes: [2]uint64{a.BytesUp, a.BytesDown},
	}
	var err, noDestination error
	f.Original.Src, err = netip.ParseAddrPort(a.Client)
	f.Original.Dst, noDestination = netip.ParseAddrPort(a.Destination)
	if err != nil || noDestination != nil {
		return f, false
	}
	// Until there is a backend, the reply is that of a flow without NAT.
	f.Reply = nfct.Tuple{Src: f.Original.Dst, Dst: f.Original.Src}
	if to, err := netip.ParseAddrPort(a.Target); err == nil {
		f.Reply.Src = withoutZone(to)
	}
	if from, err := netip.ParseAddrPort(a.Source); err == nil {
		f.Reply.Dst = withoutZone(from)
	}
	if a.TimeoutMS > 0 {
		f.Timeout = uint32(min(a.TimeoutMS/1000, 1<<32-1))
	}
	if a.Network == "udp" {
		f.Protocol, f.SeenReply = nfct.UDP, a.State == "assured"
		f.Assured = f.SeenReply && a.AgeMS-a.IdleMS > streamAfter
		return f, true
	}
	f.State, f.SeenReply = trackedState(a)
	f.Assured = f.SeenReply
	return f, true
}

// withoutZone: conntrack knows no zones of addresses.
func withoutZone(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().WithZone(""), a.Port())
}

// trackedState is the state of a connection, and whether its backend has accepted. A proxy has accepted the client
// before: what counts is how far the way to the backend is.
func trackedState(a *api.Flow) (state string, isAccepted bool) {
	switch {
	case a.State == "established":
		return "ESTABLISHED", true
	case a.Closed == "both":
		return "TIME_WAIT", true
	case a.State == "half-closed" && a.Closed == "client":
		return "CLOSE_WAIT", true
	case a.State == "half-closed":
		return "FIN_WAIT", true
	case a.State == "closing":
		return "CLOSE", true
	}
	return "SYN_SENT", false
}
