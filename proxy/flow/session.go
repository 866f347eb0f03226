package flow

import (
	"iter"
	"net/netip"
	"time"

	"usher/balancer"
	"usher/conntrack"
)

// Session is the policy of one UDP flow: which client, which backend, until when.
// Like flow it does no I/O and reads no clock.
type Session struct {
	Service     *Service
	Settings    *Settings // of Service, when the session began
	Binding     *Binding  // that the session began at
	ent         *entry
	ID          conntrack.ID
	backend     *balancer.Backend // the last one reserved, or nil
	chosenDown  bool              // backend was chosen because all were down
	rejoins     bool              // backend is the one that its client had
	isAnnounced bool              // the feed was told that the session has begun, if there was a reader
	madeRoom    bool              // another session has ended for a socket to backend

	// Reservations of backend, to be released: one, or one for each datagram that is not
	// answered yet if each is scheduled anew. Of these, stale were there at aged.
	places, stale int
	aged          time.Duration

	Origin                // a reply comes from local
	peer   netip.AddrPort // who has named the client, and gets the replies; invalid: nobody
	pass   Pass
	judged int // bytes that the rule of the pass has counted, and that are to be counted up

	opened  time.Duration
	counted time.Duration         // since then its bytes are of its backend
	told    counted               // of these
	ends    time.Duration         // it does not last beyond that; zero is for ever
	sticky  conntrack.AffinityRef // on its client's persistence
	asked   int                   // datagrams passed on to the backend
	replies int                   // so far, of this backend
	waiting bool                  // the client's last datagram has had no reply yet
	idle    idleness
	refused balancer.Tried
	heard   time.Duration // when a reply last vouched for the backend
	kept    unconfirmed
	header  time.Duration // the next datagram from then on tells the backend of the client
}

// tries is how many backends the session was sent to.
func (x *Session) tries() uint8 {
	n := x.refused.Len()
	if !x.refused.Has(x.backend) {
		n++
	}
	return uint8(n)
}

// Sessions are the UDP flows of one worker: who is given which backend, who makes
// room for whom (session_room.go), when a flow is over. One goroutine at a time may use them. The
// engine keeps a socket for each session, and closes it when cut tells it to.
type Sessions struct {
	admission *Admission
	// InterfaceName returns the name of an interface; nil: rules cannot ask for it.
	InterfaceName func(index int32) string
	Feed          *Feed // that is told of sessions; nil: nobody is
	door          Door
	table         *Table
	slots         [][]Session // by slot of the table; chunks never move
	once          map[onceKey]conntrack.ID
	named         map[conntrack.Key]conntrack.ID // by the key of a peer, the session of the client that it has named last
	cut           func(*Session)
	// others makes room where there is no session to end for it: it ends a connection, or
	// asks other workers, which are not waited for. It reports whether there is room.
	others  func(Shortage) bool
	fire    func(conntrack.ID)    // bound once
	lines   int                   // of refused clients in the access log, since counted
	counts  time.Duration         // since when
	sticky  conntrack.AffinityRef // of the session that is about to be opened
	resend  resendBuffer
	rejoins bool          // the session that is about to be opened gets the backend that its client had
	now     time.Duration // of the call of expire
	closed  bool          // draining: no new sessions
}

const SessionChunk = 64

const (
	// evictGrace is how long a flow may wait for its first reply before a new one can
	// take its place: until then nothing is wrong with it. A sender that knows nothing
	// of the way to its peer takes no datagram for lost before a second has passed
	// (RFC 8961, section 4). Without grace, flows that begin faster than backends answer
	// would evict each other and nobody would be served. With it some are served, and
	// the others are refused.
	evictGrace = time.Second
	// refusalLines bounds the lines a second that a worker's refused clients have in the
	// access log: each datagram of a flood may be one.
	refusalLines = 1000
)

// NewSessions returns those of a worker: at most capacity of them. cut closes the sockets of
// a session.
func NewSessions(a *Admission, capacity int, cut func(*Session), others func(Shortage) bool) *Sessions {
	m := &Sessions{
		admission: a,
		table:     conntrack.NewIndexed[Service, balancer.Backend](capacity),
		once:      make(map[onceKey]conntrack.ID),
		named:     make(map[conntrack.Key]conntrack.ID),
		door:      Door{Admission: a},
		cut:       cut,
		others:    others,
	}
	m.fire = m.expired
	return m
}

// At returns the session in a slot of the table.
func (m *Sessions) At(id conntrack.ID) *Session { return &m.slots[id/SessionChunk][id%SessionChunk] }

