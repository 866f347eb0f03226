package proxy

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"usher/proxy/flow"
)

// send sends p by c, whose raw form is raw, without waiting for room.
func (w *datagramWriter) send(c *net.UDPConn, raw syscall.RawConn, p []byte) flow.SendVerdict {
	if len(w.head) > 0 {
		w.joined = append(append(w.joined[:0], w.head...), p...)
		p = w.joined
	}
	v := classifySend(w.write(c, raw, p), false)
	if v == flow.SendAgain {
		v = classifySend(w.write(c, raw, p), true)
	}
	return v
}

// address has the datagram p of a session, which is sent next, tell its backend of the client
// if it must.
func (w *datagramWriter) address(m *flow.Sessions, x *flow.Session, p []byte, now time.Duration) {
	w.head = w.head[:0]
	if x.SendsProxy() && x.NeedsHeader(p, now) {
		w.head = m.AppendHeader(w.head, x)
		x.HeaderSent(now)
	}
}

// classifySend says what the error of a send means. Where a socket cannot be told not to
// wait, it has a deadline.
func classifySend(err error, again bool) flow.SendVerdict {
	switch {
	case err == nil:
		return flow.SendDone
	case errors.Is(err, os.ErrDeadlineExceeded):
		return flow.SendFull
	}
	return classifyError(err).SendVerdict(again)
}

// packetListener is a listening socket.
type packetListener struct {
	*net.UDPConn
	raw     syscall.RawConn
	at      *flow.Binding
	sockets *portableSockets // that it is one of; nil: it is one session's
	local   netip.AddrPort
	// replies is the one that replies leave by: itself, but for that of one session.
	replies *packetListener
	// users are the sessions that reply by it, and the replies under way. Once it is left
	// to them, the last one closes it.
	users  atomic.Int64
	isLeft atomic.Bool
	// isInherited is set if others may have the socket, too: it is neither connected nor emptied when it is given up.
	isInherited bool
	// refuses is set when it begins no more sessions.
	refuses atomic.Bool
	// v4 or v6 is there if the socket takes datagrams for any address: then the
	// one asked for comes with each, and goes with each reply.
	v4 *ipv4.PacketConn
	v6 *ipv6.PacketConn

	control [controlBytes]byte // of readFrom
}

// leave has the listener closed once no session replies by it.
func (l *packetListener) leave() {
	l.users.Add(1)
	l.isLeft.Store(true)
	l.release()
}

// release is called by a user that is done with the listener.
func (l *packetListener) release() {
	if l.users.Add(-1) == 0 && l.isLeft.Load() {
		l.Close()
	}
}

// read reads a datagram into p.
func (l *packetListener) read(d *passage, p []byte) (err error) {
	var src net.Addr
	var dst net.IP
	var from netip.AddrPort
	var n int
	d.Interface = 0
	switch {
	case l.v4 != nil:
		var cm *ipv4.ControlMessage
		if n, cm, src, err = l.v4.ReadFrom(p); cm != nil {
			dst, d.Interface = cm.Dst, int32(cm.IfIndex)
		}
	case l.v6 != nil:
		var cm *ipv6.ControlMessage
		if n, cm, src, err = l.v6.ReadFrom(p); cm != nil {
			dst, d.Interface = cm.Dst, int32(cm.IfIndex)
		}
	default:
		n, from, d.Interface, err = l.readFrom(p)
	}
	if a, ok := src.(*net.UDPAddr); ok {
		from = a.AddrPort()
	}
	d.listener, d.Local = l, l.local
	if a, ok := netip.AddrFromSlice(dst); ok && !a.IsMulticast() { // nobody answers from such a one
		d.Local = netip.AddrPortFrom(a.Unmap(), l.local.Port())
	}
	d.Peer, d.Payload = netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), p[:max(n, 0)]
	return err
}
