package proxy

import (
	"errors"
	"net"
	"time"

	"usher/proxy/flow"
)

// owner returns the session whose socket s is, or nil if it has another one by
// now, or has ended. It needs mu.
func (u *portableUDP) owner(s *packetSocket) *flow.Session {
	if u.sockets[s.id] != s {
		return nil
	}
	return u.sessions.At(s.id)
}

// failover moves a session whose backend is not there to another one, with what the
// first one has refused. It returns its new socket, nil if the session is over. It needs
// mu.
func (u *portableUDP) failover(x *flow.Session, s *packetSocket, now time.Duration) *packetSocket {
	l := s.listener
	l.users.Add(1)
	defer l.release()
	for {
		s.refused = true
		u.close(x)
		if a := u.sessions.PeerAbsent(x, now); a.Do != flow.Open || !u.open(x, l, now) {
			return nil
		}
		s = u.sockets[x.ID]
		if u.resend(x, s, now) {
			return s
		}
	}
}

// resend sends what is kept of a session by its new socket. It reports false if this
// backend is not there either. It needs mu.
func (u *portableUDP) resend(x *flow.Session, s *packetSocket, now time.Duration) bool {
	for p := range u.sessions.Copies(x) {
		u.again.address(u.sessions, x, p, now)
		switch v := u.again.send(s.UDPConn, s.raw, p); v {
		case flow.SendDone:
			u.sessions.Resent(x, 1, len(p), now)
		case flow.SendRefused:
			return false
		default:
			x.Service.CountUnsent(v)
			x.HeaderDropped()
		}
	}
	return true
}

// answer passes a session's replies to its client until the socket is closed.
func (u *portableUDP) answer(s *packetSocket, svc *Service) {
	read := datagramReader(s.UDPConn, &u.engine.large, svc.DropCounter(flow.DropReplies))
	var w *datagramWriter // while there was no reply
	for {
		buffer, n, err := read()
		if err == nil {
			w = u.reply(s, w, (*buffer)[:n])
			u.engine.large.Put(buffer)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if classifyError(err).IsPeerAbsent() {
			u.mu.Lock()
			if x := u.owner(s); x != nil {
				u.failover(x, s, u.engine.server.Now())
			}
			u.mu.Unlock()
		}
	}
}

// reply passes a reply on. It returns the writer for the next one, which w is.
func (u *portableUDP) reply(s *packetSocket, w *datagramWriter, p []byte) *datagramWriter {
	u.mu.Lock()
	x := u.owner(s)
	if x == nil {
		u.mu.Unlock()
		return w
	}
	l, svc := s.listener, x.Service
	l.users.Add(1) // also if the session ends with this reply
	defer l.release()
	if to := x.Sender(); w == nil || w.client != to {
		w = newReplyWriter(l, to, x.Local.Addr())
	}
	now := u.engine.server.Now()
	u.sessions.Replied(x, len(p), now)
	u.mu.Unlock()
	svc.CountUnsent(w.send(l.UDPConn, l.raw, p))
	return w
}