// find returns the session of a datagram that came by a listener, which is svc's now; nil
// if there is none. It may be of the service that had the listener before. The key has no
// zone, so on another link another service may have a session of the same key.
func (m *Sessions) find(at *Binding, svc *Service, k conntrack.Key) *Session {
	id, ent := m.table.Lookup(k)
	if ent == nil {
		return nil
	}
	x := m.At(id)
	if x.Settings.UDP.OnePacket || !x.isReachedBy(at, svc) {
		return nil
	}
	return x
}

// isReachedBy reports whether datagrams that came by a listener, which is svc's now, may be of
// the session.
func (x *Session) isReachedBy(at *Binding, svc *Service) bool {
	return x.Service == svc || x.Binding == at || x.Binding.isGone.Load()
}

// choose reserves a backend for a new flow, whose part in its client's persistence is
// m.sticky then.
func (m *Sessions) choose(a *arrival, now time.Duration) (b *balancer.Backend, o Outcome) {
	if m.closed {
		return nil, Draining
	}
	b, busy := a.Settings.choose(balancer.Flow{Client: a.Client, Local: a.Origin.Local, Now: now}, nil, &m.sticky, &m.rejoins)
	switch {
	case b != nil:
		return b, Running
	case busy:
		o = BackendsFull
	default:
		o = NoBackend
	}
	a.Settings.forget(&m.sticky, now) // that of a backend which the client cannot go back to
	return nil, o
}

// isOnStaleBackend reports whether a session is with a backend that is down although there
// is a better one. It began while all were down and clients were sent to them
// anyway; when another one comes back, nothing new is told of this one, and a client
// that keeps asking would talk into a void for ever.
func (m *Sessions) isOnStaleBackend(x *Session) bool {
	if !x.chosenDown || m.closed {
		return false
	}
	if x.backend.Status() != balancer.Down {
		x.chosenDown = false // it has come back, and when it goes again that is news
		return false
	}
	return !x.Settings.Pool.AllDown()
}

// given notes that b is reserved for a session.
func (x *Session) given(b *balancer.Backend, now time.Duration) {
	x.backend, x.places, x.stale, x.aged = b, 1, 0, now
	x.heard = now - doubtAfter // nothing vouches for it
	x.chosenDown = b.Status() == balancer.Down && x.Settings.Pool.AllDown()
	x.madeRoom = false
	x.header = 0
	x.ent.SetBackend(b)
	x.ent.SetTries(x.tries())
	if x.Service.Trace.IsOn() {
		x.trace(now)
	}
}

// begin begins a session with b, which is reserved; without room b is released.
func (m *Sessions) begin(a *arrival, b *balancer.Backend, now time.Duration) (*Session, Action) {
	svc := a.Settings.Service
	if o := m.admit(a.Settings, a.Client, now); o != Running {
		a.Settings.Pool.Release(b)
		a.Settings.forget(&m.sticky, now)
		return nil, m.refuse(a, o, now)
	}
	a.via()
	id, ent := m.table.Insert(a.key, svc, now)
	m.growTo(id)
	x := m.At(id)
	*x = Session{
		Service: svc, Settings: a.Settings, Binding: a.Binding, ent: ent, ID: id, Origin: a.Origin,
		opened: now, counted: now, sticky: m.sticky, rejoins: m.rejoins, pass: m.door.TakePass(), judged: a.judged,
	}
	x.given(b, now)
	m.sticky = conntrack.AffinityRef{}
	if d := a.Settings.lifetime(id, now); d > 0 {
		x.ends = now + d
	}
	svc.accepted.Add(1)
	m.table.Arm(id, m.deadline(x))
	return x, Action{Do: Open}
}

// growTo makes room for the session in a slot.
func (m *Sessions) growTo(id conntrack.ID) {
	for int(id)/SessionChunk >= len(m.slots) {
		m.slots = append(m.slots, make([]Session, SessionChunk))
	}
}

// OpenFailed is reported when a session has got no socket to its target. Another session
// makes room for it, once, or it is not sent there.
func (m *Sessions) OpenFailed(x *Session, class Class, now time.Duration) Action {
	switch {
	case !class.isShortage():
		return m.PeerAbsent(x, now)
	case !x.madeRoom && m.evictForSocket(x, now):
		x.madeRoom = true
		return Action{Do: Open}
	}
	return m.endNow(x, class.shortageOutcome(), now)
}

