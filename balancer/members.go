package balancer

import (
	"math"
	"slices"
)

// tiers are the statuses whose backends may get flows, best first.
var tiers = [...]Status{Up, Unknown, Down}

// noTier is the level of backends that drain or are in maintenance, and of no members.
const noTier = len(tiers)

// eligible returns the members as the package document says: of the best tier that has
// any, those that are no backups, else the backups. Caller must hold mu.
func (p *Pool) eligible() []member {
	for best, status := range tiers {
		if status == Down && p.rules.failClosed {
			break
		}
		for _, backup := range []bool{false, true} {
			worst := best
			in := func(b *Backend) bool {
				level := b.tier()
				return level >= best && level <= worst && b.Backup() == backup && b.endpoint.Resolved()
			}
			if !slices.ContainsFunc(p.Backends(), func(b *Backend) bool { return in(b) && b.Weight() > 0 }) {
				continue
			}
			if !backup && p.rules.panicShare > 0 {
				worst = p.widen(best)
			}
			return p.withWeights(in)
		}
	}
	return nil
}

// level is the index of the backend's status in tiers, or beyond them.
func (b *Backend) tier() int {
	if i := slices.Index(tiers[:], b.Status()); i >= 0 {
		return i
	}
	return noTier
}

// widen returns the worst tier that is in use besides the best one, so that the panic
// share of backends is in use: fewer would hardly stand the load, and checks that fail for
// most backends at once say more about the checks. Backups neither count nor take part.
// Caller must hold mu.
func (p *Pool) widen(best int) int {
	var count [noTier + 1]int
	all := 0
	for _, b := range p.Backends() {
		if b.Weight() > 0 && !b.Backup() && b.endpoint.Resolved() {
			count[b.tier()]++
		}
	}
	for level := range tiers {
		all += count[level]
	}
	used := 0
	for worst := best; worst < noTier; worst++ {
		if used += count[worst]; used*100 >= p.rules.panicShare*all {
			return worst
		}
	}
	return noTier - 1
}

// withWeights makes members of the backends for which in is true, with the weights that
// count now. Slow starts and Spec.Share change weights in relation to each other, so what
// is the same for all members changes nothing. Caller must hold mu.
func (p *Pool) withWeights(in func(*Backend) bool) []member {
	members := make([]member, 0, len(p.Backends()))
	least, most := math.MaxInt, 0
	for _, b := range p.Backends() {
		w := b.Weight()
		if !in(b) || w == 0 && !p.rules.quiesced {
			continue
		}
		members = append(members, member{b, w, int(b.turned), b.limits.Load()})
		if w > 0 {
			least, most = min(least, b.effectiveShare()), max(most, b.effectiveShare())
		}
	}
	if least >= most {
		return members
	}
	for i := range members {
		m := &members[i]
		// An int of 32 bits does not hold a hundred times more than 21 million: there the
		// heaviest are cut.
		m.weight = int(min(int64(m.weight)*int64(m.effectiveShare()), topWeight, math.MaxInt))
	}
	return members
}

// effectiveShare is how much of the weight counts now, in percent. Caller must hold Pool.mu.
func (b *Backend) effectiveShare() int { return max(int(b.ramp.share)*int(b.share)/fullShare, 1) }
