package control

import (
	"slices"
	"strings"

	"usher/internal/api"
	"usher/internal/config"
	"usher/internal/reconcile"
	"usher/proxy"
	"usher/proxy/flow"
)

// Services returns all services, in the order of their owners. Those of a cluster are sorted by name: they come and go
// in any order.
func (c *Controller) Services() []api.Service { return c.views((*service).view) }

// Overview returns all services in the same order, without their backends.
func (c *Controller) Overview() []api.Service { return c.views((*service).overview) }

func (c *Controller) views(of func(*service) api.Service) []api.Service {
	c.server.CountBytes()
	running := slices.Clone(*c.running.Load())
	isKube := func(s *service) bool { return s.owner == Kube }
	if first := slices.IndexFunc(running, isKube); first >= 0 {
		kube := running[first:]
		if n := slices.IndexFunc(kube, func(s *service) bool { return !isKube(s) }); n >= 0 {
			kube = kube[:n]
		}
		slices.SortFunc(kube, func(a, b *service) int { return strings.Compare(a.given.Name, b.given.Name) })
	}
	all := make([]api.Service, len(running))
	for i, s := range running {
		all[i] = of(s)
	}
	return all
}

// Service returns one service. The error is a *NotFoundError.
func (c *Controller) Service(name string) (api.Service, error) {
	s, err := c.lookup(name)
	if err != nil {
		return api.Service{}, err
	}
	c.server.CountBytes()
	return s.view(), nil
}

// Plan returns the plan in effect, as its owners gave it, without overrides. The caller writes to none of its services.
func (c *Controller) Plan() *config.Config {
	running := *c.running.Load()
	plan := &config.Config{Process: *c.process.Load(), Services: make([]*config.Service, len(running)), Rules: c.rules.Load().plan()}
	for i, s := range running {
		plan.Services[i] = s.plan
	}
	return plan
}

// view is what readers see of a service.
func (s *service) view() api.Service {
	v := s.overview()
	states := s.keeper.Backends()
	v.Backends = make([]api.Backend, len(states))
	for i := range states {
		v.Backends[i] = backendView(&states[i])
	}
	return v
}

// overview is what readers see of a service without its backends.
func (s *service) overview() api.Service {
	up, down := s.running.Bytes()
	v := api.Service{
		Name:      s.plan.Name,
		Owner:     string(s.owner),
		Network:   s.plan.Network(),
		Listen:    texts(s.config.Listeners),
		Scheduler: s.plan.Scheduler.String(),
		Status:    s.keeper.Status().String(),
		Active:    s.running.Active(),
		Queued:    s.running.Queued(),
		Total:     s.running.Accepted(),
		Failed:    s.running.Failed(),
		Refused:   refusedBy(s.running),
		BytesUp:   up,
		BytesDown: down,
		Backends:  []api.Backend{},
	}
	v.BackendsUp, v.BackendsAll = s.keeper.Counts()
	for _, a := range s.plan.Virtual {
		if slices.ContainsFunc(s.config.Listeners, func(l config.Addr) bool { return l.HostPort() == a.Listen }) { // not refused
			v.Virtual = append(v.Virtual, api.Virtual(a))
		}
	}
	return v
}

// refusedBy counts the clients that were not let in by their outcomes.
func refusedBy(s *proxy.Service) map[string]uint64 {
	var by map[string]uint64
	for o := range flow.Outcomes() {
		if n := s.Ended(o); n > 0 && o.IsFrontDoor() {
			if by == nil {
				by = make(map[string]uint64)
			}
			by[o.String()] = n
		}
	}
	return by
}

func backendView(s *reconcile.BackendState) api.Backend {
	b := s.Backend
	up, down := b.Bytes()
	return api.Backend{
		Address:  b.String(),
		Weight:   s.Weight,
		Backup:   s.Backup,
		Status:   s.Status.String(),
		Override: s.Override,
		Reason:   s.Reason,
		Since:    s.Since,
		Active:   b.Active(),
		Total:    b.Total(),
		Failed:   b.Failures(),

		BytesUp:   up,
		BytesDown: down,
		ConnectMS: float64(b.ConnectTime().Microseconds()) / 1000,
	}
}
