package proxy

import (
	"errors"
	"fmt"

	"usher/proxy/flow"
)

// CapacityError says that the services need more than there is: descriptors for their listeners, or flows in reserve.
type CapacityError struct {
	// Services are those to leave out of the new and changed ones, so that there is enough for the others. The last ones
	// come first. Empty: the others alone need too much.
	Services []string
	Err      error
}

func (e *CapacityError) Error() string { return e.Err.Error() }

// Unwrap returns what there is too little of.
func (e *CapacityError) Unwrap() error { return e.Err }

// tooFewDescriptors returns the error of a share that has no flows.
func (p *plan) tooFewDescriptors(share budget) error {
	return p.overCapacity(share.lacking, p.newSockets(), fmt.Errorf("descriptor limit: %s", share.note))
}

// tooFewFlows returns the error of reserves that are too large. Fewer sockets make room for flows, too.
func (p *plan) tooFewFlows(err error) error {
	e, ok := errors.AsType[*flow.ReserveError](err)
	if !ok {
		return err
	}
	costs := p.newSockets()
	for _, now := range p.changed {
		costs[now] = costs[now]/descriptorsPerFlow + now.settings.Reserve
	}
	return p.overCapacity(int(e.Reserved-e.Most), costs, err)
}

// newSockets returns how many sockets each of the changed services has to open.
func (p *plan) newSockets() map[*instance]int {
	all := make(map[*instance]int, len(p.changed))
	for i := range p.wants {
		if w := &p.wants[i]; w.binding == nil && (w.site == nil || w.site.owner == w.owner) {
			all[w.owner] += w.sockets
		}
	}
	return all
}

// overCapacity returns the error of services that need too much by a number.
func (p *plan) overCapacity(lacking int, costs map[*instance]int, err error) error {
	e := &CapacityError{Err: err}
	for i := len(p.changed) - 1; i >= 0 && lacking > 0; i-- {
		if now := p.changed[i]; costs[now] > 0 {
			lacking -= costs[now]
			e.Services = append(e.Services, now.service.Name)
		}
	}
	return e
}
