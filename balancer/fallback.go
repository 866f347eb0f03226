package balancer

import "sync/atomic"

// fallback holds the backends that are no members, for retries that have tried all
// members: such a flow knows more than the checks. It is immutable except for the turn.
type fallback struct {
	classes [2 * len(tiers)][]*Backend // by tier, backups after the others; best class first
	turn    atomic.Uint64              // where in its class the next flow begins
}

// upClasses is how many classes there are of backends that are up.
const upClasses = 2

// fallback sorts the backends. Caller must hold mu, and member.slot set.
func (p *Pool) fallback() *fallback {
	f := new(fallback)
	for _, b := range p.Backends() {
		level := b.tier()
		if b.slot >= 0 || level == noTier || tiers[level] == Down && p.rules.failClosed || b.Weight() == 0 || !b.endpoint.Resolved() {
			continue
		}
		class := 2 * level
		if b.Backup() {
			class++
		}
		f.classes[class] = append(f.classes[class], b)
	}
	return f
}

// fallbackLooks bounds the search for one that has not failed.
const fallbackLooks = 2 * maxTried

// acquire reserves an untried backend of the first class that has one. Flows take turns,
// and those that have failed come last in their class. Where the untried of a class are
// full, waiting may help.
func (f *fallback) acquire(s scheduler, flow *Flow, tried *Tried) (b *Backend, busy bool) {
	classes := f.classes[:]
	if flow.UpOnly {
		classes = classes[:upClasses]
	}
	for _, class := range classes {
		if len(class) == 0 {
			continue
		}
		turn := f.turn.Add(1)
		for _, failing := range []bool{false, true} {
			looks := len(class)
			if !failing {
				looks = min(looks, fallbackLooks)
			}
			for i := range uint64(looks) {
				b := class[(turn+i)%uint64(len(class))]
				switch {
				case tried.Has(b) || !failing && b.failing.Load():
				case s.take(b, false):
					return b, false
				default:
					busy = true
				}
			}
		}
		if busy {
			return nil, true
		}
	}
	return nil, false
}
