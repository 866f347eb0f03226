package reconcile

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"go.uber.org/zap"

	"usher/balancer"
	"usher/health"
	"usher/internal/config"
	"usher/proxy/proxyheader"
)

// parts are what a service needs that its options may make impossible.
type parts struct {
	checker health.Checker       // nil: checks are off
	eject   health.OutlierPolicy // Threshold 0: nothing is ejected
}

// Check returns an error if a service cannot be as configured, as far as that shows without its addresses: a file that
// checks need may not be there.
func Check(c *config.Service) error {
	_, err := newParts(c)
	return err
}

func newParts(c *config.Service) (p parts, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("service %s: %w", c.Name, err)
		}
	}()
	o := c.PoolOptions(rand.Uint64)
	if err := o.Check(); err != nil {
		return parts{}, err
	}
	p.eject = ejectPolicy(c)
	if err := p.eject.Check(); err != nil {
		return parts{}, err
	}
	if c.Health.IsOff() {
		return p, nil
	}
	p.checker, err = c.Health.Checker()
	if preface := checkPreface(c); preface != nil && err == nil {
		p.checker = health.WithPreface(p.checker, preface)
	}
	return p, err
}

// checkPreface returns the header of the PROXY protocol with which checks begin; nil: none. It has the version that
// backends get from clients, else 2. It names no client, since usher itself is one.
func checkPreface(c *config.Service) []byte {
	if !c.Health.Proxy {
		return nil
	}
	local := proxyheader.Header{Local: true}
	if c.SendProxy.Version == 1 {
		return proxyheader.AppendV1(nil, &local)
	}
	return proxyheader.AppendV2(nil, &local)
}

// checks says what a monitor of checks does. Equal ones need no other monitor.
type checks struct {
	health     config.Health
	preface    string
	notesPass  bool // a check that passes ends what a refused client has begun
	notesReply bool // one of udp is a sign of life
}

func checksOf(c *config.Service) checks {
	if c.Health.IsOff() {
		return checks{}
	}
	pass := c.Wait > 0 && c.Health.IsDeep()
	return checks{c.Health, string(checkPreface(c)), pass, !pass && c.HeedsRefusals()}
}

// asksTheSame reports whether both find the same out, if not at the same pace.
func (c checks) asksTheSame(other checks) bool {
	for _, h := range []*config.Health{&c.health, &other.health} {
		h.Interval, h.Timeout, h.DownInterval, h.ChangeInterval, h.Rise, h.Fall = 0, 0, 0, 0, 0, 0
	}
	return c.health == other.health
}

// adapt makes the pool, the outlier detection and the monitors what the config says. What checks and agents have found
// stays until others have found something.
func (s *Service) adapt() {
	if err := s.pool.Configure(s.config.PoolOptions(rand.Uint64)); err != nil {
		s.log.Error("the scheduler stays as it was", zap.Error(err)) // newParts has checked it
	}
	s.outliers.setPolicy(s.parts.eject)
	if wanted := checksOf(s.config); wanted != s.checks {
		s.isSettled = s.isRestored || s.checks.asksTheSame(wanted)
		s.checks = wanted
		s.seen.era++
		s.monitor = s.swap(s.monitor, s.newCheckMonitor())
	}
	wanted := s.config.Agent
	wanted.Port = 0 // it is part of targets
	if has := s.config.HasAgents(); wanted != s.agent || has != s.hasAgents {
		s.agent, s.hasAgents = wanted, has
		s.agents = s.swap(s.agents, s.newAgentMonitor())
	}
}

// swap ends a monitor, without waiting for its checks, and returns the one that takes its place.
func (s *Service) swap(before, now *health.Monitor) *health.Monitor {
	s.retarget = true
	if before != nil {
		before.Set(nil)
		s.retired.Go(before.Close)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.monitors = slices.DeleteFunc(s.monitors, func(m *health.Monitor) bool { return m == before })
	if now != nil {
		s.monitors = append(s.monitors, now)
	}
	return now
}

// newCheckMonitor returns nil if checks are off.
func (s *Service) newCheckMonitor() *health.Monitor {
	checker, slots, h := s.parts.checker, s.owner.slots, s.config.Health
	switch checker.(type) {
	case nil:
		return nil
	case health.TCP:
		checker = s.owner.connects
	case *health.Exec:
		slots = nil // programs have a bound of their own, as each costs a process
	}
	return s.owner.newMonitor(checker, health.Policy{
		Interval: h.Interval, DownInterval: h.DownInterval, ChangeInterval: h.ChangeInterval,
		Timeout: h.Timeout, Rise: h.Rise, Fall: h.Fall, Slots: slots,
		OnInconclusive: s.warn("backends cannot be checked"), OnPass: s.passObserver(),
	}, s.onCheck(s.seen.era))
}

// newAgentMonitor returns nil if there are no agents.
func (s *Service) newAgentMonitor() *health.Monitor {
	if !s.hasAgents {
		return nil
	}
	return s.owner.newMonitor(health.NewAgent(s.agent.Send, s.onReport), health.Policy{
		Interval: s.agent.Interval, Timeout: s.agent.Timeout, Rise: 1, Fall: 3, Slots: s.owner.slots,
		OnInconclusive: s.warn("agents cannot be asked"),
	}, s.onAgent)
}

// follow has the monitors check and ask those whom the plan names. What others have said is forgotten.
func (s *Service) follow(p *plan) {
	checked, asked := make(map[health.Target]*balancer.Backend), make(map[health.Target]*balancer.Backend)
	for i := range p.rows {
		r := &p.rows[i]
		if r.check != nil {
			checked[*r.check] = r.backend
		}
		if r.agent != nil {
			asked[*r.agent] = r.backend
		}
	}
	s.checked.Store(&checked)
	adopt(s.seen.checks, checked, p.checks)
	adopt(s.seen.agents, asked, p.agents)
	s.expectReports()
	if s.monitor != nil {
		s.monitor.SetKnown(slices.Collect(maps.Keys(checked)), s.settled())
	}
	if s.agents != nil {
		s.agents.SetKnown(slices.Collect(maps.Keys(asked)), s.reporting())
	}
	s.retarget, s.isSettled, s.isRestored = false, false, false
}

// settled returns what a new monitor takes as known.
func (s *Service) settled() map[health.Target]bool {
	if !s.isSettled {
		return nil
	}
	known := make(map[health.Target]bool, len(s.seen.checks))
	for t, found := range s.seen.checks {
		if found.status != balancer.Unknown {
			known[t] = found.status == balancer.Up
		}
	}
	return known
}

// reporting returns the agents that have answered before a restart.
func (s *Service) reporting() map[health.Target]bool {
	if !s.isRestored {
		return nil
	}
	known := make(map[health.Target]bool)
	for t, said := range s.seen.agents {
		if said != (health.AgentReport{}) {
			known[t] = true
		}
	}
	return known
}

// expectReports says whose reports onReport takes.
func (s *Service) expectReports() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := range s.reports {
		if _, is := s.seen.agents[t]; !is {
			delete(s.reports, t)
		}
	}
	for t, said := range s.seen.agents {
		if _, is := s.reports[t]; !is {
			s.reports[t] = said
		}
	}
}

// adopt makes the keys of seen those of wanted, new ones with what is handed over, or else with nothing seen.
func adopt[S any](seen map[health.Target]S, wanted map[health.Target]*balancer.Backend, handed map[health.Target]S) {
	for t := range seen {
		if wanted[t] == nil {
			delete(seen, t)
		}
	}
	for t := range wanted {
		if _, has := seen[t]; !has {
			seen[t] = handed[t]
		}
	}
}
