package control

import (
	"context"
	"errors"
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
	d := &draft{owner: owner}
	if err := c.compare(d, part.Services); err != nil {
		return err
	}
	if err := c.complete(ctx, d); err != nil {
		return err
	}
	if err := c.withOwner(d, c.checker.Check(d.plan())); err != nil {
		return err
	}
	if err := c.setRules(d, part.Rules); err != nil {
		return err
	}
	return c.apply(ctx, d) // also if nothing changes: files of sockets that were removed are made anew
}

// setRules gives a draft the rules of all owners.
func (c *Controller) setRules(d *draft, own *config.Rules) (err error) {
	d.rulesBefore = c.rules.Load()
	d.rules, err = c.joinRules(d.rulesBefore, d.owner, own)
	return err
}

// apply makes a draft run: what is new is bound, pools are made ready, and then clients come. Only the first step can fail.
func (c *Controller) apply(ctx context.Context, d *draft) error {
	change, err := c.prepare(d)
	if err != nil {
		return err
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

// prepare binds what is new of a draft. A sound one leaves out what there is no address or no room for, and is tried again.
func (c *Controller) prepare(d *draft) (*proxy.Change, error) {
	for {
		d.tries++
		change, err := c.server.Prepare(d.data())
		if errors.Is(err, proxy.ErrShutDown) {
			return nil, ErrShutDown
		}
		switch {
		case err == nil:
			return change, nil
		case !d.refuseSome(err):
			return nil, explain(err, d.wanted())
		}
		if err := c.leaveOut(d); err != nil {
			return nil, err
		}
	}
}

// complete checks what is new of a draft, each by itself, and makes what it needs to run.
func (c *Controller) complete(ctx context.Context, d *draft) error {
	for i, s := range d.fresh {
		err := c.completeService(ctx, s, d.before[i])
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !d.refuse(s.given, err):
			return err
		}
	}
	return c.leaveOut(d)
}

func (c *Controller) completeService(ctx context.Context, s, before *service) (err error) {
	if s.plan, err = s.given.Completed(); err != nil {
		return err
	}
	if err := s.plan.CheckSources(bindSource); err != nil {
		return err
	}
	if s.wanted, err = c.resolveListeners(ctx, s.plan); err != nil {
		return err
	}
	s.config = s.wanted // until its ports are chosen
	s.countsPackets = c.countsPackets(s.owner)
	return s.prepare(before, c.reconciler)
}

// countsPackets reports whether somebody reads the packets of an owner's services: ipvsadm, or who reads the files of
// --proc.
func (c *Controller) countsPackets(owner Owner) bool {
	return owner == IPVSAdm || c.process.Load().Proc != ""
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
	c.parts[d.owner], c.left[d.owner] = d.part, d.left
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
