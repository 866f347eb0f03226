package reconcile

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"usher/balancer"
	"usher/health"
	"usher/internal/config"
	"usher/proxy"
)

// Service keeps the pool of one service. It is a task of its Reconciler's queue.
type Service struct {
	config   *config.Service
	pool     *balancer.Pool
	update   func([]balancer.Spec, time.Duration) (removed []*balancer.Backend, next time.Duration) // of the pool
	log      *zap.Logger
	owner    *Reconciler
	outliers *outliers
	retired  sync.WaitGroup // monitors that others have taken the place of

	// Of Reconciler.Set alone:
	desired         *config.Service // nil: it does not run
	placed, changed uint64          // the last calls that have listed it anew, and changed it
	targets         config.Targets  // of desired

	job       *job
	running   sync.Mutex  // held by reconcile, and by State
	holdsBack atomic.Bool // there is something to log that waits for Begin

	mu       sync.Mutex // held for moments only
	pending  []observation
	isClosed bool                                 // nobody takes what is pending any more
	monitors []*health.Monitor                    // that run
	reports  map[health.Target]health.AgentReport // of agents that are asked, if nothing yet the zero value

	checked atomic.Pointer[map[health.Target]*balancer.Backend] // replaced, never written to
	shown   atomic.Pointer[snapshot]

	// Of reconcile alone:
	parts      parts // of config
	isAdapted  bool  // to config
	isQuiet    bool  // no plan was made since Begin
	isRestored bool  // monitors go on from what is known
	checks     checks
	agent      config.Agent
	hasAgents  bool
	monitor    *health.Monitor // of checks; nil: they are off
	agents     *health.Monitor // nil: there are none
	retarget   bool            // they are to be given their targets
	isSettled  bool            // a new monitor of checks goes on from what is known
	seen       observations
	input      input // without time and ejections
	state      state
}

// NewService returns a Service that does nothing before it is given to Set.
func (r *Reconciler) NewService(c *config.Service) (*Service, error) {
	parts, err := newParts(c)
	if err != nil {
		return nil, err
	}
	pool, err := balancer.NewPool(c.PoolOptions(rand.Uint64))
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", c.Name, err)
	}
	s := &Service{
		config: c, parts: parts, pool: pool, update: pool.Update, owner: r,
		log:     r.log.WithLazy(zap.String("service", c.Name)),
		reports: make(map[health.Target]health.AgentReport),
		seen:    newObservations(),
	}
	s.job = &job{task: s}
	s.input = input{service: c, seen: &s.seen}
	s.checked.Store(new(map[health.Target]*balancer.Backend))
	s.shown.Store(&snapshot{backends: c.Backends})
	s.outliers = newOutliers(s)
	s.outliers.setPolicy(parts.eject)
	return s, nil
}

// configured makes the service what is desired. One that cannot be made so stays as it was.
func (s *Service) configured(c *config.Service) observation {
	parts, err := newParts(c)
	if err != nil {
		return event(line{zap.ErrorLevel, "the service stays as it was", []zap.Field{zap.Error(err)}})
	}
	return func(o *observations) {
		s.config, s.input.service, s.parts = c, c, parts
		s.isAdapted, o.isNew = false, true
	}
}

// Pool returns the pool that the service keeps.
func (s *Service) Pool() *balancer.Pool { return s.pool }

// Observer returns whom the data path tells how flows went if the service is configured so, nil if nobody wants to know.
func (s *Service) Observer(c *config.Service) proxy.ResultObserver {
	if ejectPolicy(c).Threshold == 0 {
		return nil
	}
	return s.outliers
}

func (s *Service) now() time.Duration { return time.Since(s.owner.epoch) }

func (s *Service) enqueue() { s.enqueueLater(0) }

func (s *Service) enqueueLater(delay time.Duration) {
	s.owner.queue.add(s.job, delay)
}

func (s *Service) observe(o observation) { s.observeLater(o, 0) }

