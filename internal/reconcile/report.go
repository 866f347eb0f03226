package reconcile

import (
	"go.uber.org/zap"

	"usher/balancer"
	"usher/health"
)

func adminState(a health.AdminState) balancer.AdminState {
	switch a {
	case health.AdminDrain:
		return balancer.Drain
	case health.AdminMaint:
		return balancer.Maint
	}
	return balancer.Ready
}

// applyReport changes the weight and the limit of a backend as its agent says.
func applyReport(s *balancer.Spec, r health.AgentReport) {
	switch {
	case !r.Weight.IsSet:
	case r.Weight.Value == 0:
		s.Weight = 0
	default:
		s.Share = r.Weight.Value
	}
	if r.Max.IsSet {
		s.Limits.Max = r.Max.Value
		if most := r.Max.Value; most > 0 { // thresholds beyond it would never be reached
			s.Limits.Upper = min(s.Limits.Upper, most)
			s.Limits.Lower = min(s.Limits.Lower, most)
		}
	}
}

// logReport logs what the agent of a backend has changed.
func (p *planner) logReport(r *row, now health.AgentReport) {
	var before health.AgentReport
	if r.logged.report != nil {
		before = *r.logged.report
	}
	if now == before {
		return
	}
	if now.UnknownWord != before.UnknownWord && now.UnknownWord != "" {
		p.reason(r, zap.WarnLevel, "agent said an unknown word", zap.String("word", now.UnknownWord))
	}
	wasDown, isDown := before.Oper == health.OperDown, now.Oper == health.OperDown
	switch {
	case isDown && !wasDown && now.Reason != "":
		p.reason(r, zap.WarnLevel, "agent: down", zap.String("reason", now.Reason))
	case isDown && !wasDown:
		p.reason(r, zap.WarnLevel, "agent: down")
	case wasDown && !isDown:
		p.reason(r, zap.InfoLevel, "agent: no longer down")
	}
	if is := adminState(now.Admin); is != adminState(before.Admin) {
		p.reason(r, zap.InfoLevel, [...]string{"agent: ready", "agent: drain, no new clients", "agent: maintenance"}[is])
	}
	// An agent may make a weight of the load of its machine.
	if now.Weight != before.Weight {
		p.reason(r, zap.DebugLevel, "agent: weight", zap.Int("percent", now.Weight.Value))
	}
	if now.Max != before.Max {
		p.reason(r, zap.DebugLevel, "agent: limit", zap.Int("max", now.Max.Value))
	}
}
