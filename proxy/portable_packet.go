package proxy

import (
	"errors"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// errFull says that a socket has no room for a datagram at the moment.
var errFull = errors.New("send buffer full")

// packetListener is a listening socket.
type packetListener struct {
	*net.UDPConn
	raw    syscall.RawConn
	svc    *Service
	local  netip.AddrPort
	offset uint16
	// v4 or v6 is there if the socket takes datagrams for any address: then the
	// one asked for comes with each, and goes with each reply.
	v4 *ipv4.PacketConn
	v6 *ipv6.PacketConn
}

// read returns a datagram, who sent it and the address that it was sent to.
func (l *packetListener) read(p []byte) (n int, from, local netip.AddrPort, err error) {
	var src net.Addr
	var dst net.IP
	switch {
	case l.v4 != nil:
		var cm *ipv4.ControlMessage
		if n, cm, src, err = l.v4.ReadFrom(p); cm != nil {
			dst = cm.Dst
		}
	case l.v6 != nil:
		var cm *ipv6.ControlMessage
		if n, cm, src, err = l.v6.ReadFrom(p); cm != nil {
			dst = cm.Dst
		}
	default:
		n, from, err = l.ReadFromUDPAddrPort(p)
	}
	if a, ok := src.(*net.UDPAddr); ok {
		from = a.AddrPort()
	}
	local = l.local
	if a, ok := netip.AddrFromSlice(dst); ok && !a.IsMulticast() { // nobody answers from such a one
		local = netip.AddrPortFrom(a.Unmap(), local.Port())
	}
	return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), local, err
}
