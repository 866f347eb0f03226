package flow

import (
	"net/netip"

	"usher/balancer"
)

// Target returns where a backend is reached by this flow: a path for a unix socket, else an
// address. A backend without a port gets the port that the client asked for; one with a
// range, the port at the listener's offset.
func (f *Flow) Target() (addr netip.AddrPort, path string) { return f.Origin.Target(f.backend) }

// Target is that of a flow; no path is one for datagrams.
func (x *Session) Target() (addr netip.AddrPort, path string) { return x.Origin.Target(x.backend) }

// Source returns the local address of the connection to that backend. It is not valid where the kernel chooses.
func (f *Flow) Source() netip.Addr { return f.backend.Source() }

// Source is that of a flow.
func (x *Session) Source() netip.Addr { return x.backend.Source() }

func (o *Origin) Target(b *balancer.Backend) (addr netip.AddrPort, path string) {
	ep := b.Endpoint()
	switch {
	case ep.Path != "":
		return netip.AddrPort{}, ep.Path
	case ep.Addr.Port() == 0:
		return netip.AddrPortFrom(ep.Addr.Addr(), o.Local.Port()), ""
	case ep.Ports > 1:
		return netip.AddrPortFrom(ep.Addr.Addr(), ep.Addr.Port()+o.Offset), ""
	default:
		return ep.Addr, ""
	}
}
