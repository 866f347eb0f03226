package flow

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"usher/balancer"
	"usher/conntrack"
	"usher/proxy/rules"
)

// SessionState is a Session with its row.
type SessionState struct {
	Settings Ref `cbor:"1,keyasint"`
	Binding  Ref `cbor:"2,keyasint"`
	Backend  Ref `cbor:"3,keyasint"`

	ChosenDown bool `cbor:"4,keyasint,omitempty"`
	MadeRoom   bool `cbor:"5,keyasint,omitempty"`

	Places int           `cbor:"6,keyasint,omitempty"`
	Stale  int           `cbor:"7,keyasint,omitempty"`
	Aged   time.Duration `cbor:"8,keyasint,omitempty"`

	Origin Origin `cbor:"9,keyasint"`

	Opened  time.Duration `cbor:"10,keyasint,omitempty"`
	Counted time.Duration `cbor:"11,keyasint,omitempty"`
	Ends    time.Duration `cbor:"12,keyasint,omitempty"`
	Sticky  bool          `cbor:"13,keyasint,omitempty"` // it is counted at its client's affinity entry
	Asked   int           `cbor:"14,keyasint,omitempty"`
	Replies int           `cbor:"15,keyasint,omitempty"`
	Waiting bool          `cbor:"16,keyasint,omitempty"`
	Refused []uint32      `cbor:"17,keyasint,omitempty"` // numbers of backends in their pool
	Heard   time.Duration `cbor:"18,keyasint,omitempty"`
	Kept    *KeptState    `cbor:"19,keyasint,omitempty"` // nil: nothing
	Listed  bool          `cbor:"20,keyasint,omitempty"` // it gets the next datagram that is scheduled by itself

	Row RowState `cbor:"21,keyasint"`

	Header time.Duration  `cbor:"22,keyasint,omitempty"`
	Peer   netip.AddrPort `cbor:"23,keyasint,omitempty"`
	Named  bool           `cbor:"24,keyasint,omitempty"` // its client is the one that Peer has named last
	Judged int            `cbor:"25,keyasint,omitempty"`
}

// KeptState is what a session has sent and its backend may yet refuse.
type KeptState struct {
	Since     time.Duration `cbor:"1,keyasint,omitempty"`
	Datagrams int           `cbor:"2,keyasint,omitempty"`
	Bytes     int           `cbor:"3,keyasint,omitempty"`
	Copies    []CopyState   `cbor:"4,keyasint,omitempty"`
}

// CopyState is one record of copies.
type CopyState struct {
	Bytes   []byte `cbor:"1,keyasint,omitempty"`
	Segment int    `cbor:"2,keyasint,omitempty"` // of all datagrams in it but the last
}

// datagrams returns how many are in a record.
func (c *CopyState) datagrams() int {
	if c.Segment <= 0 || c.Segment >= len(c.Bytes) {
		return 1
	}
	return (len(c.Bytes) + c.Segment - 1) / c.Segment
}

// placesMost bounds the reservations of one session in a state: a backend answers, or loses,
// what came within two seconds.
const placesMost = 1 << 24

// Save returns the state of a session.
func (m *Sessions) Save(x *Session, n *Numbers) SessionState {
	st := SessionState{
		Settings: n.Settings.Of(x.Settings), Binding: n.Bindings.Of(x.Binding), Backend: n.Backends.Of(x.backend),
		ChosenDown: x.chosenDown, MadeRoom: x.madeRoom, Places: x.places, Stale: x.stale, Aged: x.aged,
		Origin: x.Origin, Opened: x.opened, Counted: x.counted, Ends: x.ends, Sticky: x.Settings.holds(&x.sticky),
		Asked: x.asked, Replies: x.replies, Waiting: x.waiting, Refused: x.refused.IDs(), Heard: x.heard,
		Row: saveRow(x.ent, x.told), Header: x.header, Peer: x.peer, Judged: x.judged,
	}
	if id, ok := m.once[onceKey{x.ent.Key(), x.backend}]; ok {
		st.Listed = id == x.ID
	}
	if id, ok := m.named[conntrack.NewKey(conntrack.UDP, x.peer, x.Local)]; ok && x.IsNamed() {
		st.Named = id == x.ID
	}
	if k := &x.kept; k.datagrams > 0 || k.copies > 0 {
		st.Kept = &KeptState{Since: k.since, Datagrams: k.datagrams, Bytes: k.bytes}
		if m.resend.header(k.first) != nil {
			for p, segment := range m.Copies(x) {
				st.Kept.Copies = append(st.Kept.Copies, CopyState{slices.Clone(p), segment})
			}
		}
	}
	return st
}

// All yields all sessions.
func (m *Sessions) All(yield func(*Session) bool) { m.among(0, len(m.slots)*SessionChunk)(yield) }

// Visit shows what a session refers to.
func (x *Session) Visit(visit func(*Settings, *balancer.Backend, *Binding)) {
	visit(x.Settings, x.backend, x.Binding)
}

