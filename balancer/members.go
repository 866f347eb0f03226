package balancer

import (
	"math"
	"slices"
)

// findings are the statuses whose backends may get flows, best first.
var findings = [...]Status{Up, Unknown, Down}

// eligible returns the members by the rule in the package documentation: of the best
// finding that has any, those that are no backups, else the backups. It needs mu.
func (p *Pool) eligible() []member {
	for best, status := range findings {
		if status == Down && p.failClosed {
			break
		}
		for _, backup := range []bool{false, true} {
			worst := best
			in := func(b *Backend) bool {
				level := b.level()
				return level >= best && level <= worst && b.Backup() == backup && b.endpoint.Resolved()
			}
			if !slices.ContainsFunc(p.Backends(), func(b *Backend) bool { return in(b) && b.Weight() > 0 }) {
				continue
			}
			if !backup && p.panicShare > 0 {
				worst = p.widen(best)
			}
			return p.weighed(in)
		}
	}
	return nil
}

// relief returns the backups that are up and not members: a flow that has been to all
// members in vain goes on to them, since it knows better than the checks. It needs mu,
// and member.slot set.
func (p *Pool) relief() []*Backend {
	var out []*Backend
	for _, b := range p.Backends() {
		if b.slot < 0 && b.Backup() && b.Status() == Up && b.Weight() > 0 && b.endpoint.Resolved() {
			out = append(out, b)
		}
	}
	return out
}

// level is the index of the backend's status in findings, or beyond them.
func (b *Backend) level() int {
	if i := slices.Index(findings[:], b.Status()); i >= 0 {
		return i
	}
	return len(findings)
}

// widen returns the worst finding with which backends are used besides the best one, so
// that no less than the panic share of them is in use: what is left would hardly stand
// the load of all, and checks that fail for most backends at once say more about the
// checks. Backups neither count nor take part. It needs mu.
func (p *Pool) widen(best int) int {
	var count [len(findings) + 1]int
	all := 0
	for _, b := range p.Backends() {
		if b.Weight() > 0 && !b.Backup() && b.endpoint.Resolved() {
			count[b.level()]++
		}
	}
	for level := range findings {
		all += count[level]
	}
	used := 0
	for worst := best; worst < len(findings); worst++ {
		if used += count[worst]; used*100 >= p.panicShare*all {
			return worst
		}
	}
	return len(findings) - 1
}

// weighed makes members of the backends for which in is true, with the weights that
// count now. Slow starts and Spec.Share change them in relation to each other: where they
// do so for all alike, as when there is one backend only, nobody could be spared. It needs
// mu.
func (p *Pool) weighed(in func(*Backend) bool) []member {
	members := make([]member, 0, len(p.Backends()))
	least, most := math.MaxInt, 0
	for _, b := range p.Backends() {
		w := b.Weight()
		if !in(b) || w == 0 && !p.quiesced {
			continue
		}
		members = append(members, member{b, w, b.turned, b.limits.Load()})
		if w > 0 {
			least, most = min(least, b.counts()), max(most, b.counts())
		}
	}
	if least >= most {
		return members
	}
	for i := range members {
		m := &members[i]
		// An int of 32 bits does not hold a hundred times more than 21 million: there the
		// heaviest are cut.
		m.weight = int(min(int64(m.weight)*int64(m.counts()), topWeight, math.MaxInt))
	}
	return members
}

// counts is how much of the weight counts now, in percent. It needs Pool.mu.
func (b *Backend) counts() int { return max(int(b.ramp.share)*b.share/fullShare, 1) }
