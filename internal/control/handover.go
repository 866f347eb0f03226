package control

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sort"
	"time"

	"usher/internal/config"
	"usher/internal/configfile"
	"usher/internal/reconcile"
	"usher/proxy"
	"usher/proxy/flow"
	"usher/proxy/rules"
)

// State is all that a Controller knows, as plain data: [Restore] goes on from it in another process image. Descriptors in it
// are those of the process, by number.
type State struct {
	Parts    []PartState
	Services map[string]reconcile.ServiceState // by name
	Ends     []EndState
	Rules    *rules.State // what rules have counted and remember; nil: there are none
	Server   []byte       // an encoded proxy.State

	descriptors []int
}

// PartState is what one owner has given.
type PartState struct {
	Owner    Owner
	Services []byte              // as a config file, which has the rules too
	Listen   map[string][]string // the addresses of services whose listeners have host names, by service
	Virtual  map[string][]config.Virtual
}

// EndState is the end of the flows of a removed service, which is yet to come.
type EndState struct {
	Service string
	How     uint8 // a proxy.Cut
	Left    time.Duration
}

// Descriptors returns the descriptors that another process image needs, of a state that Suspend has returned or Restore has
// been given.
func (st *State) Descriptors() []int { return st.descriptors }

// Suspend stops the data path between two turns and returns the state of everything. CancelSuspend has it go on; until
// then changes wait, and so do flows. After an error nothing has stopped.
func (c *Controller) Suspend(ctx context.Context) (*State, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	st := &State{Services: make(map[string]reconcile.ServiceState), Ends: c.cuts.state()}
	for owner := range c.parts { // an owner of rules has a part, too
		st.Parts = append(st.Parts, c.partState(owner))
	}
	for _, s := range *c.running.Load() {
		st.Services[s.plan.Name] = s.keeper.State()
	}
	data, err := c.server.Suspend()
	if err != nil {
		c.unlock()
		if errors.Is(err, proxy.ErrShutDown) {
			err = ErrShutDown
		}
		return nil, err
	}
	st.Rules = c.rules.Load().set.State()
	st.descriptors = slices.Collect(data.Descriptors())
	if st.Server, err = data.Encode(); err != nil {
		c.CancelSuspend()
		return nil, err
	}
	return st, nil
}

// CancelSuspend has a suspended Controller go on. Its state is void from then on.
func (c *Controller) CancelSuspend() {
	c.server.Resume()
	c.unlock()
}

func (c *Controller) partState(owner Owner) PartState {
	st := PartState{Owner: owner, Listen: make(map[string][]string), Virtual: make(map[string][]config.Virtual)}
	plan := &config.Config{Process: config.DefaultProcess(), Rules: c.rules.Load().parts[owner]}
	for _, s := range c.parts[owner] {
		plan.Services = append(plan.Services, s.given)
		if s.given.Virtual != nil {
			st.Virtual[s.given.Name] = s.given.Virtual
		}
		if s.wanted != s.plan {
			st.Listen[s.plan.Name] = texts(s.wanted.Listeners)
		}
	}
	st.Services = configfile.Encode(plan)
	return st
}

// Restore returns a Controller that goes on from a state, once Continue is called. Nothing in the state is trusted. After an
// error its descriptors are as they were.
func Restore(o Options, st *State) (*Controller, error) {
	c, data, err := restoreServices(o, st)
	if err != nil {
		return nil, err
	}
	if err := c.restore(o, st, data); err != nil {
		c.release()
		return nil, err
	}
	return c, nil
}

// Check returns an error if Restore could not go on from the state, as far as that shows without its descriptors.
func (st *State) Check(o Options) error {
	c, data, err := restoreServices(o, st)
	if err != nil {
		return err
	}
	defer c.release()
	if err := c.checkAll(); err != nil {
		return err
	}
	for name, s := range st.Services {
		if err := s.Check(); err != nil {
			return fmt.Errorf("service %s: %w", name, err)
		}
	}
	return data.Check()
}

// restoreServices makes the services of a state, which do not run yet. Without an error the caller releases the Controller.
func restoreServices(o Options, st *State) (*Controller, *proxy.State, error) {
	data, err := proxy.DecodeState(st.Server)
	if err != nil {
		return nil, nil, err
	}
	c, err := newDetached(o)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range st.Ends {
		if how := proxy.Cut(e.How); how != flow.Fin && how != flow.Reset || e.Left < 0 {
			c.release()
			return nil, nil, fmt.Errorf("the flows of service %s do not end by %d in %s", e.Service, e.How, e.Left)
		}
	}
	if err := c.restoreParts(st); err != nil {
		c.release()
		return nil, nil, err
	}
	return c, data, nil
}

