package flow

import (
	"iter"
	"time"

	"usher/balancer"
)

// The refusal of a connected socket comes after the send (RFC 1122, 4.1.3.3). So what a
// session sends while nothing vouches for its backend is kept, and sent to the next
// backend when this one refuses:
//
//	engine sends ── doubts: no ──────────────▶ gone
//	     │ yes
//	     ▼
//	   keep ── a reply, or doubtAfter without a refusal ──▶ forgotten
//	     │ refusal
//	     ▼
//	peerAbsent ── no other backend ──▶ dropped and counted, the session ends
//	     │
//	     ▼
//	engine opens a socket, and sends the copies: resent

// doubtAfter is how long a reply vouches for a backend, so that a flow whose replies come
// steadily copies nothing. A backend that has not refused for so long is there as well.
const doubtAfter = 250 * time.Millisecond

// unconfirmed is what a session has sent and its backend may yet refuse.
type unconfirmed struct {
	first, last      uint64 // records of the resend buffer; zero: there is none
	since            time.Duration
	used             int // of resendMost
	copies           int // datagrams in the records
	datagrams, bytes int // sent to the backend, with a copy or without
}

// noCopy is the position of a datagram that there was no room to copy.
const noCopy = 1

// Doubts reports whether what a session sends now has to be kept.
func (m *Sessions) Doubts(x *Session, now time.Duration) bool {
	if k := &x.kept; k.datagrams > 0 && now >= k.since+doubtAfter {
		x.heard, x.kept = k.since+doubtAfter, unconfirmed{} // it would have been refused
	}
	return now >= x.heard+doubtAfter
}

// Keep notes datagrams of n bytes in all, and makes room for a copy; segment is the size
// of all but the last. Without room it returns noCopy and nil.
func (m *Sessions) Keep(x *Session, datagrams, n, segment int, now time.Duration) (at uint64, copied []byte) {
	k := &x.kept
	if k.datagrams == 0 {
		k.since = now
	}
	k.datagrams, k.bytes = k.datagrams+datagrams, k.bytes+n
	if k.used+resendHeader+n > resendMost {
		return noCopy, nil
	}
	at, copied = m.resend.add(n, segment)
	if m.resend.header(k.first) == nil { // none yet, or overwritten
		k.first, k.used, k.copies = at, 0, 0
	} else {
		m.resend.follow(k.last, at)
	}
	k.last = at
	k.used += resendHeader + n
	k.copies += datagrams
	return at, copied
}

// withdraw forgets a datagram of n bytes that was kept and did not leave.
func (m *Sessions) withdraw(x *Session, at uint64, n int) {
	k := &x.kept
	if k.datagrams == 0 || at != noCopy && (at < k.first || at > k.last) {
		return
	}
	if at != noCopy && m.resend.header(k.first) != nil {
		m.resend.void(at)
		k.copies--
	}
	k.datagrams, k.bytes = k.datagrams-1, k.bytes-n
}

// Resent notes datagrams of n bytes in all that were kept, and are now sent to another
// backend. That may refuse them as well.
func (m *Sessions) Resent(x *Session, datagrams, n int, now time.Duration) {
	m.Sent(x, datagrams, n, now)
	x.kept.datagrams, x.kept.bytes = x.kept.datagrams+datagrams, x.kept.bytes+n
}

// PeerAbsent is reported when nobody listens at the backend: the session goes on with
// another one, which is sent what this one has refused, or ends.
func (m *Sessions) PeerAbsent(x *Session, now time.Duration) Action {
	x.Settings.onFailure(x.backend, balancer.FailedRefused)
	x.release(x.places)
	if x.replies > 0 {
		x.refused.Reset() // the backends before this one may be back
	}
	x.refused.Add(x.backend)
	lost := m.takeBack(x, now)
	var b *balancer.Backend
	if !x.refused.Full() {
		b, _ = x.Settings.choose(balancer.Flow{Client: x.Client, Local: x.Local, Now: now}, &x.refused, &x.sticky, &x.rejoins)
	}
	copies := x.kept.copies // more than lost if the last backend was not sent them all
	if b != nil && m.resend.header(x.kept.first) != nil {
		lost, x.kept.since = max(lost-copies, 0), now
	} else {
		lost, x.kept = max(lost, copies), unconfirmed{}
	}
	x.Service.CountDrop(DropRefused, lost)
	if b == nil {
		return m.endNow(x, Refused, now)
	}
	if x.ent.Up()+x.ent.Down() > 0 {
		m.admission.settlePart(x, now)
	}
	m.move(x, b, now)
	if x.idle.marked {
		m.inUse(x, now)
	}
	m.owedLess(x)
	return Action{Do: Open}
}

// Copies yields what is kept of a session: datagrams of equal size one behind the other, but
// for the last one, and that size; zero is a lone one.
func (m *Sessions) Copies(x *Session) iter.Seq2[[]byte, int] {
	return func(yield func([]byte, int) bool) {
		for at := x.kept.first; at != 0; {
			p, segment, next := m.resend.record(at)
			if at = next; p != nil && !yield(p, segment) {
				return
			}
		}
	}
}

// takeBack takes what a backend has refused off the accounts: it got nothing of that. It
// returns how many datagrams that is.
func (m *Sessions) takeBack(x *Session, now time.Duration) (datagrams int) {
	k := &x.kept
	if datagrams = k.datagrams; datagrams > 0 {
		x.ent.CountUp(-k.bytes, now)
		k.datagrams, k.bytes = 0, 0
	}
	x.asked = max(x.asked-datagrams, 0)
	x.countPackets()
	x.told.in, x.told.out = 0, 0
	x.asked, x.replies, x.waiting = 0, 0, false // what it owed will not come
	return datagrams
}

// move gives a session another backend, which is reserved.
func (m *Sessions) move(x *Session, b *balancer.Backend, now time.Duration) {
	if !x.Settings.UDP.OnePacket {
		x.given(b, now)
		return
	}
	// Where there is a session with b already, this one goes on beside it: it passes on
	// the replies to what it sends again, and gets no more to send.
	m.unlistOnce(x)
	k := onceKey{x.ent.Key(), b}
	if _, ok := m.once[k]; !ok {
		m.once[k] = x.ID
	}
	x.given(b, now)
	m.table.Arm(x.ID, m.deadline(x))
}
