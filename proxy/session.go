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
	svc     *Service
	ent     *entry
	id      conntrack.ID
	backend *balancer.Backend // the last one reserved, or nil
	holding bool              // backend is reserved and has to be released

	client netip.AddrPort
	local  netip.AddrPort // what the client asked for; a reply comes from there
	offset uint16         // of the listener's port within its range

	opened  time.Duration
	asked   int // datagrams passed on to the backend
	replies int // so far, of this backend
	refused balancer.Tried
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
	fire   func(conntrack.ID) // bound once
	now    time.Duration      // of the call of expire
	closed bool               // draining: no new sessions
}

const sessionChunk = 64

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
// that no reply was seen on makes place. The outcome says why there is no session:
// the engine drops the datagram then.
func (m *sessions) route(svc *Service, client, local netip.AddrPort, offset uint16, now time.Duration) (x *session, fresh bool, o Outcome) {
	if svc.UDP.OnePacket {
		return m.routeOnce(svc, client, local, offset, now)
	}
	k := conntrack.NewKey(conntrack.UDP, client, local)
	if id, ent := m.table.Lookup(k); ent != nil && ent.Service() == svc {
		return m.at(id), false, Running // the key has no zone, so services on two links may share it
	}
	b, o := m.choose(svc, client, local)
	if b != nil {
		x, o = m.open(k, svc, b, client, local, offset, now)
	}
	return x, x != nil, m.refuse(svc, o)
}

// routeOnce chooses a backend for each datagram anew. A session is then no more
// than the socket between one client, the address that it asks, and one backend,
// over which the replies find back.
func (m *sessions) routeOnce(svc *Service, client, local netip.AddrPort, offset uint16, now time.Duration) (x *session, fresh bool, o Outcome) {
	b, o := m.choose(svc, client, local)
	if b == nil {
		return nil, false, m.refuse(svc, o)
	}
	k := onceKey{conntrack.NewKey(conntrack.UDP, client, local), b}
	if id, ok := m.once[k]; ok {
		svc.Pool.Release(b)
		return m.at(id), false, Running
	}
	if x, o = m.open(k.key, svc, b, client, local, offset, now); x != nil {
		m.once[k] = x.id
	}
	return x, x != nil, m.refuse(svc, o)
}

// choose reserves a backend for a new flow.
func (m *sessions) choose(svc *Service, client, local netip.AddrPort) (*balancer.Backend, Outcome) {
	if m.closed {
		return nil, Drained
	}
	if b := svc.Pool.Acquire(balancer.Flow{Client: client, Local: local}, nil); b != nil {
		return b, Running
	}
	return nil, NoBackend
}

// open begins a session with b, which is reserved; without room b is released.
func (m *sessions) open(k conntrack.Key, svc *Service, b *balancer.Backend, client, local netip.AddrPort, offset uint16, now time.Duration) (*session, Outcome) {
	if !m.admit(svc, client, now) {
		svc.Pool.Release(b)
		return nil, LimitReached
	}
	id, ent := m.table.Insert(k, svc, now)
	for int(id)/sessionChunk >= len(m.slots) {
		m.slots = append(m.slots, make([]session, sessionChunk))
	}
	x := m.at(id)
	*x = session{
		svc: svc, ent: ent, id: id, backend: b, holding: true,
		client: client, local: local, offset: offset, opened: now,
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
	if most := svc.UDP.MaxFlows; most == 0 || svc.Active() < int64(most) {
		crowd = nil // the server is full, not the service
	}
	if m.evict(crowd, now) && m.server.place(svc) {
		return true
	}
	m.server.clients.leave(svc, client.Addr())
	return false
}

// evict ends the oldest unreplied session of svc; nil is of all services.
func (m *sessions) evict(svc *Service, now time.Duration) bool {
	id, ok := m.table.OldestUnreplied()
	if svc != nil {
		id, ok = m.table.OldestUnrepliedOf(svc)
	}
	if ok {
		m.end(m.at(id), Evicted, now)
	}
	return ok
}

// relieve ends the oldest unreplied session but x, so that x may have its socket.
func (m *sessions) relieve(x *session, now time.Duration) bool {
	id, ok := m.table.OldestUnreplied()
	if ok = ok && id != x.id; ok {
		m.end(m.at(id), Evicted, now)
	}
	return ok
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

// replied notes a datagram of n bytes from the backend. It reports whether it was
// the last one that the flow is for: each datagram of the client is owed so many,
// and a client may ask again before it has them.
func (m *sessions) replied(x *session, n int, now time.Duration) (last bool) {
	x.ent.CountDown(n, now)
	if x.replies++; x.replies == 1 {
		m.table.Assure(x.id)
	}
	return x.svc.UDP.Replies > 0 && x.replies >= x.svc.UDP.Replies*max(x.asked, 1)
}

// unreachable notes that nobody listens at the backend. It reports whether
// another backend is reserved in its place; otherwise the flow is over.
func (m *sessions) unreachable(x *session) bool {
	x.backend.CountFailure()
	m.release(x)
	x.refused.Add(x.backend)
	if x.refused.Full() || x.svc.UDP.OnePacket {
		return false
	}
	b := x.svc.Pool.Acquire(balancer.Flow{Client: x.client, Local: x.local}, &x.refused)
	if b == nil {
		return false
	}
	x.backend, x.holding = b, true
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
	return x.ent.Touched() + d
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
	*x = session{}
	m.server.leave()
}

func (m *sessions) release(x *session) {
	if x.holding {
		x.holding = false
		x.svc.Pool.Release(x.backend)
	}
}

// cutBackend ends the sessions of a backend, but for those of services that keep them.
func (m *sessions) cutBackend(b *balancer.Backend, now time.Duration) {
	m.endAll(BackendDown, now, func(x *session) bool { return x.backend == b && !x.svc.UDP.KeepOnDown })
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
