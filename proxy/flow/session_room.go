package flow

import (
	"net/netip"
	"time"

	"usher/conntrack"
)

// admit makes room for a session of a client.
func (m *Sessions) admit(cfg *Settings, client netip.AddrPort, now time.Duration) Outcome {
	svc := cfg.Service
	clients, addr := &m.admission.clients, client.Addr()
	if !clients.enter(svc, addr) && !(m.evictOwn(cfg, addr, now) && clients.enter(svc, addr)) {
		return ClientFull
	}
	o := m.admission.Place(cfg)
	if o != Running {
		o = m.admission.MakeRoom(Shortage{cfg, o}, func(s Shortage) bool {
			return m.Evict(s, nil, now) || m.others(s)
		})
	}
	if o != Running {
		clients.leave(svc, addr)
	}
	return o
}

// Evict ends the session that will be missed least among those whose end eases a
// shortage, but for x: the oldest without a reply after its grace, else the one that
// has been idle longest. None ends before its time of grace is over.
func (m *Sessions) Evict(s Shortage, x *Session, now time.Duration) bool {
	id, ok := m.table.OldestUnreplied(s.Eases)
	if !ok || m.At(id) == x || now < m.At(id).opened+evictGrace {
		id, ok = m.table.OldestIdle(s.Eases)
	}
	if !ok || m.At(id) == x {
		return false
	}
	m.end(m.At(id), Evicted, now)
	return true
}

// evictOwnSearch bounds the sessions of a service that are looked at for one of a client.
// A client that has its share has so many of them that it is hardly missed.
const evictOwnSearch = 16

// evictOwn ends a session of a client that has all that it may have of a service, as evict
// would for another client.
func (m *Sessions) evictOwn(cfg *Settings, addr netip.Addr, now time.Duration) bool {
	s := Shortage{cfg, ClientFull}
	for _, oldest := range [...]func(func(*Service) bool) (conntrack.ID, bool){m.table.OldestUnreplied, m.table.OldestIdle} {
		id, ok := oldest(s.Eases)
		for range evictOwnSearch {
			if !ok {
				break
			}
			x := m.At(id)
			if x.ent.State() == conntrack.Unreplied && now < x.opened+evictGrace {
				break // those after it are younger
			}
			if x.Client.Addr() == addr {
				m.end(x, Evicted, now)
				return true
			}
			id, ok = m.table.NextEvictable(id)
		}
	}
	return false
}

// evictForSocket ends a session, which must not be x, so that x may have its socket.
func (m *Sessions) evictForSocket(x *Session, now time.Duration) bool {
	x.Service.CountShortage()
	s := Shortage{x.Settings, NoResources}
	return m.Evict(s, x, now) || m.others(s)
}

// refuse accounts for a client that no session could be had for.
func (m *Sessions) refuse(a *arrival, o Outcome, now time.Duration) Action {
	m.door.pass.Release()
	svc := a.Settings.Service
	svc.accepted.Add(1)
	if now >= m.counts+time.Second {
		m.lines, m.counts = 0, now
	}
	if m.lines++; m.lines <= refusalLines {
		m.admission.Refuse(a.Settings, a.Origin, o, now)
	} else {
		svc.ended[o].Add(1)
	}
	return EndAs(o)
}
