package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"usher/balancer"
	"usher/conntrack"
)

// portableUDP is the UDP side of the portable engine: a goroutine for each
// listening socket, and one for each session's.
type portableUDP struct {
	engine    *portableEngine
	listeners []*packetListener

	mu       sync.Mutex // guards sessions and sockets
	sessions *sessions
	sockets  map[conntrack.ID]*packetSocket

	loops   sync.WaitGroup
	replies sync.WaitGroup
}

// packetSocket is the socket of a session. It is replaced, never reused.
type packetSocket struct {
	*net.UDPConn
	id       conntrack.ID
	listener *packetListener // that the client's last datagram came by
}

func newPortableUDP(e *portableEngine) *portableUDP {
	u := &portableUDP{engine: e, sockets: make(map[conntrack.ID]*packetSocket)}
	u.sessions = newSessions(e.server, u.close)
	return u
}

// listen binds the sockets of a listener. All addresses of both families take two:
// the packet information of one socket for both cannot be told apart here.
func (u *portableUDP) listen(svc *Service, l Listener) ([]netip.AddrPort, error) {
	var bound []netip.AddrPort
	for i := range l.count() {
		at := l.at(i)
		if at.Addr() != netip.IPv6Unspecified() {
			local, err := u.bind(svc, at, uint16(i))
			if err != nil {
				return nil, err
			}
			bound = append(bound, local)
			continue
		}
		local, err := u.bind(svc, netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port()), uint16(i))
		if err != nil {
			return nil, err
		}
		at = netip.AddrPortFrom(at.Addr(), local.Port())
		if _, err := u.bind(svc, at, uint16(i)); err != nil && !errors.Is(err, syscall.EAFNOSUPPORT) {
			return nil, err
		}
		bound = append(bound, at)
	}
	return bound, nil
}

func (u *portableUDP) bind(svc *Service, at netip.AddrPort, offset uint16) (local netip.AddrPort, err error) {
	network := "udp6"
	if at.Addr().Is4() {
		network = "udp4"
	}
	var config net.ListenConfig
	pc, err := config.ListenPacket(context.Background(), network, at.String())
	if err != nil {
		return local, err
	}
	c := pc.(*net.UDPConn)
	_ = c.SetReadBuffer(4 << 20) // as much of it as the system grants
	local = netip.AddrPortFrom(at.Addr(), uint16(c.LocalAddr().(*net.UDPAddr).Port))
	l := &packetListener{UDPConn: c, svc: svc, local: local, offset: offset}
	u.listeners = append(u.listeners, l)
	switch {
	case at.Addr() == netip.IPv4Unspecified():
		l.v4 = ipv4.NewPacketConn(c)
		err = l.v4.SetControlMessage(ipv4.FlagDst, true)
	case at.Addr() == netip.IPv6Unspecified():
		l.v6 = ipv6.NewPacketConn(c)
		err = l.v6.SetControlMessage(ipv6.FlagDst, true)
	}
	if err != nil {
		return local, fmt.Errorf("listen udp %v: packet information: %w", at, err)
	}
	return local, nil
}

func (u *portableUDP) start() {
	for _, l := range u.listeners {
		u.loops.Go(func() { u.receive(l) })
	}
	u.loops.Go(u.expire)
}

// receive takes datagrams to the backends until the listening socket is closed.
func (u *portableUDP) receive(l *packetListener) {
	buffer := make([]byte, largeBuffer)
	for {
		n, from, local, err := l.read(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // what an earlier reply has met
		}
		if s := u.route(l, from, local); s != nil {
			u.forward(s, l, from, local, buffer[:n])
		}
	}
}

// route returns the socket that a datagram leaves by, or nil if it is dropped.
func (u *portableUDP) route(l *packetListener, from, local netip.AddrPort) *packetSocket {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := u.engine.server.Now()
	x, fresh, _ := u.sessions.route(l.svc, from, local, l.offset, now)
	if x == nil || fresh && !u.open(x, l, now) {
		l.svc.dropped[DropRefused].Add(1)
		return nil
	}
	s := u.sockets[x.id]
	s.listener = l
	u.sessions.sent(x, 1, 0, now) // now, for the reply may be faster than Write
	return s
}

// open makes a session's socket. It reports false if the session is over. It
// needs mu.
func (u *portableUDP) open(x *session, l *packetListener, now time.Duration) bool {
	relieved := false
	for {
		c, err := u.dial(x)
		if err == nil {
			s := &packetSocket{UDPConn: c, id: x.id, listener: l}
			u.sockets[x.id] = s
			u.replies.Go(func() { u.answer(s) })
			return true
		}
		switch {
		case isSocketShortage(err):
			if relieved || !u.sessions.relieve(x, now) {
				u.sessions.end(x, LimitReached, now)
				return false
			}
			relieved = true
		case !u.sessions.unreachable(x):
			u.sessions.end(x, Refused, now)
			return false
		}
	}
}

