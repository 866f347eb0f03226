package app

import (
	"go.uber.org/zap"

	"usher/balancer"
	"usher/internal/config"
)

// outage is why a service has no backend for its clients.
type outage uint8

const (
	none      outage = iota
	noBackend        // all were left out
	noWeight         // all have weight 0
	noAddress        // none of the others resolves
	noService        // those that do drain or are in maintenance
	allDown          // those that may get clients failed their checks
)

// outage looks at the pool. While a check or a name that may end it has not had its first answer there is none; up says
// that a backend is known to be good. It needs mu. With a good backend, or one not checked yet, among the first it is
// quick, however many there are.
func (k *keeper) outage() (why outage, up bool) {
	backends := k.pool.Backends()
	why = noWeight
	if len(backends) == 0 {
		why = noBackend
	}
	for _, b := range backends {
		switch {
		case b.Weight() == 0:
		case !b.Endpoint().Resolved():
			why = max(why, noAddress)
		case b.Status() == balancer.Drain || b.Status() == balancer.Maint:
			why = max(why, noService)
		case b.Status() == balancer.Up:
			return none, true
		case b.Status() == balancer.Unknown:
			return none, false
		default:
			why = allDown
		}
	}
	if len(k.unanswered) > 0 && why != noWeight {
		return none, false
	}
	return why, false
}

// tellOutage logs when a service is left without a backend, and when it has one again. It needs mu.
func (k *keeper) tellOutage() {
	why, up := k.outage()
	name := k.service.Name
	switch {
	case why != none && why != k.told:
		k.told = why
		so := zap.String("so", consequence(why, k.service))
		switch why {
		case noWeight:
			k.journal.add(func() { k.log.Warn("all backends of service "+name+" have weight 0", so) })
		case noService:
			k.journal.add(func() { k.log.Warn("no backend of service "+name+" is in service", so) })
		default:
			k.journal.add(func() { k.log.Error("all backends of service "+name+" are down", so) })
		}
	case k.told != none && up:
		k.told = none
		k.journal.add(func() { k.log.Info("service " + name + " has a backend again") })
	}
}

// consequence says what happens to clients.
func consequence(why outage, s config.Service) string {
	what, option := "clients are refused", ""
	if s.IsUDP() {
		what = "datagrams are dropped" // UDP has no way to refuse
	}
	if s.Wait > 0 {
		what = "clients wait up to " + config.Delay(s.Wait) + " for one, and are refused then"
		option = "--wait"
	}
	switch {
	case why == noBackend:
		what = "none is left, " + what
	case why == noAddress:
		what = "none has an address, " + what
	case why == allDown && s.FailClosed:
		option = join("--fail closed", option)
	case why == allDown && s.Wait > 0:
		what = "clients are sent to them anyway, for up to " + config.Delay(s.Wait)
		option = join("--fail open", option)
	case why == allDown:
		what, option = "clients are sent to them anyway", "--fail open"
	}
	if option == "" {
		return what
	}
	return what + " (" + option + ")"
}

func join(a, b string) string {
	if b == "" {
		return a
	}
	return a + ", " + b
}