// observeLater takes an observation that the service may follow after the delay.
func (s *Service) observeLater(o observation, delay time.Duration) {
	s.mu.Lock()
	if !s.isClosed { // flows of a removed service live on, and say how they fare
		s.pending = append(s.pending, o)
	}
	s.mu.Unlock()
	s.enqueueLater(delay)
}

// onCheck takes the first result of a check and each change. It passes over results of a monitor that has been replaced.
func (s *Service) onCheck(era uint32) health.Report {
	return func(t health.Target, up bool, err error) { s.takeCheck(era, t, up, err) }
}

func (s *Service) takeCheck(era uint32, t health.Target, up bool, err error) {
	result := checkResult{balancer.Down, err}
	if up {
		result = checkResult{balancer.Up, nil}
		if b := (*s.checked.Load())[t]; b != nil {
			s.outliers.onLive(b)
		}
	}
	if s.owner.begun.Load() {
		s.observe(targetResult(era, t, result))
		return
	}
	s.observeLater(targetResult(era, t, result), firstRound) // WaitFirst has it done before
	if s.owner.begun.Load() {
		s.enqueue() // Begin may have passed before it was taken
	}
}

// passObserver returns the observer of checks that pass; nil if none is needed. Such a check ends what a refusal has
// begun: of udp if it asks for what clients ask for, of others if it says more than that somebody accepts.
func (s *Service) passObserver() func(health.Target) {
	switch {
	case s.checks.notesPass:
		return func(t health.Target) {
			if b := (*s.checked.Load())[t]; b != nil {
				b.CheckPassed()
			}
		}
	case !s.checks.notesReply:
		return nil
	}
	return func(t health.Target) {
		if b := (*s.checked.Load())[t]; b != nil && t.Network == "udp" && b.Endpoint().Addr.String() == t.Address {
			s.outliers.onLive(b)
		}
	}
}

// onReport takes an answer of an agent. Most of them say what the one before has said.
func (s *Service) onReport(t health.Target, r health.AgentReport) {
	s.mu.Lock()
	before, asked := s.reports[t]
	r = r.Merge(before)
	news := asked && r != before
	if news {
		s.reports[t] = r
		s.pending = append(s.pending, agentReport(t, r))
	}
	s.mu.Unlock()
	if news {
		s.enqueue()
	}
}

// onAgent takes whether there is an agent at all. The backend goes on as its agent said before.
func (s *Service) onAgent(t health.Target, up bool, err error) {
	if !up {
		s.warn("agent does not answer: what it said before holds")(t, err)
	}
}

func (s *Service) warn(message string) func(health.Target, error) {
	return func(t health.Target, err error) {
		s.observe(event(line{zap.WarnLevel, message, []zap.Field{zap.String("backend", t.Name), zap.Error(err)}}))
	}
}

// reconcile brings the pool, the monitors and the flows in line with what is known.
func (s *Service) reconcile() (again time.Duration) {
	s.running.Lock()
	defer s.running.Unlock()
	if s.isQuiet && s.owner.begun.Load() {
		s.isQuiet = false
		s.run() // what was held back; later changes are from this
	}
	s.mu.Lock()
	pending := s.pending
	s.pending = nil
	s.mu.Unlock()
	for _, o := range pending {
		o(&s.seen)
	}
	return s.run()
}

// run makes a plan and carries it out.
func (s *Service) run() (again time.Duration) {
	if !s.isAdapted {
		s.isAdapted = true
		s.adapt()
	}
	r, now := s.owner, s.now()
	override := s.seen.expireOverrides(now)
	s.renew()
	in := s.input
	in.now, in.wall, in.quiet = now, time.Now(), !s.owner.begun.Load()
	in.ejected = s.outliers.follow(s.state.rows, now)
	p := newPlan(in, s.state)
	removed, slowStart := s.carry(&p, now)
	ejection := s.outliers.publish(p.rows, in.ejected, now)

	if in.quiet {
		s.isQuiet = true
		s.holdBack(p.held)
	} else {
		r.names.reconcile() // explains what follows
		write(s.log, s.seen.events)
		s.seen.events = nil
	}
	s.logChanges(p.reasons)
	for _, b := range removed {
		r.server.Forget(b)
	}
	for _, t := range p.terminations {
		r.server.CutBackend(t.backend, t.how)
	}
	if p.retarget || s.retarget {
		s.follow(&p)
	}
	s.logChanges(p.outcome)
	s.report(p.reasons, p.outcome)
	s.forgetCandidates()
	return until(now, p.next, slowStart, ejection, override)
}

