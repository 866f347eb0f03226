package proxy

import (
	"net/netip"
	"time"

	"usher/balancer"
	"usher/conntrack"
)

// session is the policy of one UDP flow: which client, which backend, until when.
// Like flow it does no I/O and reads no clock.
type session struct {
	svc        *Service
	ent        *entry
	id         conntrack.ID
	backend    *balancer.Backend // the last one reserved, or nil
	holding    bool              // backend is reserved and has to be released
	chosenDown bool              // backend was down when it was chosen

	client netip.AddrPort
	local  netip.AddrPort // what the client asked for; a reply comes from there
	offset uint16         // of the listener's port within its range

	opened  time.Duration
	ends    time.Duration  // it does not last beyond that; zero is for ever
	sticky  conntrack.Hold // on its client's persistence
	asked   int            // datagrams passed on to the backend
	replies int            // so far, of this backend
	refused balancer.Tried
}

// tries is how many backends the session was sent to.
func (x *session) tries() uint8 {
	n := x.refused.Len()
	if !x.refused.Has(x.backend) {
		n++
	}
	return uint8(n)
}

// sessions are the UDP flows of one worker: who is given which backend, who makes
// room for whom, when a flow is over. One goroutine at a time may use them. The
// engine keeps a socket for each session, and closes it when cut tells it to.
type sessions struct {
	server *Server
	table  *table
	slots  [][]session // by slot of the table; chunks never move
	once   map[onceKey]conntrack.ID
	cut    func(*session)
	// others asks the workers beside this one to yield; nil if there are none.
	others func(crowd *Service, short bool)
	asked  time.Duration      // when they were last asked
	fire   func(conntrack.ID) // bound once
	sticky conntrack.Hold     // of the session that is about to be opened
	now    time.Duration      // of the call of expire
	closed bool               // draining: no new sessions
}

const sessionChunk = 64

const (
	// evictGrace is how long a flow may wait for its first reply before a new one can
	// take its place: until then nothing is wrong with it. A sender that knows nothing
	// of the way to its peer takes no datagram for lost before a second has passed
	// (RFC 8961, section 4). Without grace, flows that begin faster than backends answer
	// would evict each other and nobody would be served. With it some are served, and
	// the others are refused.
	evictGrace = time.Second
	// askEvery bounds how often one worker, however flooded, wakes the others.
	askEvery = time.Millisecond
)

// onceKey finds the sessions of services that schedule each datagram: one client
// may have as many as there are backends, with the same key in the table.
type onceKey struct {
	key     conntrack.Key
	backend *balancer.Backend
}

func newSessions(s *Server, cut func(*session)) *sessions {
	m := &sessions{
		server: s,
		table:  conntrack.NewIndexed[Service, balancer.Backend](int(s.maxConns)),
		once:   make(map[onceKey]conntrack.ID),
		cut:    cut,
	}
	m.fire = m.expired
	return m
}

// at returns the session in a slot of the table.
func (m *sessions) at(id conntrack.ID) *session { return &m.slots[id/sessionChunk][id%sessionChunk] }

// route returns the session that a datagram belongs to. A new one has a backend
// reserved, and the engine is to open its socket. Without room, the oldest session
// that has waited for a reply in vain makes place. The outcome says why there is no
// session: the engine drops the datagram then.
func (m *sessions) route(svc *Service, client, local netip.AddrPort, offset uint16, now time.Duration) (x *session, fresh bool, o Outcome) {
	if svc.UDP.OnePacket {
		return m.routeOnce(svc, client, local, offset, now)
	}
	k := conntrack.NewKey(conntrack.UDP, client, local)
	if id, ent := m.table.Lookup(k); ent != nil && ent.Service() == svc {
		if x = m.at(id); !m.stranded(x) {
			return x, false, Running // the key has no zone, so services on two links may share it
		}
		m.end(x, BackendDown, now)
	}
	x = nil
	b, o := m.choose(svc, client, local, now)
	if b != nil {
		x, o = m.open(k, svc, b, client, local, offset, now)
	}
	return x, x != nil, m.refuse(svc, o)
}

// routeOnce chooses a backend for each datagram anew. A session is then no more
// than the socket between one client, the address that it asks, and one backend,
// over which the replies find back.
func (m *sessions) routeOnce(svc *Service, client, local netip.AddrPort, offset uint16, now time.Duration) (x *session, fresh bool, o Outcome) {
	b, o := m.choose(svc, client, local, now)
	if b == nil {
		return nil, false, m.refuse(svc, o)
	}
	k := onceKey{conntrack.NewKey(conntrack.UDP, client, local), b}
	if id, ok := m.once[k]; ok {
		svc.Pool.Release(b)
		svc.forget(&m.sticky, now)
		return m.at(id), false, Running
	}
	if x, o = m.open(k.key, svc, b, client, local, offset, now); x != nil {
		m.once[k] = x.id
	}
	return x, x != nil, m.refuse(svc, o)
}

