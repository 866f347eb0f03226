package proxy

import (
	"net/netip"

	"usher/balancer"
)

// target returns where the reserved backend is reached by this flow: a path for
// a unix socket, else an address. A backend without a port gets the port that
// the client asked for; one with a range, the port at the listener's offset.
func (f *flow) target() (addr netip.AddrPort, path string) {
	return endpointFor(f.backend, f.local, f.offset)
}

func endpointFor(b *balancer.Backend, local netip.AddrPort, offset uint16) (addr netip.AddrPort, path string) {
	ep := b.Endpoint()
	switch {
	case ep.Path != "":
		return netip.AddrPort{}, ep.Path
	case ep.Addr.Port() == 0:
		return netip.AddrPortFrom(ep.Addr.Addr(), local.Port()), ""
	case ep.Ports > 1:
		return netip.AddrPortFrom(ep.Addr.Addr(), ep.Addr.Port()+offset), ""
	default:
		return ep.Addr, ""
	}
}