// dial returns a socket to a session's backend.
func (u *portableUDP) dial(x *session) (*net.UDPConn, error) {
	to, path := endpointFor(x.backend, x.local, x.offset)
	if !to.Addr().IsValid() {
		return nil, fmt.Errorf("%s: a unix socket is no place for datagrams", path)
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err == nil && c.LocalAddr().String() == c.RemoteAddr().String() {
		// Nobody listens there, and the system has given us the very port.
		c.Close()
		return nil, syscall.ECONNREFUSED
	}
	return c, err
}

// isSocketShortage reports whether an error says that descriptors, memory or local
// ports have run out.
func isSocketShortage(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EAGAIN, syscall.EADDRINUSE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// forward sends a datagram to the backend of the session that it was routed to.
func (u *portableUDP) forward(s *packetSocket, l *packetListener, from, local netip.AddrPort, p []byte) {
	again := false
	for s != nil {
		_, err := s.Write(p)
		if errors.Is(err, net.ErrClosed) {
			// The session has moved to another backend or ended since route.
			s = u.route(l, from, local)
			continue
		}
		if err != nil && !isUnreachable(err) && !again {
			again = true // the error may be an earlier datagram's
			continue
		}
		s = u.sent(s, len(p), err)
	}
}

// sent takes note of a Write. It returns the socket to try next, or nil.
func (u *portableUDP) sent(s *packetSocket, n int, err error) *packetSocket {
	now := u.engine.server.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	svc := s.listener.svc
	x := u.owner(s)
	switch {
	case err == nil && x != nil:
		u.sessions.sent(x, 0, n, now)
	case err == nil: // it has just ended
	case isUnreachable(err) && x != nil:
		if s = u.elsewhere(x, s, now); s != nil {
			u.sessions.sent(x, 1, 0, now)
			return s
		}
		svc.dropped[DropRefused].Add(1)
	case isUnreachable(err):
		return s // it is closed, so the datagram is routed anew
	case errors.Is(err, syscall.EMSGSIZE):
		svc.dropped[DropOversized].Add(1)
	default:
		svc.dropped[DropRefused].Add(1)
	}
	return nil
}

// owner returns the session whose socket s is, or nil if it has another one by
// now, or has ended. It needs mu.
func (u *portableUDP) owner(s *packetSocket) *session {
	if u.sockets[s.id] != s {
		return nil
	}
	return u.sessions.at(s.id)
}

// elsewhere moves a session whose backend is not there to another one. It returns
// its new socket, nil if the session is over. It needs mu.
func (u *portableUDP) elsewhere(x *session, s *packetSocket, now time.Duration) *packetSocket {
	u.close(x)
	if !u.sessions.unreachable(x) {
		u.sessions.end(x, Refused, now)
		return nil
	}
	if !u.open(x, s.listener, now) {
		return nil
	}
	return u.sockets[x.id]
}

// answer passes a session's replies to its client until the socket is closed.
func (u *portableUDP) answer(s *packetSocket) {
	read := datagramReader(s.UDPConn, &u.engine.large)
	for {
		buffer, n, err := read()
		if err == nil {
			u.reply(s, (*buffer)[:n])
			u.engine.large.Put(buffer)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if isUnreachable(err) {
			u.mu.Lock()
			if x := u.owner(s); x != nil {
				u.elsewhere(x, s, u.engine.server.Now())
			}
			u.mu.Unlock()
		}
	}
}

func (u *portableUDP) reply(s *packetSocket, p []byte) {
	u.mu.Lock()
	x := u.owner(s)
	if x == nil {
		u.mu.Unlock()
		return
	}
	l, to, local, svc := s.listener, x.client, x.local, x.svc
	now := u.engine.server.Now()
	if u.sessions.replied(x, len(p), now) {
		u.sessions.end(x, Replied, now)
	}
	u.mu.Unlock()
	if err := l.write(p, to, local); errors.Is(err, syscall.EMSGSIZE) {
		svc.dropped[DropOversized].Add(1)
	} else if err != nil {
		svc.dropped[DropRefused].Add(1)
	}
}

// close closes the socket of a session. It needs mu.
func (u *portableUDP) close(x *session) {
	if s := u.sockets[x.id]; s != nil {
		s.UDPConn.Close()
		delete(u.sockets, x.id)
	}
}

// expire ends what has been silent for too long.
func (u *portableUDP) expire() {
	const soon, late = 10 * time.Millisecond, 250 * time.Millisecond
	timer := time.NewTimer(late)
	defer timer.Stop()
	for {
		select {
		case <-u.engine.done:
			return
		case <-timer.C:
		}
		now := u.engine.server.Now()
		u.mu.Lock()
		u.sessions.expire(now)
		next, ok := u.sessions.table.Next()
		u.mu.Unlock()
		if !ok {
			next = now + late
		}
		timer.Reset(min(max(next-now, soon), late))
	}
}

func (u *portableUDP) drain() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sessions.drain()
}

func (u *portableUDP) cutBackend(b *balancer.Backend) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sessions.cutBackend(b, u.engine.server.Now())
}

// stop ends all sessions and waits for the goroutines. The engine's done is closed.
func (u *portableUDP) stop() {
	for _, l := range u.listeners {
		l.Close()
	}
	u.loops.Wait()
	u.mu.Lock()
	u.sessions.endAll(Drained, u.engine.server.Now(), func(*session) bool { return true })
	u.mu.Unlock()
	u.replies.Wait()
}