// choose reserves a backend for a new flow, whose part in its client's persistence is
// m.sticky then.
func (m *sessions) choose(svc *Service, client, local netip.AddrPort, now time.Duration) (b *balancer.Backend, o Outcome) {
	if m.closed {
		return nil, Drained
	}
	b, busy := svc.choose(balancer.Flow{Client: client, Local: local, Now: now}, nil, &m.sticky)
	switch {
	case b != nil:
		return b, Running
	case busy:
		o = LimitReached
	default:
		o = NoBackend
	}
	svc.forget(&m.sticky, now) // that of a backend which the client cannot go back to
	return nil, o
}

// stranded reports whether a session is with a backend that is down although there
// is a better one. It began while all were down and clients were sent to them
// anyway; when another one comes back, nothing new is told of this one, and a client
// that keeps asking would talk into a void for ever.
func (m *sessions) stranded(x *session) bool {
	if !x.chosenDown || m.closed {
		return false
	}
	if x.backend.Status() != balancer.Down {
		x.chosenDown = false // it has come back, and when it goes again that is news
		return false
	}
	b, _ := x.svc.Pool.Acquire(balancer.Flow{Client: x.client, Local: x.local, Now: m.now}, nil)
	if b == nil {
		return false
	}
	x.svc.Pool.Release(b)
	return b.Status() != balancer.Down
}

// open begins a session with b, which is reserved; without room b is released.
func (m *sessions) open(k conntrack.Key, svc *Service, b *balancer.Backend, client, local netip.AddrPort, offset uint16, now time.Duration) (*session, Outcome) {
	if !m.admit(svc, client, now) {
		svc.Pool.Release(b)
		svc.forget(&m.sticky, now)
		return nil, LimitReached
	}
	id, ent := m.table.Insert(k, svc, now)
	for int(id)/sessionChunk >= len(m.slots) {
		m.slots = append(m.slots, make([]session, sessionChunk))
	}
	x := m.at(id)
	*x = session{
		svc: svc, ent: ent, id: id, backend: b, holding: true, chosenDown: b.Status() == balancer.Down,
		client: client, local: local, offset: offset, opened: now, sticky: m.sticky,
	}
	m.sticky = conntrack.Hold{}
	if d := svc.lifetime(); d > 0 {
		x.ends = now + d
	}
	ent.SetBackend(b)
	svc.accepted.Add(1)
	m.table.Arm(id, m.deadline(x))
	return x, Running
}

// admit makes room for a session of a client.
func (m *sessions) admit(svc *Service, client netip.AddrPort, now time.Duration) bool {
	if !m.server.clients.enter(svc, client.Addr()) {
		return false
	}
	if m.server.place(svc) {
		return true
	}
	crowd := svc
	if !m.server.crowded(svc) {
		crowd = nil // the server is full, not the service
	}
	if !m.evict(crowd, now) {
		m.askOthers(crowd, false, now)
	} else if m.server.place(svc) {
		return true
	}
	m.server.clients.leave(svc, client.Addr())
	return false
}

// evict ends the oldest unreplied session of svc, if its time of grace is over; nil
// is of all services.
func (m *sessions) evict(svc *Service, now time.Duration) bool {
	id, ok := m.table.OldestUnreplied()
	if svc != nil {
		id, ok = m.table.OldestUnrepliedOf(svc)
	}
	if !ok || now < m.at(id).opened+evictGrace {
		return false
	}
	m.end(m.at(id), Evicted, now)
	return true
}

// relieve ends the oldest unreplied session, which must not be x, so that x may have
// its socket.
func (m *sessions) relieve(x *session, now time.Duration) bool {
	x.svc.starved.Add(1)
	if id, ok := m.table.OldestUnreplied(); ok && id == x.id {
		return false
	}
	if m.evict(nil, now) {
		return true
	}
	m.askOthers(nil, true, now)
	return false
}

// giveWay takes a place for a connection, which is not turned away for the sake of a
// session that has waited for a reply in vain: anybody can begin such ones, with
// made-up addresses.
func (m *sessions) giveWay(svc *Service, now time.Duration) bool {
	if !m.evict(nil, now) {
		m.askOthers(nil, false, now)
		return false
	}
	return m.server.place(svc)
}

// askOthers is called when there is no session here that could make room. The other
// workers may have one. They are not waited for: this datagram is refused, and when
// the client sends it again there is room.
func (m *sessions) askOthers(crowd *Service, short bool, now time.Duration) {
	if m.others != nil && now >= m.asked+askEvery {
		m.asked = now
		m.others(crowd, short)
	}
}

// yield makes room for another worker, which has found crowd full, or the server if
// that is nil. It may have got room by now, unless it is short of sockets.
func (m *sessions) yield(crowd *Service, short bool, now time.Duration) {
	if short || m.server.crowded(crowd) {
		m.evict(crowd, now)
	}
}

// refuse counts a client that no session could be had for.
func (m *sessions) refuse(svc *Service, o Outcome) Outcome {
	if o != Running {
		svc.accepted.Add(1)
		svc.ended[o].Add(1)
	}
	return o
}