// restoreParts makes what owners have given, in their order.
func (c *Controller) restoreParts(st *State) error {
	sort.Slice(st.Parts, func(i, j int) bool { return st.Parts[i].Owner.compare(st.Parts[j].Owner) < 0 })
	var all []*service
	given := make(map[Owner]*config.Rules)
	for i := range st.Parts {
		part, own, err := c.restorePart(&st.Parts[i])
		if err != nil {
			return fmt.Errorf("services of %s: %w", st.Parts[i].Owner, err)
		}
		all = append(all, part...)
		if own != nil {
			given[st.Parts[i].Owner] = own
		}
	}
	c.running.Store(&all)
	r, err := compileRules(given, nil, c.ruleOptions(st.Rules), c.file)
	if err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	c.rules.Store(r)
	return nil
}

func (c *Controller) restorePart(st *PartState) ([]*service, *config.Rules, error) {
	if c.parts[st.Owner] != nil {
		return nil, nil, errors.New("they are there twice")
	}
	file, err := configfile.Parse("state", st.Services, nil)
	if e, ok := errors.AsType[*configfile.Error](err); ok {
		return nil, nil, errors.New(e.Summary())
	}
	if err != nil {
		return nil, nil, err
	}
	part := make([]*service, len(file.Services))
	for i, given := range file.Services {
		given.Virtual = st.Virtual[given.Name]
		s := &service{owner: st.Owner, given: given}
		if other := c.byName[given.Name]; other != nil {
			return nil, nil, c.twice(given.Name, other.owner)
		}
		if s.plan, err = given.Completed(); err != nil {
			return nil, nil, err
		}
		if s.wanted, err = withListeners(s.plan, st.Listen[given.Name]); err != nil {
			return nil, nil, err
		}
		s.noteRefused()
		s.config = s.wanted
		s.countsPackets = c.countsPackets(s.owner)
		if err := s.prepare(nil, c.reconciler); err != nil {
			return nil, nil, err
		}
		part[i], c.byName[given.Name] = s, s
	}
	c.parts[st.Owner] = part
	return part, file.Rules, nil
}

// noteRefused notes which listeners the service did not have, so that its owner's next word has them tried again.
func (s *service) noteRefused() {
	for _, l := range s.plan.Listeners {
		if l.Name == "" && s.wanted != s.plan && !slices.Contains(s.wanted.Listeners, l) {
			s.refused = append(s.refused, Refusal{s.plan.Name, l, errors.New("it was refused before the upgrade")})
		}
	}
}

// withListeners returns a service with the addresses that its listeners' names had.
func withListeners(s *config.Service, words []string) (*config.Service, error) {
	if words == nil {
		return s, nil
	}
	one := *s
	one.Listeners = nil
	for _, word := range words {
		a, err := config.ParseListener(word)
		if err != nil {
			return nil, err
		}
		one.Listeners = append(one.Listeners, a)
	}
	return &one, nil
}

// checkAll checks the whole plan, which the next change is compared with.
func (c *Controller) checkAll() error {
	running := *c.running.Load()
	plan := make([]*config.Service, len(running))
	for i, s := range running {
		plan[i] = s.config
	}
	return c.checker.Check(plan)
}

// restore has services run on what their predecessors had.
func (c *Controller) restore(o Options, st *State, data *proxy.State) error {
	running := *c.running.Load()
	configs := make([]*proxy.ServiceConfig, len(running))
	for i, s := range running {
		configs[i] = s.data
	}
	var err error
	if c.server, err = proxy.Restore(serverOptions(o), data, configs); err != nil {
		return err
	}
	st.descriptors = slices.Collect(data.Descriptors())
	removed := c.server.Removed()
	services := make(map[string]*proxy.Service, len(running))
	for _, s := range c.server.Services() {
		services[s.Name] = s
	}
	for _, s := range running {
		s.running = services[s.plan.Name]
		s.config = bound(s.wanted, s.running.Config().Listeners)
		known := st.Services[s.plan.Name]
		if err := s.keeper.Restore(&known, removed.Backends[s.keeper.Pool()]); err != nil {
			return err
		}
	}
	if err := c.checkAll(); err != nil {
		return err
	}
	if err := c.server.SetRules(c.rules.Load().set); err != nil { // flows are counted by them again
		return err
	}
	c.ends = st.Ends
	return nil
}

// Continue has a restored Controller go on: flows move again.
func (c *Controller) Continue(ctx context.Context) {
	c.changing <- struct{}{} // nobody has changed anything yet
	defer c.unlock()
	c.reconciler.Set(ctx, c.server, desired(*c.running.Load()))
	removed := c.server.Removed()
	if n := c.server.Procs(); n > 0 {
		runtime.GOMAXPROCS(n)
	}
	c.server.Start()
	c.started = true
	c.reconciler.Begin(ctx)
	for _, e := range c.ends {
		for _, s := range removed.Services {
			if s.Name == e.Service {
				c.cuts.restore(c.server, s, e)
			}
		}
	}
	c.ends = nil
}
