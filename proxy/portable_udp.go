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
	raw      syscall.RawConn
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
	if l.raw, err = c.SyscallConn(); err != nil {
		return local, fmt.Errorf("listen udp %v: %w", at, err)
	}
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
	w := newDatagramWriter()
	for {
		n, from, local, err := l.read(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // what an earlier reply has met
		}
		if s := u.route(l, from, local, n); s != nil {
			u.forward(s, w, l, from, local, buffer[:n])
		}
	}
}

// route returns the socket that a datagram of n bytes leaves by, or nil if it is
// dropped.
func (u *portableUDP) route(l *packetListener, from, local netip.AddrPort, n int) *packetSocket {
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
	u.sessions.sent(x, 1, n, now) // now, for the reply, and the end with it, may be faster than the return of the call
	return s
}

// open makes a session's socket. It reports false if the session is over. It
// needs mu.
func (u *portableUDP) open(x *session, l *packetListener, now time.Duration) bool {
	relieved := false
	for {
		s, err := u.dial(x)
		if err == nil {
			s.id, s.listener = x.id, l
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
func (u *portableUDP) dial(x *session) (*packetSocket, error) {
	to, path := endpointFor(x.backend, x.local, x.offset)
	if !to.Addr().IsValid() {
		return nil, fmt.Errorf("%s: a unix socket is no place for datagrams", path)
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return nil, err
	}
	if c.LocalAddr().String() == c.RemoteAddr().String() {
		// Nobody listens there, and the system has given us the very port.
		c.Close()
		return nil, syscall.ECONNREFUSED
	}
	raw, err := c.SyscallConn()
	if err != nil {
		c.Close()
		return nil, err
	}
	return &packetSocket{UDPConn: c, raw: raw}, nil
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
func (u *portableUDP) forward(s *packetSocket, w *datagramWriter, l *packetListener, from, local netip.AddrPort, p []byte) {
	again := false
	for s != nil {
		err := w.send(s.UDPConn, s.raw, p)
		if errors.Is(err, net.ErrClosed) {
			// The session has moved to another backend or ended since route.
			s = u.route(l, from, local, len(p))
			continue
		}
		if err != nil && err != errFull && !isUnreachable(err) && !again {
			again = true // the error may be an earlier datagram's
			continue
		}
		again = false
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
	if x != nil && (err == errFull || errors.Is(err, syscall.EMSGSIZE)) {
		u.sessions.unsent(x, n, now)
	}
	switch {
	case err == nil:
	case err == errFull:
		svc.dropped[DropFull].Add(1)
	case errors.Is(err, syscall.EMSGSIZE):
		svc.dropped[DropOversized].Add(1)
	case x != nil:
		// Nobody is there. Or a firewall here forbids it, or the socket's own address
		// is gone: nothing goes this way any more, and waiting does not help.
		if s = u.elsewhere(x, s, now); s != nil {
			u.sessions.sent(x, 1, 0, now)
			return s
		}
		svc.dropped[DropRefused].Add(1)
	default:
		return s // it is closed, so the datagram is routed anew
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
		if isUnreachable(err) {
			u.mu.Lock()
			if x := u.owner(s); x != nil {
				u.elsewhere(x, s, u.engine.server.Now())
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
	l, svc := s.listener, x.svc
	if w == nil {
		w = newReplyWriter(l, x.client, x.local.Addr())
	}
	now := u.engine.server.Now()
	if u.sessions.replied(x, len(p), now) {
		u.sessions.end(x, Replied, now)
	}
	u.mu.Unlock()
	switch err := w.send(l.UDPConn, l.raw, p); {
	case err == nil:
	case err == errFull:
		svc.dropped[DropFull].Add(1)
	case errors.Is(err, syscall.EMSGSIZE):
		svc.dropped[DropOversized].Add(1)
	default:
		svc.dropped[DropRefused].Add(1)
	}
	return w
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

// giveWay takes a place for a connection.
func (u *portableUDP) giveWay(svc *Service) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.sessions.giveWay(svc, u.engine.server.Now())
}

func (u *portableUDP) drain() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sessions.drain()
}

func (u *portableUDP) cutBackend(b *balancer.Backend) {
	for from, more := 0, true; more; from += cutShare {
		u.mu.Lock()
		more = u.sessions.cutBackend(b, from, u.engine.server.Now())
		u.mu.Unlock()
	}
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