// forgetCandidates saves the memory of candidates where little but a change of the service makes another plan, which needs
// others.
func (s *Service) forgetCandidates() {
	if s.monitor == nil && s.agents == nil && ejectPolicy(s.config).Threshold == 0 {
		s.input.candidates, s.seen.isNew = nil, true
	}
}

// holdBack takes changes and lines that a later run logs and reports. If Begin was meanwhile, it comes at once.
func (s *Service) holdBack(changes []change) {
	isEnabled := func(l line) bool { return l.message != "" && s.log.Core().Enabled(l.level) }
	if !slices.ContainsFunc(s.seen.events, isEnabled) && !slices.ContainsFunc(changes, func(c change) bool {
		return isEnabled(c.line) || c.Kind != "" && s.owner.onTransition != nil
	}) {
		return
	}
	s.holdsBack.Store(true)
	if s.owner.begun.Load() {
		s.enqueue()
	}
}

// until is the time from now to the first of some moments, of which 0 is none.
func until(now time.Duration, moments ...time.Duration) (d time.Duration) {
	for _, at := range moments {
		if after := max(at-now, time.Millisecond); at > 0 && (d == 0 || after < d) {
			d = after
		}
	}
	return d
}

// renew makes the candidates anew if the service is another, names resolve to something else, or there are listeners that
// its backends may lead to.
func (s *Service) renew() {
	if !s.seen.isNew {
		return
	}
	s.seen.isNew = false
	routes := s.owner.routes
	hosts := hostsOf(s.config.Backends)
	for name := range s.seen.names {
		if !hosts[name] {
			delete(s.seen.names, name) // it was configured once
		}
	}
	backends, leftOut := resolve(s.config.Backends, s.seen.names)
	backends, looping := routes.admit(s, backends)
	candidates, own := newCandidates(s.config, backends, routes.isOwn)
	s.input.candidates, s.input.leftOut = candidates, slices.Concat(leftOut, looping, own)
	s.input.unanswered = len(s.seen.names) < len(hosts)
	s.input.overrides = s.seen.overridesOf(s.config.Backends, candidates)
}

// carry makes the pool what the plan says.
func (s *Service) carry(p *plan, now time.Duration) (removed []*balancer.Backend, next time.Duration) {
	specs := make([]balancer.Spec, len(p.rows))
	for i := range p.rows {
		specs[i] = p.rows[i].spec
	}
	removed, next = s.update(specs, now)
	for i, b := range s.pool.Backends() {
		p.rows[i].backend = b
	}
	s.state = p.state
	s.shown.Store(&snapshot{s.state.rows, s.config.Backends, s.state.status})
	clear(s.seen.live)
	return removed, next
}

// waitFirst waits for the first result of every check and the first report of every agent.
func (s *Service) waitFirst(ctx context.Context) {
	s.mu.Lock()
	monitors := slices.Clone(s.monitors)
	s.mu.Unlock()
	for _, m := range monitors {
		m.WaitFirst(ctx)
	}
}

// close ends the checks, and waits for a run that is under way.
func (s *Service) close() {
	s.owner.queue.remove(s.job)
	s.mu.Lock()
	s.isClosed, s.pending = true, nil
	s.mu.Unlock()
	for _, m := range s.monitors {
		m.Close()
	}
	s.retired.Wait()
}