// endNow ends a session, and says so.
func (m *Sessions) endNow(x *Session, o Outcome, now time.Duration) Action {
	m.end(x, o, now)
	return EndAs(o)
}

// Sent notes datagrams of n bytes in all that were passed on to the backend.
func (m *Sessions) Sent(x *Session, datagrams, n int, now time.Duration) {
	x.asked += datagrams
	x.waiting = true
	x.ent.CountUp(n, now)
	if !x.isAnnounced {
		x.isAnnounced = true
		m.tell(x, Began, now)
	}
	if x.idle.marked {
		m.inUse(x, now)
	}
}

// inUse clears the mark of a session that was idle.
func (m *Sessions) inUse(x *Session, now time.Duration) {
	x.idle.update(m.table, x.ID, x.ent.Touched(), idleGrace, now)
	m.table.Arm(x.ID, m.deadline(x))
}

// Unsent takes back what sent and keep have noted of a datagram of n bytes: it did not
// leave.
func (m *Sessions) Unsent(x *Session, at uint64, n int, now time.Duration) {
	x.asked--
	x.ent.CountUp(-n, now)
	m.withdraw(x, at, n)
	x.Answered(1)
	x.HeaderDropped()
}

// Replied notes a datagram of n bytes from the backend. It ends a session that has had the
// last one that it is for: each datagram of the client is owed so many, and a client may
// ask again before it has them.
func (m *Sessions) Replied(x *Session, n int, now time.Duration) Action {
	x.ent.CountDown(n, now)
	x.Answered(1)
	x.waiting = false
	if x.idle.marked {
		m.inUse(x, now)
	}
	x.heard, x.kept, x.header = now, unconfirmed{}, now+headerFresh
	if x.replies++; x.replies == 1 {
		m.table.Assure(x.ID)
		m.tell(x, Moved, now)
		m.table.Arm(x.ID, m.deadline(x))
		x.backend.ClearFailing()
		x.Settings.onSuccess(x.backend)
	} else if x.backend.Ejected() { // of a flow from before
		x.Settings.onSuccess(x.backend)
	}
	m.owedLess(x)
	if most := x.Settings.UDP.Replies; most > 0 && x.replies/most >= max(x.asked, 1) {
		return m.endNow(x, Replied, now)
	}
	return Action{}
}

// deadline says when overdue must be asked next. It may come to be later while
// the flow carries datagrams.
func (m *Sessions) deadline(x *Session) time.Duration {
	at := x.silentUntil()
	if m.closed && !x.isOwed() {
		at = min(at, x.ent.Touched()+drainSilence)
	}
	if x.Settings.UDP.OnePacket && x.places > 0 {
		at = min(at, x.aged+lostAfter)
	}
	if x.ent.State() != conntrack.Unreplied && !x.idle.marked {
		at = min(at, x.ent.Touched()+idleGrace)
	}
	return at
}

// isOwed reports whether a reply is due: one of the number that the flow is for, else any
// reply since the client's last datagram.
func (x *Session) isOwed() bool {
	if n := x.Settings.UDP.Replies; n > 0 {
		return x.replies/n < x.asked
	}
	return x.waiting
}

// owedLess brings the deadline nearer of a session that draining waits for no longer.
func (m *Sessions) owedLess(x *Session) {
	if m.closed {
		m.table.Arm(x.ID, m.deadline(x))
	}
}

// among yields the sessions in some of the table's slots.
func (m *Sessions) among(from, to int) iter.Seq[*Session] {
	return func(yield func(*Session) bool) {
		for i := from / SessionChunk; i*SessionChunk < to && i < len(m.slots); i++ {
			for j := range m.slots[i] {
				if x := &m.slots[i][j]; x.Service != nil && !yield(x) {
					return
				}
			}
		}
	}
}

// InTurn yields the sessions in cutShare slots, that others may have a turn meanwhile. It
// reports whether there are more slots.
func (m *Sessions) InTurn(from int) (some iter.Seq[*Session], more bool) {
	return m.among(from, from+CutShare), from+CutShare < len(m.slots)*SessionChunk
}

// Len returns the number of sessions. Any goroutine may call it.
func (m *Sessions) Len() int { return m.table.Len() }

// Rows yields the rows of all sessions. Any goroutine may read them.
func (m *Sessions) Rows() iter.Seq[Row] { return m.table.Rows() }

// NextDeadline says when expire has something to do.
func (m *Sessions) NextDeadline() (at time.Duration, ok bool) { return m.table.NextDeadline() }
