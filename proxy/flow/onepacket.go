package flow

import (
	"time"

	"usher/balancer"
	"usher/conntrack"
)

// lostAfter is when a datagram that is scheduled by itself no longer counts as a load of
// its backend, though it was not answered: after that and before twice as long.
const lostAfter = time.Second

// onceKey finds the sessions of services that schedule each datagram: one client
// may have as many as there are backends, with the same key in the table.
type onceKey struct {
	key     conntrack.Key
	backend *balancer.Backend
}

// routeOnce chooses a backend for each datagram anew, and reserves it until the datagram
// is answered or lost. A session is then no more than the socket between one client, the
// address that it asks, and one backend, over which the replies find back.
func (m *Sessions) routeOnce(a *arrival, now time.Duration) (*Session, Action) {
	b, o := m.choose(a, now)
	if b == nil {
		return nil, m.refuse(a, o, now)
	}
	k := onceKey{a.key, b}
	if id, ok := m.once[k]; ok {
		a.Settings.forget(&m.sticky, now)
		m.door.pass.Release()
		m.hold(m.At(id), now)
		return m.At(id), Action{Do: Send}
	}
	x, do := m.begin(a, b, now)
	if x != nil {
		m.once[k] = x.ID
	}
	return x, do
}

// hold notes one more reservation of the backend, of a datagram that is scheduled by
// itself.
func (m *Sessions) hold(x *Session, now time.Duration) {
	x.age(now)
	if x.places++; x.places == 1 {
		x.aged = now
		m.table.Arm(x.ID, m.deadline(x)) // it has become earlier
	}
}

// age gives up on what was asked long ago and not answered. What was asked since the
// last step is younger than that step and one more, or age would have been called.
func (x *Session) age(now time.Duration) {
	if !x.Settings.UDP.OnePacket {
		return
	}
	if now >= x.aged+2*lostAfter {
		x.release(x.places)
		x.aged = now
	} else if now >= x.aged+lostAfter {
		x.release(x.stale)
		x.aged, x.stale = x.aged+lostAfter, x.places
	}
}

// release gives n reservations back, of those there are, the oldest first.
func (x *Session) release(n int) {
	n = min(n, x.places)
	x.places -= n
	x.stale = max(x.stale-n, 0)
	for range n {
		x.Settings.Pool.Release(x.backend)
	}
}

// Answered gives back the reservations of n datagrams that were scheduled by themselves:
// they are answered, or did not leave.
func (x *Session) Answered(n int) {
	if x.Settings.UDP.OnePacket {
		x.release(n)
	}
}

// unlistOnce has no more datagrams given to a session.
func (m *Sessions) unlistOnce(x *Session) {
	k := onceKey{x.ent.Key(), x.backend}
	if id, ok := m.once[k]; ok && id == x.ID {
		delete(m.once, k)
	}
}
