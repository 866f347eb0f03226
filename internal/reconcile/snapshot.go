package reconcile

import (
	"fmt"
	"time"

	"usher/balancer"
	"usher/health"
	"usher/internal/config"
)

// BackendState is what a backend is at a moment, and why.
type BackendState struct {
	Backend  *balancer.Backend // with its counters
	Weight   int
	Backup   bool
	Status   balancer.Status
	Override string    // set by hand: drain, maint, weight=N, or two of them with a comma
	Reason   string    // why it has this status; empty: its checks pass
	Since    time.Time // of this status
}

// snapshot is what the last run has made of the service. Readers share it; nobody writes to it.
type snapshot struct {
	rows     []row
	backends []config.Backend // as configured
	status   ServiceStatus
}

// Backends returns the backends in the order of the pool. It waits for nothing.
func (s *Service) Backends() []BackendState {
	rows := s.shown.Load().rows
	all := make([]BackendState, len(rows))
	for i := range rows {
		r := &rows[i]
		all[i] = BackendState{
			Backend: r.backend, Weight: r.spec.Weight, Backup: r.spec.Backup, Status: r.spec.Status(),
			Override: r.override.String(), Reason: r.why, Since: r.since,
		}
	}
	return all
}

// Counts returns how many backends are up, and how many there are. It waits for nothing.
func (s *Service) Counts() (up, all int) {
	rows := s.shown.Load().rows
	for i := range rows {
		if rows[i].spec.Status() == balancer.Up {
			up++
		}
	}
	return up, len(rows)
}

// Status returns how many of the backends are in use. It waits for nothing.
func (s *Service) Status() ServiceStatus { return s.shown.Load().status }

// ServiceStatus says how many backends of a service are in use.
type ServiceStatus uint8

const (
	ServiceUp       ServiceStatus = iota // all that shall get clients
	ServiceDegraded                      // some of them
	ServiceDown                          // none: clients are refused, or sent to backends that are down
)

func (s ServiceStatus) String() string { return [...]string{"up", "degraded", "down"}[s] }

// statusOf is the status of a service with these rows, of which why and up are known. Backends of weight 0, in drain or in
// maintenance are left out by intent: without them a service is as up as before, unless they are all. One that nobody has
// checked yet is in use. Before a name has had its first answer nothing is known to be missing.
func statusOf(rows []row, why availability, unanswered bool) ServiceStatus {
	if why != available {
		return ServiceDown
	}
	for i := range rows {
		s := &rows[i].spec
		if s.Status() == balancer.Down && s.Weight > 0 && (s.Endpoint.Resolved() || !unanswered) {
			return ServiceDegraded
		}
	}
	return ServiceUp
}

// why says in a few words why a backend has its status.
func (p *planner) why(r *row, found checkResult, report health.AgentReport) string {
	status := r.spec.Status()
	switch status {
	case balancer.Draining, balancer.InMaint:
		if r.override.value().admin == r.spec.Admin {
			return "override: " + status.String()
		}
		return "agent: " + status.String()
	case balancer.Down:
		return p.whyDown(r, found, report)
	}
	switch {
	case r.check == nil:
		return "not checked"
	case found.status == balancer.Unknown:
		return "not checked yet"
	}
	return ""
}

func (p *planner) whyDown(r *row, found checkResult, report health.AgentReport) string {
	switch {
	case !r.spec.Endpoint.Resolved() && p.unanswered:
		return "name does not resolve yet"
	case !r.spec.Endpoint.Resolved():
		return "name does not resolve"
	case r.spec.Ejected && p.heedsRefusals:
		return "ejected: refuses datagrams"
	case r.spec.Ejected:
		return fmt.Sprintf("ejected: %d failures in a row", p.service.Eject.Failures)
	case report.Oper == health.OperDown && report.Reason != "":
		return "agent: down, " + report.Reason
	case report.Oper == health.OperDown:
		return "agent: down"
	case found.err != nil:
		return found.err.Error()
	}
	return "check failed"
}

func adminWord(a balancer.AdminState) string {
	s := balancer.Spec{Admin: a}
	return s.Status().String()
}
