//go:build !linux

package proxy

import (
	"context"
	"net"
	"net/netip"
)

// listenPacket binds a socket.
func listenPacket(network string, at netip.AddrPort) (*net.UDPConn, error) {
	var config net.ListenConfig
	pc, err := config.ListenPacket(context.Background(), network, at.String())
	c, _ := pc.(*net.UDPConn)
	return c, err
}

// giveUpAddresses has listeners refuse new flows: only Linux lets a socket send from an
// address that another one owns. A successor can have it when the last flow has ended.
func (u *portableUDP) giveUpAddresses(all []*packetListener) {
	for _, l := range all {
		l.refuses.Store(true)
	}
}

// openAllFronts does nothing here: flows keep the address until they end.
func (u *portableUDP) openAllFronts([]*packetListener) {}
