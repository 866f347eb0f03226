package balancer

import "slices"

// maxTried bounds the backends that one flow can try. It also bounds what skipping
// them costs: among any maxTried+1 backends one is untried.
const maxTried = 32

// Tried names the backends that a flow has tried without success, so that its next choice
// avoids them. The zero value is empty, and so is a nil *Tried for methods that only
// read. It belongs to one flow and is not for concurrent use. It escapes to the heap
// through an interface: keep it in memory that the flow has anyway.
type Tried struct {
	ids [maxTried]uint32
	n   uint8
}

// Add marks b as tried. Once Full, it has no effect.
func (t *Tried) Add(b *Backend) {
	if t.Full() || t.Has(b) {
		return
	}
	t.ids[t.n] = b.id
	t.n++
}

// Has reports whether b has been tried.
func (t *Tried) Has(b *Backend) bool {
	return t != nil && t.n > 0 && slices.Contains(t.ids[:t.n], b.id)
}

// Len returns how many different backends have been tried.
func (t *Tried) Len() int {
	if t == nil {
		return 0
	}
	return int(t.n)
}

// Full reports whether no more can be remembered; the flow should give up then.
func (t *Tried) Full() bool { return t.Len() == maxTried }

// cursor is the index of the turns that a choice takes: new flows and retries have their
// own. If retries took turns of new flows, backends that serve would lose turns to the one
// that fails, and it would get more new flows.
func (t *Tried) cursor() int {
	if t.Len() > 0 {
		return 1
	}
	return 0
}

// cursors is the number of indices that cursor returns.
const cursors = 2

// Reset forgets all.
func (t *Tried) Reset() { t.n = 0 }

// IDs returns the IDs of the backends; SetIDs makes them those that were tried, as far as
// there is room.
func (t *Tried) IDs() []uint32 { return slices.Clone(t.ids[:t.n]) }

// SetIDs is described at IDs.
func (t *Tried) SetIDs(ids []uint32) { t.n = uint8(copy(t.ids[:], ids)) }
