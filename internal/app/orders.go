package app

import (
	"go.uber.org/zap"

	"usher/balancer"
	"usher/health"
)

// settle makes one status of what the check and the agent of a backend say. It needs mu.
func (k *keeper) settle(b *balancer.Backend) {
	if !b.Endpoint().Resolved() {
		return
	}
	finding, advice := k.found[b], k.obeyed[b]
	if finding == balancer.Unknown && k.monitor == nil {
		finding = balancer.Up
	}
	if advice.State == health.StateDown {
		finding = balancer.Down
	}
	// An order comes before a finding that it is to hide, and goes after one that it has hidden: nobody gets there between.
	switch advice.Order {
	case health.OrderDrain:
		k.pool.SetStatus(b, balancer.Drain)
	case health.OrderMaint:
		k.pool.SetStatus(b, balancer.Maint)
	}
	k.pool.SetStatus(b, finding)
	if !away(advice) {
		k.pool.Resume(b)
	}
}

// advice is what the agent of a backend has said, as far as specs has seen it: of a backend without one it is nothing. It
// needs mu.
func (k *keeper) advice(e balancer.Endpoint) health.Advice {
	if len(k.said) == 0 {
		return health.Advice{}
	}
	t, _ := k.agentTarget(e)
	return k.said[t]
}

// obey carries out what agents have said since the last time, but for the weights and limits, which specs has. It needs
// mu, and returns what is to be done without.
func (k *keeper) obey() (then []func()) {
	if k.agents == nil {
		return nil
	}
	for _, b := range k.pool.Backends() {
		advice, before := k.advice(b.Endpoint()), k.obeyed[b]
		if advice == before {
			continue
		}
		k.obeyed[b] = advice
		k.settle(b)
		k.journal.add(func() { k.tellAdvice(b, advice, before) })
		was, is := before.State == health.StateDown, advice.State == health.StateDown
		if was != is {
			then = append(then, func() { k.withdraw(b, is, k.service.OnDown, agentDown) })
		}
		if was, is := away(before), away(advice); was != is {
			then = append(then, func() { k.withdraw(b, is, k.service.OnDrain, ordered) })
		}
	}
	return then
}

// away reports whether an operator wants no new flows there.
func away(a health.Advice) bool { return a.Order == health.OrderDrain || a.Order == health.OrderMaint }

// tellAdvice logs what a backend's agent has changed.
func (k *keeper) tellAdvice(b *balancer.Backend, now, before health.Advice) {
	who := zap.Stringer("backend", b)
	if now.State != before.State {
		switch {
		case now.State == health.StateDown && now.Reason != "":
			k.log.Warn("agent: down", who, zap.String("reason", now.Reason))
		case now.State == health.StateDown:
			k.log.Warn("agent: down", who)
		case before.State == health.StateDown:
			k.log.Info("agent: no longer down", who)
		}
	}
	if now.Order != before.Order {
		switch {
		case now.Order == health.OrderDrain:
			k.log.Info("agent: drain, no new clients", who)
		case now.Order == health.OrderMaint:
			k.log.Info("agent: maintenance", who)
		case away(before):
			k.log.Info("agent: ready", who)
		}
	}
	// An agent may make a weight of the load of its machine.
	if now.Weight != before.Weight {
		k.log.Debug("agent: weight", who, zap.Int("percent", now.Weight.Value))
	}
	if now.Max != before.Max {
		k.log.Debug("agent: limit", who, zap.Int("max", now.Max.Value))
	}
}

// advised is a backend as its agent wants it.
func advised(s balancer.Spec, a health.Advice) balancer.Spec {
	switch {
	case !a.Weight.Given:
	case a.Weight.Value == 0:
		s.Weight = 0
	default:
		s.Share = a.Weight.Value
	}
	if a.Max.Given {
		s.Limits.Max = a.Max.Value
		if most := a.Max.Value; most > 0 { // thresholds beyond it would never be reached
			s.Limits.Upper = min(s.Limits.Upper, most)
			s.Limits.Lower = min(s.Limits.Lower, most)
		}
	}
	return s
}
