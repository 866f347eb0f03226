package app

import (
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"

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
	said map[health.Target]health.Advice // by each that is asked, if nothing yet the zero value
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
		said:    make(map[health.Target]health.Advice),
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
	before, ok := a.said[t]
	now := advice.Over(before)
	if !ok || now == before {
		return
	}
	a.said[t] = now
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

// all is what agents have said up to now. The map is the caller's.
func (a *agents) all() map[health.Target]health.Advice {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.said)
}

// follow makes targets the agents to ask. Those that are gone are forgotten.
func (a *agents) follow(targets []health.Target) {
	if a == nil {
		return
	}
	stay := make(map[health.Target]health.Advice, len(targets))
	a.mu.Lock()
	for _, t := range targets {
		stay[t] = a.said[t]
	}
	a.said = stay
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