// sent notes datagrams of n bytes in all that were passed on to the backend.
func (m *sessions) sent(x *session, datagrams, n int, now time.Duration) {
	x.asked += datagrams
	x.ent.CountUp(n, now)
}

// unsent takes back what sent has noted of a datagram of n bytes: it did not leave.
func (m *sessions) unsent(x *session, n int, now time.Duration) {
	x.asked--
	x.ent.CountUp(-n, now)
}

// replied notes a datagram of n bytes from the backend. It reports whether it was
// the last one that the flow is for: each datagram of the client is owed so many,
// and a client may ask again before it has them.
func (m *sessions) replied(x *session, n int, now time.Duration) (last bool) {
	x.ent.CountDown(n, now)
	if x.replies++; x.replies == 1 {
		m.table.Assure(x.id)
		x.svc.worked(x.backend)
	}
	return x.svc.UDP.Replies > 0 && x.replies/x.svc.UDP.Replies >= max(x.asked, 1)
}

// unreachable notes that nobody listens at the backend. It reports whether
// another backend is reserved in its place; otherwise the flow is over.
func (m *sessions) unreachable(x *session) bool {
	x.svc.failed(x.backend)
	m.release(x)
	x.refused.Add(x.backend)
	if x.refused.Full() || x.svc.UDP.OnePacket {
		return false
	}
	b, _ := x.svc.choose(balancer.Flow{Client: x.client, Local: x.local, Now: max(m.now, x.ent.Touched())}, &x.refused, &x.sticky)
	if b == nil {
		return false
	}
	x.backend, x.holding, x.chosenDown = b, true, b.Status() == balancer.Down
	x.asked, x.replies = 0, 0 // what the other one owed will not come
	x.ent.SetBackend(b)
	return true
}

// deadline says when overdue must be asked next. It may come to be later while
// the flow carries datagrams.
func (m *sessions) deadline(x *session) time.Duration {
	c := &x.svc.UDP
	d := c.IdleTimeout
	if x.ent.State() == conntrack.Unreplied && c.UnrepliedTimeout > 0 && c.UnrepliedTimeout < d {
		d = c.UnrepliedTimeout
	}
	if m.closed {
		d = min(d, drainSilence)
	}
	at := x.ent.Touched() + d
	if x.ends > 0 {
		at = min(at, x.ends)
	}
	return at
}

// drainSilence is the idle timeout while draining. A UDP flow has no end of its
// own; one that is silent for so long will hardly miss a reply.
const drainSilence = time.Second

// drain begins no more sessions, and ends those that are silent.
func (m *sessions) drain() {
	m.closed = true
	for _, chunk := range m.slots {
		for i := range chunk {
			if x := &chunk[i]; x.svc != nil {
				m.table.Arm(x.id, m.deadline(x))
			}
		}
	}
}

// expire ends what has been silent for too long.
func (m *sessions) expire(now time.Duration) {
	m.now = now
	m.table.Expire(now, m.fire)
}

// expired is called when a session's timer has fired. It ends the session or sets
// the timer anew.
func (m *sessions) expired(id conntrack.ID) {
	x := m.at(id)
	if at := m.deadline(x); m.now < at {
		m.table.Arm(x.id, at)
		return
	}
	if x.ends > 0 && m.now >= x.ends {
		m.end(x, Aged, m.now)
		return
	}
	m.end(x, IdleTimeout, m.now)
}

// end ends a session: its socket is closed, its backend released, its row removed.
func (m *sessions) end(x *session, o Outcome, now time.Duration) {
	m.cut(x)
	m.release(x)
	if x.svc.UDP.OnePacket {
		delete(m.once, onceKey{x.ent.Key(), x.backend})
	}
	m.server.settleSession(x, o, now)
	m.table.Remove(x.id)
	m.server.clients.leave(x.svc, x.client.Addr())
	x.svc.forget(&x.sticky, now)
	*x = session{}
	m.server.leave()
}

func (m *sessions) release(x *session) {
	if x.holding {
		x.holding = false
		x.svc.Pool.Release(x.backend)
	}
}

// cutBackend ends the sessions of a backend among cutShare slots. It reports whether
// there are more slots.
func (m *sessions) cutBackend(b *balancer.Backend, from int, now time.Duration) (more bool) {
	for i := from / sessionChunk; i < len(m.slots); i++ {
		if i*sessionChunk >= from+cutShare {
			return true
		}
		for j := range m.slots[i] {
			if x := &m.slots[i][j]; x.svc != nil && x.backend == b {
				m.end(x, BackendDown, now)
			}
		}
	}
	return false
}

// endAll ends the sessions for which it is right to.
func (m *sessions) endAll(o Outcome, now time.Duration, right func(*session) bool) {
	for _, chunk := range m.slots {
		for i := range chunk {
			if x := &chunk[i]; x.svc != nil && right(x) {
				m.end(x, o, now)
			}
		}
	}
}
