package control

import (
	"context"
	"errors"
	"reflect"
	"slices"

	"go.uber.org/zap"

	"usher/internal/config"
	"usher/proxy"
)

// Part is all that one owner gives. The caller writes to nothing in it any more.
type Part struct {
	Services []*config.Service
	Rules    *config.Rules // nil: none
}

// Replace makes a part all that owner has. Services with the pointer of before are unchanged. After an error nothing has
// changed. It is a *config.Error, *ConflictError, *FixedError, *proxy.ListenError or ErrShutDown.
func (c *Controller) Replace(ctx context.Context, owner Owner, part Part) error {
	return c.change(ctx, owner, func(p *Part) error {
		*p = part
		return nil
	})
}

// Add gives owner one more service.
func (c *Controller) Add(ctx context.Context, owner Owner, s *config.Service) error {
	return c.change(ctx, owner, func(part *Part) error {
		if other, err := c.lookup(s.Name); err == nil {
			return c.twice(s.Name, other.owner)
		}
		part.Services = append(part.Services, s)
		return nil
	})
}

// Update has edit change a copy of a service of owner, and makes that the service. An error of edit is returned as it is.
func (c *Controller) Update(ctx context.Context, owner Owner, name string, edit func(*config.Service) error) error {
	return c.change(ctx, owner, func(part *Part) error {
		at, err := c.own(owner, name, part)
		if err != nil {
			return err
		}
		s := part.Services[at].Clone()
		if err := edit(s); err != nil {
			return err
		}
		if s.Name != name {
			return &FixedError{Service: name, Field: "name", Text: "remove the service, and add one of the other name"}
		}
		part.Services[at] = s
		return nil
	})
}

// Remove removes a service of owner. Its flows end as its on-remove says.
func (c *Controller) Remove(ctx context.Context, owner Owner, name string) error {
	return c.change(ctx, owner, func(part *Part) error {
		at, err := c.own(owner, name, part)
		if err != nil {
			return err
		}
		part.Services = slices.Delete(part.Services, at, at+1)
		return nil
	})
}

// UpdateRules makes what edit returns the rules of owner. It gets those of before, nil if there are none, and changes
// nothing of them. An error of edit is returned as it is.
func (c *Controller) UpdateRules(ctx context.Context, owner Owner, edit func(*config.Rules) (*config.Rules, error)) error {
	return c.change(ctx, owner, func(part *Part) (err error) {
		part.Rules, err = edit(part.Rules)
		return err
	})
}

// own returns the index of a service in the part of its owner. The error is a *NotFoundError or an *OwnerError.
func (c *Controller) own(owner Owner, name string, part *Part) (int, error) {
	s, err := c.lookup(name)
	if err != nil {
		return 0, err
	}
	if s.owner != owner {
		return 0, &OwnerError{Service: name, Owner: s.owner, file: c.file}
	}
	return slices.Index(part.Services, s.given), nil
}

// change makes what edit makes of it the part of owner. Edit may change the list, but no service.
func (c *Controller) change(ctx context.Context, owner Owner, edit func(*Part) error) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.unlock()
	part := Part{make([]*config.Service, len(c.parts[owner]), len(c.parts[owner])+1), c.rules.Load().parts[owner]}
	for i, s := range c.parts[owner] {
		part.Services[i] = s.given
	}
	if err := edit(&part); err != nil {
		return err
	}
	d, err := c.newDraft(owner, part.Services)
	if err != nil {
		return err
	}
	if err := c.complete(ctx, d); err != nil {
		return err
	}
	d.rulesBefore = c.rules.Load()
	if d.rules, err = c.joinRules(d.rulesBefore, owner, part.Rules); err != nil {
		return err
	}
	return c.apply(ctx, d) // also if nothing changes: files of sockets that were removed are made anew
}

// apply makes a draft run: what is new is bound, pools are made ready, and then clients come. Only the first step can fail.
func (c *Controller) apply(ctx context.Context, d *draft) error {
	change, err := c.server.Prepare(d.data())
	if errors.Is(err, proxy.ErrShutDown) {
		return ErrShutDown
	}
	if err != nil {
		return explain(err, d.wanted())
	}
	running := make(map[*proxy.ServiceConfig]proxy.ChangedService, len(d.fresh))
	for _, s := range change.Services() {
		running[s.Given] = s
	}
	for _, s := range d.fresh {
		s.running, s.config = running[s.data].Service, bound(s.wanted, running[s.data].Listeners)
	}
	c.reconciler.Set(ctx, c.server, desired(d.all))
	if err := c.server.SetRules(d.rules.set); err != nil {
		c.log.Error("rules do not change", zap.Error(err)) // not after CheckRules
	}
	change.Commit()
	c.publish(d)
	for _, s := range d.removed {
		c.cuts.cut(c.server, s, c.byName[s.plan.Name] != nil)
	}
	c.logChange(d)
	return nil
}

