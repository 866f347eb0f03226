package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"usher/conntrack"
	"usher/proxy/flow"
)

// portableUDP is the UDP side of the portable engine: a goroutine for each
// listening socket, and one for each session's.
type portableUDP struct {
	engine *portableEngine

	mu       sync.Mutex // guards what follows
	sessions *flow.Sessions
	sockets  map[conntrack.ID]*packetSocket
	fronts   map[conntrack.ID]*packetListener // of sessions whose address was given up
	again    *datagramWriter                  // of what another backend has refused
	routing  *packetListener                  // that the datagram under way has come by
	served   map[*packetListener]bool

	receiving sync.WaitGroup // what receives for sessions whose address was given up
	replies   sync.WaitGroup
}

// packetSocket is the socket of a session. It is replaced, never reused.
type packetSocket struct {
	*net.UDPConn
	raw      syscall.RawConn
	id       conntrack.ID
	listener *packetListener // that replies leave by: of the client's last datagram
	isUser   bool            // of listener
	refused  bool            // it was replaced by one to another backend, or by none
}

func newPortableUDP(e *portableEngine) *portableUDP {
	u := &portableUDP{engine: e, sockets: make(map[conntrack.ID]*packetSocket), fronts: make(map[conntrack.ID]*packetListener), again: newDatagramWriter(), served: make(map[*packetListener]bool)}
	u.sessions = flow.NewSessions(&e.server.admission, e.server.capacity, u.end, func(s flow.Shortage) bool {
		if e.reclaimed.Load() == 0 {
			e.reclaim(s) // whose place is free in a moment: this datagram is refused
		}
		return false
	})
	u.sessions.InterfaceName = u.interfaceName
	return u
}

// serve begins to receive at a listening socket.
func (u *portableUDP) serve(l *packetListener) {
	u.mu.Lock()
	u.served[l] = true
	if u.engine.server.asksInterface.Load() {
		l.needInterface()
	}
	u.mu.Unlock()
	l.sockets.loops.Go(func() { u.receive(l) })
}

// needInterfaces has all listening sockets tell by which interface datagrams come.
func (u *portableUDP) needInterfaces() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for l := range u.served {
		l.needInterface()
	}
}

// bindPackets binds the sockets of a binding. All addresses of both families take two:
// the packet information of one socket for both cannot be told apart here.
func bindPackets(b *binding, sockets *portableSockets) error {
	if !b.at.BothFamilies() {
		return sockets.bindPacket(b, b.at.Addr)
	}
	if err := sockets.bindPacket(b, netip.AddrPortFrom(netip.IPv4Unspecified(), b.at.Addr.Port())); err != nil {
		return err
	}
	at := netip.AddrPortFrom(b.at.Addr.Addr(), b.local.Port())
	err := sockets.bindPacket(b, at)
	if errors.Is(err, syscall.EAFNOSUPPORT) {
		err = nil
	}
	b.local = at
	return err
}

func (p *portableSockets) bindPacket(b *binding, at netip.AddrPort) error {
	network := "udp6"
	if at.Addr().Is4() {
		network = "udp4"
	}
	c, err := listenPacket(network, at)
	if err != nil {
		return err
	}
	return p.addPacket(b, c, at)
}

// addPacket adds a bound socket to those of a binding.
func (p *portableSockets) addPacket(b *binding, c *net.UDPConn, at netip.AddrPort) (err error) {
	b.local = netip.AddrPortFrom(at.Addr(), uint16(c.LocalAddr().(*net.UDPAddr).Port))
	l := &packetListener{UDPConn: c, at: &b.Binding, sockets: p, local: b.local}
	l.replies = l
	p.packets = append(p.packets, l)
	if l.raw, err = c.SyscallConn(); err != nil {
		return fmt.Errorf("listen udp %v: %w", at, err)
	}
	widenConn(c, l.raw)
	switch {
	case at.Addr() == netip.IPv4Unspecified():
		l.v4 = ipv4.NewPacketConn(c)
		err = l.v4.SetControlMessage(ipv4.FlagDst, true)
	case at.Addr() == netip.IPv6Unspecified():
		l.v6 = ipv6.NewPacketConn(c)
		err = l.v6.SetControlMessage(ipv6.FlagDst, true)
	}
	if err != nil {
		return fmt.Errorf("listen udp %v: packet information: %w", at, err)
	}
	return nil
}

