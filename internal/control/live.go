package control

import (
	"usher/internal/config"
	"usher/internal/reconcile"
	"usher/proxy"
)

// Live is a service that runs, with what has its counters.
type Live struct {
	Owner    Owner
	Config   *config.Service // with the addresses and ports that its listeners have
	Running  *proxy.Service
	Backends []reconcile.BackendState
}

// Live returns all services, in the order of their owners. Nobody writes to what they have.
func (c *Controller) Live() []Live {
	c.server.CountBytes()
	running := *c.running.Load()
	all := make([]Live, len(running))
	for i, s := range running {
		all[i] = Live{Owner: s.owner, Config: s.config, Running: s.running, Backends: s.keeper.Backends()}
	}
	return all
}

// OwnedBy is the error of a change to a service of another owner.
func (c *Controller) OwnedBy(service string, owner Owner) *OwnerError {
	return &OwnerError{Service: service, Owner: owner, file: c.file}
}