// Check returns an error if no session can have such a state. What remains to be seen,
// Restore sees.
func (s *SessionState) Check(l Limits) error {
	switch {
	case s.Settings == 0 || int(s.Settings) > l.Settings || s.Backend == 0 || int(s.Backend) > l.Backends ||
		s.Binding == 0 || int(s.Binding) > l.Bindings:
		return fmt.Errorf("session: settings %d of %d, backend %d of %d, binding %d of %d",
			s.Settings, l.Settings, s.Backend, l.Backends, s.Binding, l.Bindings)
	case s.Places < 0 || s.Places > placesMost || s.Stale < 0 || s.Stale > s.Places:
		return fmt.Errorf("session: %d reservations, %d of them old", s.Places, s.Stale)
	case s.Asked < 0 || s.Replies < 0 || s.Judged < 0:
		return fmt.Errorf("session: %d datagrams asked, %d replies, %d bytes judged", s.Asked, s.Replies, s.Judged)
	case !s.Row.State.IsOf(true):
		return fmt.Errorf("session: a row that is %v", s.Row.State)
	case s.Named && !s.Peer.IsValid():
		return errors.New("session: its client is named by nobody")
	case !s.Origin.Client.IsValid() || !s.Origin.Local.IsValid() || s.Origin.Path != "":
		return fmt.Errorf("session from %v to %v %s", s.Origin.Client, s.Origin.Local, s.Origin.Path)
	}
	return s.Kept.check()
}

func (k *KeptState) check() error {
	if k == nil {
		return nil
	}
	if k.Datagrams < 0 || k.Bytes < 0 {
		return fmt.Errorf("session: %d datagrams of %d bytes may be refused", k.Datagrams, k.Bytes)
	}
	used := 0
	for i := range k.Copies {
		if used += resendHeader + len(k.Copies[i].Bytes); used > resendMost || k.Copies[i].Segment < 0 {
			return errors.New("session: more copies than may be kept")
		}
	}
	return nil
}

// Restore begins a session of the state, which was checked. Sessions that have had no reply
// begin in the order in which they were opened. Its place in admission is taken; its timer
// is set by Rearm.
func (m *Sessions) Restore(s *SessionState, r *Refs) (*Session, error) {
	cfg, b := at(r.Settings, s.Settings), at(r.Backends, s.Backend)
	k := conntrack.NewKey(conntrack.UDP, s.Origin.Client, s.Origin.Local)
	if s.Peer.IsValid() {
		k = k.OfNamed()
	}
	id, ent, err := s.Row.restore(m.table, k, cfg.Service, b)
	if err != nil {
		return nil, fmt.Errorf("session from %v: %w", s.Origin.Client, err)
	}
	m.growTo(id)
	x := m.At(id)
	*x = Session{
		Service: cfg.Service, Settings: cfg, Binding: at(r.Bindings, s.Binding), ent: ent, ID: id, backend: b,
		chosenDown: s.ChosenDown, madeRoom: s.MadeRoom, places: s.Places, stale: s.Stale, aged: s.Aged,
		Origin: s.Origin, opened: s.Opened, counted: s.Counted, ends: s.Ends,
		asked: s.Asked, replies: s.Replies, waiting: s.Waiting, heard: s.Heard,
		told: s.Row.told(), header: s.Header, peer: s.Peer, judged: s.Judged,
		isAnnounced: true,
	}
	x.refused.SetIDs(s.Refused)
	m.restoreKept(x, s.Kept)
	m.admission.restore(cfg)
	m.admission.clients.restore(cfg.Service, s.Origin.Client.Addr())
	if s.Sticky {
		cfg.join(&x.sticky, &x.Origin, r.Now)
	}
	if s.Listed {
		key := onceKey{k, b}
		if _, taken := m.once[key]; taken || !cfg.UDP.OnePacket {
			return nil, fmt.Errorf("session from %v: it gets the datagrams of another one", s.Origin.Client)
		}
		m.once[key] = id
	}
	if s.Named {
		peer := conntrack.NewKey(conntrack.UDP, s.Peer, s.Origin.Local)
		if _, taken := m.named[peer]; taken {
			return nil, fmt.Errorf("session from %v: %v has named another client last", s.Origin.Client, s.Peer)
		}
		m.named[peer] = id
	}
	if err := x.CheckInvariants(); err != nil {
		return nil, fmt.Errorf("session from %v: %w", s.Origin.Client, err)
	}
	return x, nil
}

// Rearm sets the timer of a restored session, and marks it if it is idle: those that were
// silent longest come first.
func (m *Sessions) Rearm(x *Session, now time.Duration) {
	if x.ent.State() != conntrack.Unreplied {
		x.idle.update(m.table, x.ID, x.ent.Touched(), idleGrace, now)
	}
	m.table.Arm(x.ID, m.deadline(x))
}

// RejoinRules counts a restored session where rules had counted it. The packet says what rules
// look at beside its addresses.
func (x *Session) RejoinRules(set *rules.Set, p *rules.Packet) {
	p.Client, p.Local, p.Protocol = x.Client, x.Local, rules.UDP
	set.Rejoin(p, &x.pass.holds)
	if v := set.Judge(p); v.Target == rules.Accept {
		x.pass.counter = v.Counter
	}
}

// LastTouched returns when a session last carried a datagram.
func (x *Session) LastTouched() time.Duration { return x.ent.Touched() }

func (m *Sessions) restoreKept(x *Session, s *KeptState) {
	if s == nil {
		return
	}
	k := &x.kept
	k.since, k.datagrams, k.bytes = s.Since, s.Datagrams, s.Bytes
	for i := range s.Copies {
		c := &s.Copies[i]
		pos, p := m.resend.add(len(c.Bytes), c.Segment)
		copy(p, c.Bytes)
		if m.resend.header(k.first) == nil {
			k.first, k.used, k.copies = pos, 0, 0
		} else {
			m.resend.follow(k.last, pos)
		}
		k.last = pos
		k.used += resendHeader + len(c.Bytes)
		k.copies += c.datagrams()
	}
}

// restore counts a flow that was counted before.
func (c *clientFlows) restore(svc *Service, addr netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count == nil {
		c.count = make(map[clientOf]int)
	}
	c.count[clientOf{svc, addr}]++
}
