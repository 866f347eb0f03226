//go:build unix

package proxy

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// datagramWriter sends datagrams and never waits for room, or one socket that is
// full would hold up all clients that share a goroutine or a socket with it. One
// goroutine at a time may use it.
type datagramWriter struct {
	head    []byte         // goes before each datagram
	joined  []byte         // both
	client  netip.AddrPort // invalid: the socket is connected
	to      unix.Sockaddr  // of client
	control []byte         // the address to send from, if it has to be said

	p   []byte
	err error
	try func(fd uintptr) bool // bound once
}

// newDatagramWriter returns a writer for connected sockets.
func newDatagramWriter() *datagramWriter {
	w := &datagramWriter{}
	w.try = w.attempt
	return w
}

// newReplyWriter returns a writer to a client, by the listening socket that it asked.
// One that takes datagrams for any address is told to send from the one asked for.
func newReplyWriter(l *packetListener, client netip.AddrPort, source netip.Addr) *datagramWriter {
	w := newDatagramWriter()
	w.client = client
	if addr := client.Addr(); addr.Is4() {
		w.to = &unix.SockaddrInet4{Port: int(client.Port()), Addr: addr.As4()}
	} else {
		w.to = &unix.SockaddrInet6{Port: int(client.Port()), Addr: addr.As16(), ZoneId: zones.index(addr.Zone())}
	}
	switch {
	case source.IsUnspecified():
	case l.v4 != nil:
		w.control = (&ipv4.ControlMessage{Src: source.AsSlice()}).Marshal()
	case l.v6 != nil:
		w.control = (&ipv6.ControlMessage{Src: source.AsSlice()}).Marshal()
	}
	return w
}

// write sends p by the socket whose raw form is raw.
func (w *datagramWriter) write(_ *net.UDPConn, raw syscall.RawConn, p []byte) error {
	err := w.writeFrom(raw, p)
	if source := w.control; source != nil && (errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EINVAL)) {
		// The client may have asked a broadcast address, from where nobody can answer.
		w.control = nil
		if e := w.writeFrom(raw, p); e == nil {
			return nil
		}
		w.control = source
	}
	return err
}

func (w *datagramWriter) writeFrom(raw syscall.RawConn, p []byte) error {
	w.p = p
	err := raw.Write(w.try)
	w.p = nil
	if err != nil {
		return net.ErrClosed
	}
	return w.err
}

// attempt reports that it is done in any case, for RawConn.Write waits otherwise.
func (w *datagramWriter) attempt(fd uintptr) bool {
	for {
		switch {
		case w.to == nil:
			_, w.err = unix.Write(int(fd), w.p)
		case w.control == nil || len(w.p) == 0 && runtime.GOOS != "linux":
			// In the latter case SendmsgN would send one byte where there is none.
			w.err = unix.Sendto(int(fd), w.p, 0, w.to)
		default:
			_, w.err = unix.SendmsgN(int(fd), w.p, w.control, w.to, 0)
		}
		if w.err != unix.EINTR && (w.err != unix.EAGAIN || !widenSendBuffer(int32(fd))) {
			return true
		}
	}
}
