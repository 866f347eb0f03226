package flow

import (
	"net/netip"
	"time"

	"usher/conntrack"
)

// Detail is what a flow knows of itself beyond its row. The zero value is that of a flow that has ended.
type Detail struct {
	Target netip.AddrPort // of the backend, as the flow reaches it; invalid: no backend, or a unix socket
	Left   time.Duration  // until the flow ends unless something happens; negative: it does not
	Closed [2]bool        // by side: its FIN was passed on
	Sent   uint64         // datagrams to the backend
	Got    uint64         // datagrams from the backend
}

// Detail returns what the flow knows at now.
func (f *Flow) Detail(now time.Duration) Detail {
	d := Detail{Left: f.left(now), Closed: [2]bool{f.HasPassedFIN(Client), f.HasPassedFIN(Backend)}}
	if f.backend != nil {
		d.Target, _ = f.Target()
	}
	return d
}

// left returns how long the flow lasts if nothing happens. The timer may fire sooner, to look at the peers.
func (f *Flow) left(now time.Duration) time.Duration {
	var at time.Duration
	switch f.phase {
	case connecting:
		at = f.budget
	case waiting:
		at = max(f.hold, f.patience)
	case relaying:
		if at, _ = f.timeout(); f.ends > 0 {
			at = min(at, f.ends)
		}
	default:
		at = f.attempt
	}
	if at == never {
		return -1
	}
	return max(at-now, 0)
}

// Detail returns what the session knows at now.
func (x *Session) Detail(now time.Duration) Detail {
	d := Detail{Left: max(x.silentUntil()-now, 0), Sent: uint64(max(x.asked, 0)), Got: uint64(x.replies)}
	d.Target, _ = x.Target()
	return d
}

// silentUntil is when a session ends that carries nothing more.
func (x *Session) silentUntil() time.Duration {
	c := &x.Settings.UDP
	d := c.IdleTimeout
	if x.ent.State() == conntrack.Unreplied && c.UnrepliedTimeout > 0 {
		d = min(d, c.UnrepliedTimeout)
	}
	at := x.ent.Touched() + d
	if x.ends > 0 {
		at = min(at, x.ends)
	}
	return at
}

// Find returns the session of a row; nil if it has ended.
func (m *Sessions) Find(r *Row) *Session {
	if !m.table.Has(r) {
		return nil
	}
	return m.At(r.ID)
}
