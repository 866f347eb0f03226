package reconcile

import (
	"slices"
	"time"

	"usher/balancer"
	"usher/internal/config"
	"usher/proxy"
	"usher/proxy/flow"
)

// cause is why the flows of a backend may have to end.
type cause uint8

const (
	checkDown cause = iota
	agentDown
	drained // or in maintenance
	removal // for good
	causes
)

// termination ends the flows of a backend.
type termination struct {
	backend *balancer.Backend
	how     proxy.Cut
}

// schedule is a termination for one cause. It is done once, for as long as the cause is there.
type schedule struct {
	due       time.Duration
	how       proxy.Cut
	set, done bool
}

// removedBackend is one that has left the pool.
type removedBackend struct {
	backend      *balancer.Backend
	terminations [causes]schedule
}

// scheduled is what a policy asks for from now on.
func (p *planner) scheduled(policy config.TerminationPolicy) schedule {
	switch policy.How {
	case "fin":
		return schedule{set: true, due: p.now + policy.After, how: flow.Fin}
	case "reset":
		return schedule{set: true, due: p.now + policy.After, how: flow.Reset}
	}
	return schedule{}
}

// terminate schedules the ends of a backend's flows for the causes that are there, cancels those whose cause has gone,
// and plans those that are due. Of several the first to be due counts.
func (p *planner) terminate(r *row, is [causes]bool) {
	policies := [causes]config.TerminationPolicy{checkDown: p.service.OnDown, agentDown: p.service.OnDown, drained: p.service.OnDrain}
	next := r.schedules()
	for cause := range removal {
		s := &next[cause]
		switch {
		case !is[cause]:
			*s = schedule{}
		case !s.set:
			*s = p.scheduled(policies[cause])
		}
	}
	p.terminateDue(r.backend, &next)
	if next == r.schedules() {
		return
	}
	if r.terminations = nil; next != ([causes]schedule{}) {
		kept := next
		r.terminations = &kept
	}
}

// schedules are the terminations of a row.
func (r *row) schedules() (all [causes]schedule) {
	if r.terminations != nil {
		all = *r.terminations
	}
	return all
}

// terminateRemoved goes on with the backends that have left. Their removal takes the place of all other causes, unless
// it is to keep the flows: those of a backend that was down before still end.
func (p *planner) terminateRemoved(rows []row) {
	all := slices.Clone(p.last.removed)
	for _, r := range rows {
		if !r.spec.Endpoint.Resolved() {
			continue
		}
		terminations := r.schedules()
		if s := p.scheduled(p.service.OnRemove); s.set {
			terminations = [causes]schedule{removal: s}
		}
		all = append(all, removedBackend{r.backend, terminations})
	}
	for _, r := range all {
		if p.terminateDue(r.backend, &r.terminations) {
			p.removed = append(p.removed, r)
		}
	}
}

// terminateDue plans what is due of a backend, and reports whether something is left to do.
func (p *planner) terminateDue(b *balancer.Backend, all *[causes]schedule) (pending bool) {
	for i := range all {
		s := &all[i]
		switch {
		case !s.set || s.done:
		case s.due <= p.now:
			s.done = true
			p.terminations = append(p.terminations, termination{b, s.how})
		default:
			pending = true
			if p.next == 0 || s.due < p.next {
				p.next = s.due
			}
		}
	}
	return pending
}
