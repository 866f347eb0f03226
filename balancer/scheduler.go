package balancer

import (
	"fmt"
	"net/netip"
	"strings"
)

// DefaultScheduler is the one that a pool uses when its options name none.
const DefaultScheduler = "rr"

// Flow is what a scheduler may look at.
type Flow struct {
	Client netip.AddrPort // not valid for the client of a unix socket
	Local  netip.AddrPort // what the client asked for
}

// member is a backend that may get new flows, with the weight that counts for this list.
type member struct {
	*Backend
	weight int // 1 … maxWeight
}

// scheduler is one algorithm at work for one pool. It owns what it derives from the
// members and publishes that itself.
type scheduler interface {
	// update takes a new list of members, which nobody changes afterwards. The pool
	// never calls it twice at once, calls it with nil before anything else, and has
	// set Backend.slot of the members before and now. acquire and release go on
	// meanwhile: until update returns they may see either list or both, and update
	// must not hold them up for longer than one of their own kind does.
	update(members []member)

	// acquire picks an untried member and reserves it, or returns nil when there is
	// none. Called from any goroutine; it does not allocate.
	acquire(f Flow, tried *Tried) *Backend

	// release undoes the reservation. The backend may have left the members, or the
	// pool, since. Called from any goroutine; it does not allocate.
	release(b *Backend)
}

// algorithms lists the schedulers by name. It is never written to.
var algorithms = [...]struct {
	name string
	make func() scheduler
}{
	{"rr", func() scheduler { return new(roundRobin) }},
	{"lc", func() scheduler { return new(leastConn) }},
	{"mh", func() scheduler { return new(maglev) }},
}

// Schedulers returns the names that Options.Scheduler can have, the default first.
func Schedulers() []string {
	names := make([]string, 0, len(algorithms))
	for _, a := range algorithms {
		names = append(names, a.name)
	}
	return names
}

func newScheduler(name string) (scheduler, error) {
	if name == "" {
		name = DefaultScheduler
	}
	for _, a := range algorithms {
		if a.name == name {
			return a.make(), nil
		}
	}
	return nil, fmt.Errorf("unknown scheduler %q: one of %s", name, strings.Join(Schedulers(), ", "))
}
