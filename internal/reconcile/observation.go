package reconcile

import (
	"usher/balancer"
	"usher/health"
	"usher/internal/discovery"
)

// observations are what was found out up to now. They belong to Service.reconcile.
type observations struct {
	isNew  bool                          // candidates are to be made anew
	names  map[string][]discovery.Record // of names that were looked up; empty: does not resolve
	era    uint32                        // counts monitors of checks
	checks map[health.Target]checkResult // of those that are checked
	agents map[health.Target]health.AgentReport
	live   map[*balancer.Backend]bool
	events []line // to be logged as they are

	overrides map[balancer.Endpoint]*override // what operators have set
	ofNames   map[balancer.Endpoint]bool      // those of addresses that a name has had and that are not configured
}

// checkResult is what checks found of a target last.
type checkResult struct {
	status balancer.Status // Unknown, Up or Down
	err    error           // why it is down
}

func newObservations() observations {
	return observations{
		isNew:  true,
		names:  make(map[string][]discovery.Record),
		checks: make(map[health.Target]checkResult),
		agents: make(map[health.Target]health.AgentReport),
		live:   make(map[*balancer.Backend]bool),
	}
}

// observation is one thing that was found out. Of one subject the last counts, and what is of no use any more is passed
// over.
type observation func(*observations)

func nameAnswer(name string, records []discovery.Record) observation {
	return func(o *observations) { o.names[name], o.isNew = records, true }
}

func targetResult(era uint32, t health.Target, r checkResult) observation {
	return func(o *observations) {
		if _, has := o.checks[t]; has && era == o.era {
			o.checks[t] = r
		}
	}
}

func agentReport(t health.Target, r health.AgentReport) observation {
	return func(o *observations) {
		if _, has := o.agents[t]; has {
			o.agents[t] = r
		}
	}
}

func liveBackend(b *balancer.Backend) observation {
	return func(o *observations) { o.live[b] = true }
}

func event(l line) observation {
	return func(o *observations) { o.events = append(o.events, l) }
}

// lookAgain has candidates made anew.
func lookAgain(o *observations) { o.isNew = true }