// draft is a change that is being prepared.
type draft struct {
	owner   Owner
	part    []*service // of the owner
	all     []*service // of all owners
	fresh   []*service // those of part that are new or changed, not complete yet
	before  []*service // what each of fresh was, nil if it is new
	removed []*service
	same    []*service // those of part that have changed nothing but their place or pointer
	rules   *ruleset   // of all owners

	rulesBefore *ruleset // the same if they do not change
}

// newDraft compares what an owner wants with what it has. Its cost is that of a pass over pointers, apart from services
// that have changed.
func (c *Controller) newDraft(owner Owner, next []*config.Service) (*draft, error) {
	old := c.parts[owner]
	d := &draft{owner: owner, part: make([]*service, len(next))}
	left := make(map[string]*service) // those of old without a successor yet
	for i, s := range old {
		if i >= len(next) || next[i] != s.given {
			left[s.given.Name] = s
		}
	}
	changed := make(map[string]bool)
	for i, given := range next {
		if i < len(old) && old[i].given == given {
			d.part[i] = old[i]
			continue
		}
		if changed[given.Name] {
			return nil, config.TwoServices(given.Name)
		}
		changed[given.Name] = true
		before := left[given.Name]
		delete(left, given.Name)
		if before != nil && (before.given == given || reflect.DeepEqual(before.given, given)) {
			d.part[i] = before.withGiven(given)
			d.same = append(d.same, d.part[i])
			continue
		}
		if before != nil && before.given.IsUDP() != given.IsUDP() {
			d.removed = append(d.removed, before) // another service, by the same name
			before = nil
		}
		d.part[i] = &service{owner: owner, given: given}
		d.fresh, d.before = append(d.fresh, d.part[i]), append(d.before, before)
	}
	for i, s := range old {
		if len(changed) > 0 && i < len(next) && d.part[i] == s && next[i] == s.given && changed[s.given.Name] {
			return nil, config.TwoServices(s.given.Name)
		}
		if left[s.given.Name] == s {
			d.removed = append(d.removed, s)
		}
	}
	for _, s := range d.fresh {
		if other := c.byName[s.given.Name]; other != nil && other.owner != owner {
			return nil, c.twice(s.given.Name, other.owner)
		}
	}
	d.all = c.withPart(owner, d.part)
	return d, nil
}

// withPart returns the services of all owners in their order, with another part of one.
func (c *Controller) withPart(owner Owner, part []*service) []*service {
	parts := map[Owner][]*service{owner: part}
	owners := []Owner{owner}
	for o, p := range c.parts {
		if o != owner {
			parts[o] = p
			owners = append(owners, o)
		}
	}
	slices.SortFunc(owners, Owner.compare)
	var all []*service
	for _, o := range owners {
		all = append(all, parts[o]...)
	}
	return all
}

func (c *Controller) twice(name string, owner Owner) error {
	return &ConflictError{Service: name, Other: name, Owner: owner, file: c.file}
}

// complete checks what is new of a draft, by itself and with all others, and makes what it needs to run.
func (c *Controller) complete(ctx context.Context, d *draft) error {
	for i, s := range d.fresh {
		var err error
		if s.plan, err = s.given.Completed(); err != nil {
			return err
		}
		if s.wanted, err = c.resolveListeners(ctx, s.plan); err != nil {
			return err
		}
		s.config = s.wanted // until its ports are chosen
		if err := s.prepare(d.before[i], c.reconciler); err != nil {
			return err
		}
	}
	plan := make([]*config.Service, len(d.all))
	for i, s := range d.all {
		plan[i] = s.config
	}
	return c.withOwner(d, c.checker.Check(plan))
}

// withOwner makes an error of the whole plan say whose the other service is, if that is of another owner.
func (c *Controller) withOwner(d *draft, err error) error {
	e, ok := errors.AsType[*config.Error](err)
	if !ok || e.Other == "" || e.Other == e.Service {
		return err
	}
	for _, name := range []string{e.Other, e.Service} {
		if s := c.byName[name]; s != nil && s.owner != d.owner {
			mine := e.Service
			if name == mine {
				mine = e.Other
			}
			return &ConflictError{Service: mine, Other: name, Owner: s.owner, Err: e, file: c.file}
		}
	}
	return err
}

// publish makes a draft what readers see, and what the next change begins with.
func (c *Controller) publish(d *draft) {
	c.parts[d.owner] = d.part
	c.mu.Lock()
	for _, s := range d.removed {
		delete(c.byName, s.given.Name)
	}
	for _, s := range slices.Concat(d.same, d.fresh) {
		c.byName[s.given.Name] = s
	}
	c.mu.Unlock()
	all := d.all // a pointer into d would keep what the services were
	c.running.Store(&all)
	c.rules.Store(d.rules)
}
