package flow

import (
	"time"

	"usher/conntrack"
)

// drainSilence is the idle timeout while draining of a flow that is owed nothing: a UDP
// flow has no end of its own.
const drainSilence = time.Second

// Drain begins no more sessions, and ends those that are owed nothing and silent.
func (m *Sessions) Drain() {
	MustHold(m)
	m.closed = true
	for x := range m.among(0, len(m.slots)*SessionChunk) {
		m.table.Arm(x.ID, m.deadline(x))
	}
}

// Expire ends what has been silent for too long.
func (m *Sessions) Expire(now time.Duration) {
	m.now = now
	m.table.Expire(now, m.fire)
}

// expired is called when a session's timer has fired. It ends the session or sets
// the timer anew.
func (m *Sessions) expired(id conntrack.ID) {
	x := m.At(id)
	x.age(m.now)
	if x.ent.State() != conntrack.Unreplied {
		x.idle.update(m.table, id, x.ent.Touched(), idleGrace, m.now)
	}
	if at := m.deadline(x); m.now < at {
		m.table.Arm(x.ID, at)
		return
	}
	if x.ends > 0 && m.now >= x.ends {
		m.end(x, Aged, m.now)
		return
	}
	m.end(x, IdleTimeout, m.now)
}

// end ends a session: its socket is closed, its backend released, its row removed.
func (m *Sessions) end(x *Session, o Outcome, now time.Duration) {
	if x.isAnnounced {
		m.tell(x, Ended, now)
	}
	m.cut(x)
	x.release(x.places)
	if x.kept.datagrams == 0 { // it ends before the copies could be sent again
		x.Service.CountDrop(DropRefused, x.kept.copies)
	}
	if x.Settings.UDP.OnePacket {
		m.unlistOnce(x)
	}
	m.unlistNamed(x)
	m.admission.settleSession(x, o, now)
	m.table.Remove(x.ID)
	m.admission.clients.leave(x.Service, x.Client.Addr())
	x.Settings.forget(&x.sticky, now)
	x.pass.Release()
	cfg := x.Settings
	*x = Session{}
	m.admission.leave(cfg)
}

// CountBytes adds what was passed on since the last call, by the sessions in CutShare slots,
// to the counters of services and backends. It reports whether there are more slots.
func (m *Sessions) CountBytes(from int) (more bool) {
	some, more := m.InTurn(from)
	for x := range some {
		x.countBytes()
	}
	return more
}

// CutFlows ends up to EndShare sessions among CutShare slots. It returns the next slot, and
// whether there is one.
func (m *Sessions) CutFlows(t CutTarget, from int, now time.Duration) (next int, more bool) {
	some, more := m.InTurn(from)
	ended := 0
	for x := range some {
		if !t.has(x.Service, x.backend) {
			continue
		}
		next = int(x.ID) + 1
		m.end(x, BackendDown, now)
		if ended++; ended == EndShare {
			return next, true
		}
	}
	return from + CutShare, more
}

// Terminate ends the session of a row, and reports whether there was one.
func (m *Sessions) Terminate(r *Row, as Outcome, now time.Duration) bool {
	x := m.Find(r)
	if x != nil {
		m.end(x, as, now)
	}
	return x != nil
}

// Stop ends all sessions, and begins no more.
func (m *Sessions) Stop(now time.Duration) {
	m.closed = true
	for x := range m.among(0, len(m.slots)*SessionChunk) {
		m.end(x, Drained, now)
	}
}
