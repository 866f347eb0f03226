package conntrack

import (
	"errors"
	"net/netip"
	"time"
)

// Restore inserts an entry that is like one of another table, with its times, state and
// counters; it has no deadline. The entry is nil if the table is full, or if the state is
// none that entries of such a table have.
func (t *Table[S, B]) Restore(r Row[S, B]) (ID, *Entry[S, B]) {
	if !r.State.IsOf(t.keys != nil) {
		return none, nil
	}
	id, e := t.Insert(r.Key, r.Service, r.Created)
	if e == nil {
		return none, nil
	}
	e.SetBackend(r.Backend)
	e.SetTries(r.Tries)
	e.up.Store(r.Up)
	e.down.Store(r.Down)
	e.touched.Store(int64(r.Touched))
	if r.State == Assured {
		t.Assure(id)
	} else {
		e.SetState(r.State)
	}
	return id, e
}

// IsOf reports whether entries of an indexed table, or those of another one, have the state.
func (s State) IsOf(indexed bool) bool {
	return s > 0 && s < states && indexed == (s == Unreplied || s == Assured)
}

// MarshalBinary returns the mask as two bytes.
func (m Mask) MarshalBinary() ([]byte, error) { return []byte{m.host4, m.host6}, nil }

// UnmarshalBinary is the reverse of MarshalBinary.
func (m *Mask) UnmarshalBinary(b []byte) error {
	if len(b) != 2 || b[0] > 32 || b[1] > 128 {
		return errors.New("not a mask")
	}
	*m = Mask{b[0], b[1]}
	return nil
}

// Holds reports whether a reference is to an entry that is still there.
func (a *Affinity[S, B]) Holds(ref *AffinityRef) bool {
	if ref.generation == 0 {
		return false
	}
	sh := a.shards[ref.shard]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.slot(ref.id)
	return e.backend != nil && e.generation == ref.generation
}

// Restore inserts an entry of another table, without its flows, which [Affinity.Join] adds. It
// has no effect for a client that has an entry, or for which there is no room.
func (a *Affinity[S, B]) Restore(row AffinityEntry[S, B], now time.Duration) {
	if row.Service == nil || row.Backend == nil || !row.Client.IsValid() {
		return
	}
	k := affinityKey[S]{row.Service, networkOf(row.Client)}
	sh, hash := a.shard(&k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.findLocked(&k, hash, now) != none {
		return
	}
	if id := sh.insertLocked(&k, hash, row.Backend, row.Expires, now); id != none {
		sh.slot(id).created = row.Created
	}
}

// networkOf reverses network.prefix.
func networkOf(p netip.Prefix) network {
	p = p.Masked()
	host := uint8(p.Addr().BitLen() - p.Bits())
	return Mask{host, host}.network(p.Addr())
}

// Join has a flow refer to its client's entry, as Get has, but does not refresh the entry.
// Without one ref is zero.
func (a *Affinity[S, B]) Join(ref *AffinityRef, c AffinityClient[S], now time.Duration) {
	a.Release(ref, now)
	if c.key.service == nil {
		return
	}
	sh, hash := a.shard(&c.key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if id := sh.findLocked(&c.key, hash, now); id != none {
		sh.addFlowLocked(id, ref)
	}
}
