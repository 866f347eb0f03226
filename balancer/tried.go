package balancer

import "slices"

// maxTried bounds the backends that one flow can try. It also bounds what skipping
// them costs: among any maxTried+1 backends one is untried.
const maxTried = 32

// Tried names the backends that a flow has been to without success, so that its next
// choice avoids them. The zero value is empty, and so is a nil *Tried for the methods
// that only read. It belongs to one flow and is not for concurrent use.
//
// It passes through an interface, so one on the stack would be moved to the heap: keep
// it in memory that the flow has anyway.
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

// Reset forgets all.
func (t *Tried) Reset() { t.n = 0 }
