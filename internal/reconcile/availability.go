package reconcile

import (
	"strings"

	"go.uber.org/zap"

	"usher/balancer"
	"usher/internal/config"
)

// availability is whether a service has a backend for its clients, and if not, why.
type availability uint8

const (
	available availability = iota
	noBackend              // all were left out
	noWeight               // all have weight 0
	noAddress              // none of the others resolves
	noneReady              // those that do drain or are in maintenance
	allDown                // those that may get clients failed their checks
)

// assess looks at the backends. While a check or a name that may bring a good one has not had its first answer nothing is
// known to be missing; up says that a backend is known to be good.
func assess(rows []row, unanswered bool) (why availability, up bool) {
	why = noWeight
	if len(rows) == 0 {
		why = noBackend
	}
	for i := range rows {
		s := &rows[i].spec
		switch {
		case s.Weight == 0:
		case !s.Endpoint.Resolved():
			why = max(why, noAddress)
		case s.Admin != balancer.Ready:
			why = max(why, noneReady)
		case s.Status() == balancer.Up:
			return available, true
		case s.Status() == balancer.Unknown:
			return available, false
		default:
			why = allDown
		}
	}
	if unanswered && why != noWeight {
		return available, false
	}
	return why, false
}

// logAvailability logs when a service is left without a backend, and when it has one again, and reports its status.
func (p *planner) logAvailability() {
	why, up := assess(p.rows, p.unanswered)
	p.status = statusOf(p.rows, why, p.unanswered)
	name := p.service.Name
	p.availability = p.last.availability
	switch {
	case why != available && why != p.last.availability:
		p.availability = why
		level, message := zap.ErrorLevel, "all backends of service "+name+" are down"
		switch {
		case why == noBackend && p.service.IsEmpty(): // --on-empty allows it
			if level = zap.InfoLevel; !p.last.isKnown { // the line of the new service shows it
				level = zap.DebugLevel
			}
			message = "service " + name + " has no backend"
		case why == noWeight:
			level, message = zap.WarnLevel, "all backends of service "+name+" have weight 0"
		case why == noneReady:
			level, message = zap.WarnLevel, "no backend of service "+name+" is in service"
		}
		p.outcome = append(p.outcome, change{line: line{level, message, []zap.Field{zap.String("so", consequence(why, p.service))}}})
	case p.last.availability != available && up:
		p.availability = available
		p.outcome = append(p.outcome, change{line: line{zap.InfoLevel, "service " + name + " has a backend again", nil}})
	}
	if p.reported = p.status; p.status != p.last.reported {
		t := Transition{Kind: KindStatus, From: p.last.reported.String(), To: p.status.String()}
		p.outcome = append(p.outcome, change{Transition: t})
	}
}

// consequence says what happens to clients.
func consequence(why availability, s *config.Service) string {
	what, option := "clients are refused", ""
	if s.IsUDP() {
		what = "datagrams are dropped" // UDP has no way to refuse
	}
	if s.Wait > 0 {
		what = "clients wait up to " + config.Delay(s.Wait) + " for one, and are refused then"
		option = "--wait"
	}
	switch {
	case why == noBackend && s.IsEmpty() && s.OnEmpty == config.EmptyClose:
		what, option = "its listeners are closed", "--on-empty close"
	case why == noBackend && s.IsEmpty() && s.OnEmpty == config.EmptyDrop:
		what, option = "clients get no answer", "--on-empty drop"
	case why == noBackend && s.IsEmpty():
		option = join("--on-empty refuse", option)
	case why == noBackend:
		what = "none is left, " + what
	case why == noAddress:
		what = "none has an address, " + what
	case why == allDown && s.FailClosed:
		option = join("--fail closed", option)
	case why == allDown && s.Wait > 0 && s.Health.IsDeep():
		what = "clients wait up to " + config.Delay(s.Wait) + " for one, and are sent to them then"
		option = join("--fail open", option)
	case why == allDown && s.Wait > 0:
		what = "clients are sent to them anyway, for up to " + config.Delay(s.Wait)
		option = join("--fail open", option)
	case why == allDown:
		what, option = "clients are sent to them anyway", "--fail open"
	}
	switch {
	case option == "":
		return what
	case strings.Contains(option, " and "):
		return what + ", as " + option + " say"
	}
	return what + ", as " + option + " says"
}

func join(a, b string) string {
	if b == "" {
		return a
	}
	return a + " and " + b
}