// replyBy has the replies of a session leave by a listener. It needs mu.
func (s *packetSocket) replyBy(l *packetListener) {
	if s.isUser && s.listener == l {
		return
	}
	l.users.Add(1)
	s.releaseListener()
	s.listener, s.isUser = l, true
}

func (s *packetSocket) releaseListener() {
	if s.isUser {
		s.isUser = false
		s.listener.release()
	}
}

// receive takes datagrams to the backends until the listening socket is closed, or nothing
// comes to it any more.
func (u *portableUDP) receive(l *packetListener) {
	buffer := make([]byte, largeBuffer)
	d := &passage{writer: newDatagramWriter()}
	for isIdle := true; ; {
		err := l.read(d, buffer)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && !isIdle && !l.isInherited: // more may wait than there was time for
			isIdle = true
			_ = l.SetReadDeadline(time.Now().Add(drainStep))
			continue
		case errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded):
			return
		case err != nil:
			continue // what an earlier reply has met
		}
		isIdle = false
		u.pass(d)
	}
}

// passage is a datagram on its way to a backend.
type passage struct {
	flow.Arrival
	writer   *datagramWriter
	listener *packetListener // that it has come by
	p        []byte          // what is passed on
	kept     uint64          // where, if its backend is in doubt
}

// pass sends a datagram to the backend of its session. If that moves to another backend or
// ends meanwhile, it is routed anew.
func (u *portableUDP) pass(d *passage) {
	s := u.route(d)
	for s != nil {
		v := d.writer.send(s.UDPConn, s.raw, d.p)
		next, isGone := u.sent(s, d, v)
		if s = next; isGone {
			s = u.route(d)
		}
	}
}

// route returns the socket that a datagram leaves by, or nil if it is dropped.
func (u *portableUDP) route(d *passage) *packetSocket {
	u.mu.Lock()
	defer u.mu.Unlock()
	now, l := u.engine.server.Now(), d.listener
	d.KnownOnly, u.routing = l.refuses.Load(), l
	x, a := u.sessions.Route(l.at, &d.Arrival, now)
	u.routing = nil // it may be gone before the next one
	if x == nil || a.Do == flow.Open && !u.open(x, l.replies, now) {
		to, _ := l.at.DestinationFor(d.Peer.Addr())
		to.Service.CountDrop(flow.DropRefused, 1)
		return nil
	}
	s := u.sockets[x.ID]
	s.replyBy(l.replies)
	if f := u.fronts[x.ID]; f != nil {
		f.replies = s.listener
	}
	d.p = d.Payload[d.Skip:]
	d.writer.address(u.sessions, x, d.p, now)
	// Now, for the reply, and the end with it, or the refusal may be faster than the
	// return of the call.
	u.sessions.Sent(x, 1, len(d.p), now)
	d.kept = 0
	if u.sessions.Doubts(x, now) {
		var copied []byte
		d.kept, copied = u.sessions.Keep(x, 1, len(d.p), 0, now)
		copy(copied, d.p)
	}
	return s
}

// open makes a session's socket. It reports false if the session is over. It
// needs mu.
func (u *portableUDP) open(x *flow.Session, l *packetListener, now time.Duration) bool {
	for {
		s, err := u.dial(x)
		if err == nil {
			s.id = x.ID
			s.replyBy(l)
			u.sockets[x.ID] = s
			svc := x.Service
			u.replies.Go(func() { u.answer(s, svc) })
			return true
		}
		if a := u.sessions.OpenFailed(x, classifyError(err), now); a.Do != flow.Open {
			return false
		}
	}
}

