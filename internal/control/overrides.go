package control

import (
	"context"
	"errors"

	"usher/internal/config"
	"usher/internal/reconcile"
)

// SetOverride sets what o says of a backend by hand, whichever source owns it. It stands above the configuration and
// above what the backend's agent says. It lasts until it ends, Resume takes it back, or the owner of the service removes
// the backend; a reload that keeps the backend keeps it. The address is as it is shown, as configured, or a name: then it
// is for all addresses that the name has. It returns when new flows follow it. A missing service or backend is a
// *NotFoundError.
func (c *Controller) SetOverride(ctx context.Context, service, address string, o reconcile.Override) error {
	return c.override(service, address, func(s *reconcile.Service, address string) error { return s.SetOverride(ctx, address, o) })
}

// Resume takes back all that was set of a backend by hand. Its errors are those of SetOverride.
func (c *Controller) Resume(ctx context.Context, service, address string) error {
	return c.override(service, address, func(s *reconcile.Service, address string) error { return s.ClearOverride(ctx, address) })
}

func (c *Controller) override(service, address string, do func(s *reconcile.Service, address string) error) error {
	s, err := c.lookup(service)
	if err != nil {
		return err
	}
	err = do(s.keeper, address)
	if errors.Is(err, reconcile.ErrNoBackend) {
		if b, bad := config.ParseBackend(address, s.plan.Network()); bad == nil && endpoint(b.Addr) != address {
			err = do(s.keeper, endpoint(b.Addr)) // 9001 is short for 127.0.0.1:9001
		}
	}
	if errors.Is(err, reconcile.ErrNoBackend) {
		return &NotFoundError{Kind: "backend", Name: address, Service: service, Have: s.backendNames()}
	}
	return err
}

// endpoint writes an address as it is shown.
func endpoint(a config.Addr) string {
	if a.Network == config.Unix {
		return a.String()
	}
	return a.HostPort()
}

func (s *service) backendNames() []string {
	states := s.keeper.Backends()
	names := make([]string, len(states))
	for i := range states {
		names[i] = states[i].Backend.String()
	}
	return names
}
