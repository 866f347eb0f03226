package reconcile

import (
	"slices"
	"time"

	"go.uber.org/zap"

	"usher/balancer"
	"usher/health"
	"usher/internal/config"
)

// input is all that a plan follows from. Nothing in it is written to.
type input struct {
	service    *config.Service
	candidates []candidate
	leftOut    []line // why others are none
	unanswered bool   // the first look-up of a name has not ended
	overrides  map[balancer.Endpoint]*override
	seen       *observations
	ejected    map[*balancer.Backend]bool
	now        time.Duration
	wall       time.Time // of now
	quiet      bool      // holds back what there is to log; a later plan logs it
}

// state is a set of backends and what was logged and scheduled up to then. A plan makes one of the one before.
type state struct {
	rows         []row            // in the order of the pool
	removed      []removedBackend // whose flows have yet to end
	leftOut      map[string]bool
	availability availability
	status       ServiceStatus
	reported     ServiceStatus // the last one that was
	isKnown      bool          // a plan was not quiet: what comes from now on is a change
}

// row is what a backend is.
type row struct {
	backend      *balancer.Backend // nil until the pool has it
	spec         balancer.Spec
	check, agent *health.Target // in use; nil: none
	hasRefused   bool           // it was ejected at least once
	override     *override      // that counts; nil: none
	since        time.Time      // when it got its status
	why          string         // it has this status
	logged       logged
	refusal      refusal
	terminations *[causes]schedule // never written to; nil: none is set
}

// logged is what was last logged and reported of a backend.
type logged struct {
	isKnown  bool
	status   balancer.Status
	check    balancer.Status
	ejected  bool
	weight   int
	override *override
	report   *health.AgentReport // nil: none, as of most
}

// plan is what to do.
type plan struct {
	state
	checks       map[health.Target]checkResult        // what is handed over to targets that are new,
	agents       map[health.Target]health.AgentReport // of backends that had others
	retarget     bool                                 // checks and agents, or whom they are of, are others than before
	reasons      []change                             // logged before flows end for them
	terminations []termination
	outcome      []change      // logged afterwards
	held         []change      // of both, what a quiet plan leaves to a later one
	next         time.Duration // when the next termination is due; 0: none is
}

// planner makes a plan.
type planner struct {
	input
	plan
	last          state
	heedsRefusals bool
}

// newPlan is a pure function: the same input and last state make the same plan. Carried out, and planned again with what
// it has left, it makes one that changes and logs nothing.
func newPlan(in input, last state) plan {
	p := planner{input: in, last: last, heedsRefusals: in.service.HeedsRefusals()}
	p.rows = make([]row, len(in.candidates))
	before, removed := match(last.rows, in.candidates)
	p.retarget = removed != nil
	p.logLeftOut()
	for i := range in.candidates {
		var b row
		if before != nil {
			b = before[i]
		}
		p.rows[i] = p.add(&in.candidates[i], b)
	}
	p.reportRemoved(removed)
	p.terminateRemoved(removed)
	p.logAvailability()
	if in.quiet {
		p.held = append(p.reasons, p.outcome...)
		p.reasons, p.outcome = nil, nil
		p.state.leftOut, p.availability, p.reported = last.leftOut, last.availability, last.reported
	}
	p.isKnown = last.isKnown || !in.quiet
	return p.plan
}

// match returns the row of each candidate, an empty one for a new one, nil if all are new, and the rows of none, nil if all
// is as it was.
func match(rows []row, candidates []candidate) (matched, removed []row) {
	if len(rows) == 0 && len(candidates) > 0 {
		return nil, []row{}
	}
	if slices.EqualFunc(rows, candidates, func(r row, c candidate) bool { return r.spec.Endpoint == c.spec.Endpoint }) {
		return rows, nil
	}
	place := make(map[balancer.Endpoint]int, len(candidates))
	for i, c := range candidates {
		place[c.spec.Endpoint] = i
	}
	matched = make([]row, len(candidates))
	removed = []row{}
	for _, r := range rows {
		if i, stays := place[r.spec.Endpoint]; stays {
			matched[i] = r
		} else {
			removed = append(removed, r)
		}
	}
	return matched, removed
}