// dial returns a socket to a session's backend.
func (u *portableUDP) dial(x *flow.Session) (*packetSocket, error) {
	to, path := x.Target()
	if !to.Addr().IsValid() {
		return nil, fmt.Errorf("%s: a unix socket is no place for datagrams", path)
	}
	var own *net.UDPAddr // nil: the kernel chooses
	if source := x.Source(); source.IsValid() {
		own = net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	}
	c, err := net.DialUDP("udp", own, net.UDPAddrFromAddrPort(to))
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
	widenConn(c, raw)
	return &packetSocket{UDPConn: c, raw: raw}, nil
}

// sent takes note of what came of sending a datagram. It returns the socket to try next, or
// nil, and whether there is none because s is its session's no more.
func (u *portableUDP) sent(s *packetSocket, d *passage, v flow.SendVerdict) (next *packetSocket, isGone bool) {
	now := u.engine.server.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	svc := s.listener.at.Destination().Service
	x := u.owner(s)
	switch {
	case v != flow.SendRefused:
		if x != nil && v != flow.SendDone {
			u.sessions.Unsent(x, d.kept, len(d.p), now)
		}
		svc.CountUnsent(v)
		return nil, false
	case x == nil:
		return nil, d.kept == 0 || !s.refused // with all that was kept it was sent again, or dropped
	}
	if d.kept == 0 {
		u.sessions.Unsent(x, 0, len(d.p), now)
	}
	next = u.failover(x, s, now)
	switch {
	case d.kept != 0: // it was sent again, or dropped and counted
		return nil, false
	case next == nil:
		svc.CountUnsent(v)
	default:
		d.writer.address(u.sessions, x, d.p, now)
		u.sessions.Sent(x, 1, len(d.p), now)
	}
	return next, false
}

// close closes the socket of a session. It needs mu.
func (u *portableUDP) close(x *flow.Session) {
	if s := u.sockets[x.ID]; s != nil {
		s.UDPConn.Close()
		s.releaseListener()
		delete(u.sockets, x.ID)
	}
}

// end closes the sockets of a session. It needs mu.
func (u *portableUDP) end(x *flow.Session) {
	u.close(x)
	if l := u.fronts[x.ID]; l != nil {
		l.Close()
		delete(u.fronts, x.ID)
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
		u.sessions.Expire(now)
		next, ok := u.sessions.NextDeadline()
		u.mu.Unlock()
		if !ok {
			next = now + late
		}
		timer.Reset(min(max(next-now, soon), late))
	}
}

// evict ends a session that a connection is short of room for.
func (u *portableUDP) evict(s flow.Shortage) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.sessions.Evict(s, nil, u.engine.server.Now())
}

func (u *portableUDP) drain() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sessions.Drain()
}

func (u *portableUDP) cut(t flow.CutTarget) {
	for from, more := 0, true; more; {
		u.mu.Lock()
		from, more = u.sessions.CutFlows(t, from, u.engine.server.Now())
		u.mu.Unlock()
	}
}

// endLeave waits for listeners that receive nothing any more, and leaves each to the
// sessions that reply by it.
func (u *portableUDP) endLeave(all []*packetListener) {
	for _, l := range all {
		if loops := &l.sockets.loops; l.refuses.Load() {
			u.receiving.Go(loops.Wait) // as long as there are sessions
		} else {
			loops.Wait()
		}
	}
	u.openAllFronts(all) // for sessions that began meanwhile
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, l := range all {
		delete(u.served, l)
		l.leave()
	}
}

// stop ends all sessions and waits for the goroutines. The engine's done is closed.
func (u *portableUDP) stop() {
	u.mu.Lock()
	u.sessions.Stop(u.engine.server.Now())
	u.mu.Unlock()
	u.receiving.Wait()
	u.replies.Wait()
}
