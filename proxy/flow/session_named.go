package flow

import (
	"net/netip"
	"time"

	"usher/conntrack"
	"usher/proxy/proxyheader"
)

// A peer that is trusted to name clients begins a session by a PROXY header at the start of a
// datagram. The session is its client's: the key is made of that client, and another one than
// that of the client itself. Replies go to the peer. What it sends without a header is of the
// client that it has named last:
//
//	header, of the same client ──▶ taken off, Send
//	header, of another client ───▶ that client's session, if it is let in; the one before ends,
//	                               unless a reply to it is due: some peers have one socket for
//	                               many clients
//	header, wrong ───────────────▶ BadProxyHeader
//	none, after a header ────────▶ Send as it is
//	none, before any ────────────▶ BadProxyHeader
//
// Only version 2 is taken, of any transport: a client of a peer may have come to it by TCP. A
// header alone is an empty datagram. A header that says LOCAL, or has no addresses, makes the
// peer itself the client.

// HasNamed reports whether there are sessions of clients that peers have named.
func (m *Sessions) HasNamed() bool { return len(m.named) > 0 }

// namedBy returns the session of the client that a peer has named last, or nil.
func (m *Sessions) namedBy(at *Binding, svc *Service, peer conntrack.Key) *Session {
	if len(m.named) == 0 {
		return nil
	}
	if id, ok := m.named[peer]; ok && m.At(id).isReachedBy(at, svc) {
		return m.At(id)
	}
	return nil
}

// routeNamed is Route for a peer that names its clients: last is the session of the one that it
// has named last, if there is one.
func (m *Sessions) routeNamed(a *arrival, last *Session, now time.Duration) (*Session, Action) {
	svc, peer := a.Settings.Service, a.key
	switch err := a.readHeader(); {
	case err == nil && (last == nil || last.ent.Key() != a.key) && !a.Settings.AcceptsProxy(a.Peer.Addr()):
		// It is trusted no more: whatever it says are the words of a client.
		a.Client, a.key, a.isNamed, a.Skip = a.Peer, peer, false, 0
		return m.start(a, now)
	case err == nil:
	case err != proxyheader.ErrNoHeader || last == nil:
		if a.KnownOnly {
			return nil, EndAs(BadProxyHeader)
		}
		return nil, m.turnAway(a, BadProxyHeader, now)
	default:
		a.Origin, a.key, a.isNamed = last.Origin, last.ent.Key(), true
	}
	if last != nil && last.ent.Key() != a.key {
		delete(m.named, peer) // the client that is named now may be refused
		if !last.isOwed() {
			m.end(last, Finished, now)
		}
	}
	x := m.find(a.Binding, svc, a.key)
	if x != nil && m.isOnStaleBackend(x) {
		m.end(x, BackendDown, now)
		x = nil
	}
	do := Action{Do: Send}
	if x == nil {
		x, do = m.start(a, now)
	}
	if x != nil {
		m.comeBy(x, a.Peer, peer)
	}
	return x, do
}

// readHeader reads the header at the start of a datagram. The client is the one that it names.
func (a *arrival) readHeader() (err error) {
	if !proxyheader.IsVersion2(a.Payload) {
		return proxyheader.ErrNoHeader
	}
	h := &a.header
	if *h, a.Skip, err = proxyheader.Parse(a.Payload); err != nil {
		a.Skip = 0
		return err
	}
	a.isNamed = true
	if !h.Local && h.Source.IsValid() {
		a.Client = h.Source
	}
	a.key = conntrack.NewKey(conntrack.UDP, a.Client, a.Origin.Local).OfNamed()
	return nil
}

// comeBy has the replies of a session go to a peer, whose datagrams without a header are the
// session's.
func (m *Sessions) comeBy(x *Session, peer netip.AddrPort, k conntrack.Key) {
	if x.peer != peer {
		m.unlistNamed(x)
		x.peer = peer
	}
	if id, ok := m.named[k]; !ok || id != x.ID {
		m.named[k] = x.ID
	}
}

// unlistNamed has the datagrams of a session's peer be the session's no more.
func (m *Sessions) unlistNamed(x *Session) {
	if !x.peer.IsValid() {
		return
	}
	k := conntrack.NewKey(conntrack.UDP, x.peer, x.Local)
	if id, ok := m.named[k]; ok && id == x.ID {
		delete(m.named, k)
	}
}

// Sender returns who sends the client's datagrams, and gets the replies: the client itself, or
// the peer that names it.
func (x *Session) Sender() netip.AddrPort {
	if x.IsNamed() {
		return x.peer
	}
	return x.Client
}

// IsNamed reports whether a peer has named the client.
func (x *Session) IsNamed() bool { return x.peer.IsValid() }
