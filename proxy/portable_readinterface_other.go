//go:build !linux

package proxy

import "net/netip"

const controlBytes = 0

// readFrom reads a datagram. Interfaces are not known here; see knowsInterfaces.
func (l *packetListener) readFrom(p []byte) (n int, from netip.AddrPort, index int32, err error) {
	n, from, err = l.ReadFromUDPAddrPort(p)
	return n, from, 0, err
}

func (l *packetListener) needInterface() {}

func (u *portableUDP) interfaceName(int32) string { return "" }
