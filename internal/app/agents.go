package app

import (
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"

	"usher/balancer"
	"usher/health"
	"usher/internal/config"
)

// agents asks the agents of one service's backends, and holds what each has said up to now.
type agents struct {
	monitor *health.Monitor
	errand  *errand // brings the pool in line
	log     *zap.Logger
	journal *journal

	mu   sync.Mutex
	at   map[health.Target]balancer.Endpoint
	said map[balancer.Endpoint]health.Advice // of the backends in at
}

// newAgents returns nil if no backend may have an agent. Its checks share slots with those of others. Changed brings the
// pool in line with advice.
func newAgents(s *config.Service, changed func(), log *zap.Logger, j *journal, slots *health.Slots) *agents {
	if !s.HasAgents() {
		return nil
	}
	a := &agents{
		log:     log,
		journal: j,
		at:      make(map[health.Target]balancer.Endpoint),
		said:    make(map[balancer.Endpoint]health.Advice),
	}
	a.monitor = health.NewMonitor(health.NewAgent(s.Agent.Send, a.heard), health.Policy{
		Interval: s.Agent.Interval, Timeout: s.Agent.Timeout, Rise: 1, Fall: 3, Slots: slots,
		Inconclusive: func(t health.Target, err error) { a.tell("agents cannot be asked", t, err) },
	}, a.report)
	a.errand = newErrand(false, func() (time.Duration, bool) {
		changed()
		return 0, false
	})
	return a
}

// heard takes in an answer. What it changes is carried out by an errand: a change of weight may mean to build a table, and
// the agents of a thousand backends may all say something new within a second.
func (a *agents) heard(t health.Target, advice health.Advice) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e, ok := a.at[t]
	before := a.said[e]
	now := advice.Over(before)
	if !ok || now == before {
		return
	}
	a.said[e] = now
	if now.Odd != before.Odd {
		a.journal.add(func() {
			a.log.Warn("agent said a word that means nothing", zap.String("backend", t.Name), zap.String("word", now.Odd))
		})
	}
	a.errand.tell()
}

// report tells whether there is an agent at all. The backend goes on as its agent said before.
func (a *agents) report(t health.Target, up bool, err error) {
	if !up {
		a.tell("agent does not answer: what it said before holds", t, err)
	}
}

func (a *agents) tell(warning string, t health.Target, err error) {
	a.journal.add(func() { a.log.Warn(warning, zap.String("backend", t.Name), zap.Error(err)) })
	a.journal.flush()
}

// advice is what the agent of a backend has said up to now; of nobody it is nothing.
func (a *agents) advice(e balancer.Endpoint) health.Advice {
	if a == nil {
		return health.Advice{}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.said[e]
}

// follow makes at the agents to ask. Those that are gone are forgotten.
func (a *agents) follow(at map[health.Target]balancer.Endpoint) {
	if a == nil {
		return
	}
	a.mu.Lock()
	a.at = at
	stay := make(map[balancer.Endpoint]bool, len(at))
	targets := make([]health.Target, 0, len(at))
	for t, e := range at {
		stay[e] = true
		targets = append(targets, t)
	}
	maps.DeleteFunc(a.said, func(e balancer.Endpoint, _ health.Advice) bool { return !stay[e] })
	a.mu.Unlock()
	a.monitor.Set(targets)
}

// close ends the asking; nil has nothing to end.
func (a *agents) close() {
	if a == nil {
		return
	}
	a.monitor.Close()
	a.errand.close()
}
