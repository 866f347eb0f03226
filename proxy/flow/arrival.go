package flow

import (
	"net/netip"
	"slices"
	"time"

	"usher/conntrack"
	"usher/proxy/proxyheader"
	"usher/proxy/rules"
)

// A datagram that belongs to a session goes its way; only one that would begin a session is
// judged:
//
//	session of the sender ───────────────────────────────────────────▶ Send
//	   │ none                                                             ▲
//	   ▼                                                                  │
//	does the sender have to name its client? ─ yes ─▶ PROXY header ─▶ session of the client
//	   │ no                                             │ wrong            │ none
//	   ▼                                                ▼                  ▼
//	rules, lists, limits ◀──────────────────────── BadProxyHeader    rules, lists, limits
//	   │ refused: Denied, RateLimited; the next datagram of a group is judged
//	   ▼
//	a backend ─▶ a place ─▶ Open
//
// With UDPConfig.OnePacket a client is judged while it has no session, as any other: a session
// is then the way of replies, and a client that has one was let in.

// Arrival is what has come by a listening socket: a datagram, or several of one sender.
type Arrival struct {
	Peer, Local netip.AddrPort // who has sent it, and where to
	Interface   int32          // the index of that by which it came; zero: not known
	Payload     []byte
	Segment     int  // the size of all datagrams but the last; zero: there is one
	KnownOnly   bool // it begins no session, unless in place of one

	// Route says what of it is not for the backend: so many bytes at the start, and the
	// datagrams in them that were refused.
	Skip, Refused int
}

// firstOf returns the first datagram of a group.
func firstOf(p []byte, segment int) []byte {
	if segment <= 0 {
		return p
	}
	return p[:min(segment, len(p))]
}

// arrival is the way of a datagram that begins a session: whose listener it came by.
type arrival struct {
	Origin
	*Arrival
	key      conntrack.Key
	Binding  *Binding
	Settings *Settings
	header   proxyheader.Header
	isNamed  bool // a peer has named the client, by the header or before
	judged   int  // bytes that rules have counted
}

// sessionTLVs bounds the TLVs of a header that are kept with a session, for its backend. Longer
// ones would leave little room in a datagram, and are left out.
const sessionTLVs = 1 << 10

// via remembers who has named the client.
func (a *arrival) via() {
	if h := &a.header; a.isNamed && a.Via == nil {
		v := &Via{Peer: a.Peer, Destination: h.Destination}
		if n := len(h.TLVs); n > 0 && n <= sessionTLVs {
			v.TLVs = slices.Clone(h.TLVs)
		}
		a.Via = v
	}
}

// Route finds the session that a datagram belongs to, or begins one: it reserves a
// backend, and without room another session ends for it (evict).
func (m *Sessions) Route(at *Binding, in *Arrival, now time.Duration) (*Session, Action) {
	to, isTaken := at.DestinationFor(in.Peer.Addr())
	in.Skip, in.Refused = 0, 0
	k := conntrack.NewKey(conntrack.UDP, in.Peer, in.Local)
	x := m.find(at, to.Service, k)
	if x != nil {
		if MustHold(x); !m.isOnStaleBackend(x) {
			return x, Action{Do: Send}
		}
		m.end(x, BackendDown, now)
	}
	a := &arrival{
		Origin:  Origin{Client: in.Peer, Local: in.Local, Offset: to.Offset},
		Arrival: in, key: k, Binding: at, Settings: to.Settings(),
	}
	switch {
	case x == nil && !isTaken:
		return nil, m.turnAway(a, Denied, now)
	case x == nil:
		named := m.namedBy(at, to.Service, k)
		if named != nil || a.Settings.AcceptsProxy(in.Peer.Addr()) {
			return m.routeNamed(a, named, now)
		}
		if in.KnownOnly {
			return nil, EndAs(Draining)
		}
	}
	return m.start(a, now)
}

// start begins a session for a client that has none, if it is let in.
func (m *Sessions) start(a *arrival, now time.Duration) (*Session, Action) {
	if o := m.screen(a, now); o != Running {
		return nil, EndAs(o)
	}
	if a.Settings.UDP.OnePacket {
		return m.routeOnce(a, now)
	}
	b, o := m.choose(a, now)
	if b == nil {
		return nil, m.refuse(a, o, now)
	}
	return m.begin(a, b, now)
}

// screen judges the datagrams of an arrival one after the other, until one is let in. What is
// refused is accounted for.
func (m *Sessions) screen(a *arrival, now time.Duration) Outcome {
	set, d := m.admission.Rules(), &m.door
	if m.closed || set == nil && !a.Settings.Screens() {
		return Running // while draining, choose refuses
	}
	if a.Settings.UDP.OnePacket {
		if id, ent := m.table.Lookup(a.key); ent != nil {
			d.pass.counter = m.At(id).pass.counter
			return Running
		}
	}
	client := netip.AddrPortFrom(a.Client.Addr().WithZone(""), a.Client.Port())
	d.Packet = rules.Packet{Client: client, Local: a.Origin.Local, Protocol: rules.UDP}
	if set.NeedsInterface() && m.InterfaceName != nil {
		d.Packet.Interface = m.InterfaceName(a.Interface)
	}
	for {
		first := firstOf(a.Payload[a.Skip:], a.Segment)
		d.Packet.Bytes = len(first)
		o := d.Screen(set, a.Settings, a.isNamed, now).Outcome
		if o == Running {
			a.judged = len(first)
			return Running
		}
		d.pass.Release()
		m.turnAway(a, o, now)
		if a.Skip+len(first) == len(a.Payload) {
			return o
		}
		a.Skip += len(first)
		a.Refused++
	}
}

// turnAway accounts for a datagram that was refused at the door.
func (m *Sessions) turnAway(a *arrival, o Outcome, now time.Duration) Action {
	if m.admission.records(a.Settings) {
		a.via()
	}
	m.admission.TurnAway(a.Settings, a.Origin, o, now)
	return EndAs(o)
}