// add makes the row of a backend from the one that it had.
func (p *planner) add(c *candidate, before row) row {
	now := before
	isEjected := before.backend != nil && p.ejected[before.backend]
	now.hasRefused = before.hasRefused || isEjected
	now.check, now.agent = c.check, c.agent
	if p.service.Health.Kind == "auto" && !isCheckedByDefault(c, now.hasRefused) {
		now.check = nil
	}
	p.retarget = p.retarget || !isSameTarget(now.check, before.check) || !isSameTarget(now.agent, before.agent)

	found, report := p.found(&before, now.check), p.said(&before, now.agent)
	now.override = p.overrides[c.spec.Endpoint]
	override := now.override.value()
	now.spec = c.spec
	now.spec.Ejected = isEjected
	now.spec.Admin = max(override.admin, adminState(report.Admin))
	switch {
	case report.Oper == health.OperDown:
		now.spec.Check = balancer.Down
	case now.check == nil, p.service.Health.Kind == "auto" && now.hasRefused && found.status == balancer.Unknown:
		now.spec.Check = balancer.Up // what nobody has checked yet, or at all, is up
	default:
		now.spec.Check = found.status
	}
	applyReport(&now.spec, report)
	if override.hasWeight {
		now.spec.Weight, now.spec.Share = override.weight, 0
	}
	if before.backend == nil || now.spec.Status() != before.spec.Status() {
		now.since = p.wall
	}
	now.why = p.why(&now, found, report)
	p.logBackend(&now, found, report)
	if now.backend != nil {
		p.terminate(&now, [causes]bool{
			checkDown: found.status == balancer.Down,
			agentDown: report.Oper == health.OperDown,
			drained:   now.spec.Admin != balancer.Ready,
		})
	}
	return now
}

func isSameTarget(a, b *health.Target) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// found returns the last result for a backend. One that is checked in another way goes on with what was found until then,
// and one that was not checked as up.
func (p *planner) found(before *row, check *health.Target) (result checkResult) {
	switch {
	case check == nil:
		return result
	case isSameTarget(check, before.check) || before.backend == nil || p.service.Health.Kind == "auto":
		return p.seen.checks[*check]
	case before.check == nil:
		result.status = balancer.Up
	default:
		result = p.seen.checks[*before.check]
	}
	if result.status != balancer.Unknown {
		if p.checks == nil {
			p.checks = make(map[health.Target]checkResult)
		}
		p.checks[*check] = result
	}
	return result
}

// said is found for what agents have said.
func (p *planner) said(before *row, agent *health.Target) (report health.AgentReport) {
	switch {
	case agent == nil:
		return report
	case isSameTarget(agent, before.agent) || before.agent == nil:
		return p.seen.agents[*agent]
	}
	report = p.seen.agents[*before.agent]
	if p.agents == nil {
		p.agents = make(map[health.Target]health.AgentReport)
	}
	p.agents[*agent] = report
	return report
}

// logBackend logs and reports what has changed of a backend.
func (p *planner) logBackend(r *row, found checkResult, report health.AgentReport) {
	p.reportAdded(r)
	p.logOverride(r)
	p.logCheck(r, found)
	p.logReport(r, report)
	switch {
	case p.heedsRefusals:
		p.logRefusal(r)
	case r.spec.Ejected && !r.logged.ejected:
		p.change(r, line{zap.WarnLevel, "backend ejected: flow after flow failed there", nil}, Transition{Kind: KindEjected, Reason: r.why})
	case !r.spec.Ejected && r.logged.ejected:
		p.change(r, line{zap.InfoLevel, "backend readmitted", nil}, Transition{Kind: KindReadmitted})
	}
	if !p.heedsRefusals {
		r.refusal = refusal{}
	}
	p.reportStatus(r)
	if !p.quiet {
		r.logged = logged{
			isKnown: true, status: r.spec.Status(), check: found.status, ejected: r.spec.Ejected,
			weight: r.spec.Weight, override: r.override,
		}
		if report != (health.AgentReport{}) {
			said := report
			r.logged.report = &said
		}
	}
}

// logCheck logs what checks have changed. The first good result of a backend is what everybody expects and stays quiet.
func (p *planner) logCheck(r *row, found checkResult) {
	before := r.logged.check
	switch {
	case found.status == before:
	case found.status == balancer.Down:
		p.reason(r, zap.WarnLevel, "backend down", zap.Error(found.err))
	case found.status == balancer.Up && before == balancer.Unknown:
		p.reason(r, zap.DebugLevel, "backend up")
	case found.status == balancer.Up:
		p.reason(r, zap.InfoLevel, "backend up")
	}
}

// logLeftOut logs what is refused, unless the last plan refused it too.
func (p *planner) logLeftOut() {
	p.state.leftOut = make(map[string]bool)
	for _, l := range p.input.leftOut {
		key := l.message + l.fields[0].Interface.(error).Error()
		if !p.last.leftOut[key] && !p.state.leftOut[key] {
			p.reasons = append(p.reasons, change{line: l})
		}
		p.state.leftOut[key] = true
	}
}
