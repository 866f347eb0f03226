//go:build !unix

package proxy

import (
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// patience is how long a write may wait for room, where it cannot be told not to wait.
const patience = time.Millisecond

// datagramWriter sends datagrams and hardly waits for room, or one socket that is
// full would hold up all clients that share a goroutine or a socket with it. One
// goroutine at a time may use it.
type datagramWriter struct {
	head          []byte          // goes before each datagram
	joined        []byte          // both
	listener      *packetListener // nil: the socket is connected
	client, local netip.AddrPort
}

// newDatagramWriter returns a writer for connected sockets.
func newDatagramWriter() *datagramWriter { return &datagramWriter{} }

// newReplyWriter returns a writer to a client, by the listening socket that it asked.
// One that takes datagrams for any address is told to send from the one asked for.
func newReplyWriter(l *packetListener, client netip.AddrPort, source netip.Addr) *datagramWriter {
	return &datagramWriter{listener: l, client: client, local: netip.AddrPortFrom(source, l.local.Port())}
}

// write sends p by c.
func (w *datagramWriter) write(c *net.UDPConn, _ syscall.RawConn, p []byte) error {
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	if w.listener != nil {
		return w.listener.write(p, w.client, w.local)
	}
	_, err := c.Write(p)
	return err
}

// write sends a reply to a client, from the address that it asked.
func (l *packetListener) write(p []byte, to, local netip.AddrPort) error {
	var err error
	switch {
	case local.Addr().IsUnspecified() || l.v4 == nil && l.v6 == nil:
		_, err = l.WriteToUDPAddrPort(p, to)
	case l.v4 != nil:
		_, err = l.v4.WriteTo(p, &ipv4.ControlMessage{Src: local.Addr().AsSlice()}, net.UDPAddrFromAddrPort(to))
	default:
		_, err = l.v6.WriteTo(p, &ipv6.ControlMessage{Src: local.Addr().AsSlice()}, net.UDPAddrFromAddrPort(to))
	}
	return err
}
