package proxy

import "net/netip"

// controlBytes is for the packet information of one family.
const controlBytes = 64

// readFrom reads a datagram, and the index of the interface that it came by, if that is asked
// for.
func (l *packetListener) readFrom(p []byte) (n int, from netip.AddrPort, index int32, err error) {
	n, size, _, from, err := l.ReadMsgUDPAddrPort(p, l.control[:])
	return n, from, parseAncillary(l.control[:max(size, 0)]).index, err
}

// needInterface has a listener tell by which interface datagrams come.
func (l *packetListener) needInterface() {
	_ = l.raw.Control(func(fd uintptr) { askForLocalAddress(int32(fd), l.local.Addr().Is6()) })
}

// interfaceName returns the name of an interface. It needs mu, and that a datagram is routed.
func (u *portableUDP) interfaceName(index int32) (name string) {
	_ = u.routing.raw.Control(func(fd uintptr) {
		var names interfaceNames
		name = names.name(int32(fd), index)
	})
	return name
}
