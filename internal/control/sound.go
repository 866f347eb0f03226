package control

import (
	"context"
	"errors"
	"slices"
	"sort"

	"usher/internal/config"
	"usher/proxy"
)

// Refusal is something of a part that cannot be had.
type Refusal struct {
	Service  string
	Listener config.Addr // zero: the whole service
	Err      error       // says why
}

// ReplaceSound is Replace that leaves out what cannot be had, and returns it: a listener that cannot be bound or that
// another service has, and a service that is wrong by itself, whose name another owner has, or for which descriptors or
// reserved flows are too few. A service without any listener left is left out. A listener that is bound is not lost to a
// new one. The refusals are all that stand.
//
// A service is known by its pointer: one that was refused, or a listener of it, is not tried again as long as the pointer
// is the same, so that a call which changes one service costs that service alone. RetryRefused tries again. An error
// means that nothing has changed; it is about the rules or the process as a whole, such as ErrShutDown.
func (c *Controller) ReplaceSound(ctx context.Context, owner Owner, part Part) ([]Refusal, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.unlock()
	return refusals(c.replaceSound(ctx, owner, part, false))
}

// RetryRefused tries again what ReplaceSound has left out of the part of owner, and returns what is refused still.
func (c *Controller) RetryRefused(ctx context.Context, owner Owner) ([]Refusal, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.unlock()
	left := c.left[owner]
	if left == nil {
		return nil, nil
	}
	return refusals(c.replaceSound(ctx, owner, Part{left.given, c.rules.Load().parts[owner]}, true))
}

// replaceSound makes what can be had of a part that of owner. With retries it tries what it knows to be refused, too.
func (c *Controller) replaceSound(ctx context.Context, owner Owner, part Part, retries bool) (*draft, error) {
	d := &draft{owner: owner, left: &leftOut{given: part.Services}, retries: retries}
	next := part.Services
	if before := c.left[owner]; before != nil && !retries {
		next = d.left.take(before)
	}
	if err := c.compare(d, next); err != nil {
		return nil, err
	}
	if err := c.complete(ctx, d); err != nil {
		return nil, err
	}
	if err := c.agree(d); err != nil {
		return nil, err
	}
	if err := c.setRules(d, part.Rules); err != nil {
		return nil, err
	}
	return d, c.apply(ctx, d)
}

// leftOut is what a part lacks of what its owner gave.
type leftOut struct {
	given    []*config.Service             // all that the owner gave
	services map[*config.Service][]Refusal // that are left out as a whole
}

// take takes over the services that were left out before, and returns the others.
func (l *leftOut) take(before *leftOut) []*config.Service {
	if len(before.services) == 0 {
		return l.given
	}
	next := make([]*config.Service, 0, len(l.given))
	for _, given := range l.given {
		if all, isOut := before.services[given]; isOut {
			l.add(given, all)
			continue
		}
		next = append(next, given)
	}
	return next
}

func (l *leftOut) add(given *config.Service, all []Refusal) {
	if l.services == nil {
		l.services = make(map[*config.Service][]Refusal)
	}
	l.services[given] = all
}

// isSound reports whether a draft leaves out what cannot be had.
func (d *draft) isSound() bool { return d.left != nil }

// refuse notes that a service cannot be had. It returns false if the draft leaves nothing out.
func (d *draft) refuse(given *config.Service, err error) bool {
	if !d.isSound() {
		return false
	}
	d.left.add(given, []Refusal{{Service: given.Name, Err: err}})
	return true
}

// leaveOut leaves out the services of a draft that were refused, and of others the listeners.
func (c *Controller) leaveOut(d *draft) error {
	if !d.isSound() {
		return nil
	}
	isOut := func(s *service) bool { return d.left.services[s.given] != nil }
	for _, s := range d.fresh {
		if isOut(s) || len(s.lacking) == 0 {
			continue
		}
		if err := s.shorten(); err != nil {
			return err
		}
		if len(s.wanted.Listeners) == 0 {
			d.left.add(s.given, s.refused)
		}
	}
	if !slices.ContainsFunc(d.fresh, isOut) {
		return nil
	}
	var fresh, before []*service
	for i, s := range d.fresh {
		switch {
		case !isOut(s):
			fresh, before = append(fresh, s), append(before, d.before[i])
		case d.before[i] != nil:
			d.removed = append(d.removed, d.before[i])
		}
	}
	d.fresh, d.before = fresh, before
	d.part = slices.DeleteFunc(d.part, isOut)
	d.all = c.withPart(d.owner, d.part)
	return nil
}

// agree has a draft leave out what the plan as a whole does not allow: listeners that others have, services whose backends
// lead back to them, and then one service after the other.
func (c *Controller) agree(d *draft) error {
	for {
		d.checks++
		err := c.withOwner(d, c.checker.Check(d.plan()))
		if err == nil {
			return nil
		}
		e, ok := errors.AsType[*config.Error](err)
		switch {
		case !ok:
			return err
		case d.checks == 1 && e.Field == "listen":
			c.refuseClashes(d)
		case d.checks <= 2 && e.Field == "backend" && c.refuseMisroutes(d):
		default:
			s := c.culprit(d, e)
			if s == nil {
				return err
			}
			d.refuse(s.given, err)
		}
		if err := c.leaveOut(d); err != nil {
			return err
		}
	}
}

// refuseClashes refuses the listeners of a draft that other services have.
func (c *Controller) refuseClashes(d *draft) {
	before := make(map[*service]*service, len(d.fresh))
	for i, s := range d.fresh {
		before[s] = d.before[i]
	}
	isBound := func(i, listener int) bool {
		was, isFresh := before[d.all[i]]
		return !isFresh || was != nil && slices.Contains(was.config.Listeners, d.all[i].config.Listeners[listener])
	}
	for _, clash := range config.Clashes(d.plan(), isBound) {
		s := d.all[clash.Service]
		if _, isFresh := before[s]; isFresh {
			s.refuseListener(clash.Listener, c.withOwner(d, clash.Err))
		}
	}
}

// refuseMisroutes refuses the services of a draft whose backends are listeners of this process that they must not lead to.
// It returns false if there are none.
func (c *Controller) refuseMisroutes(d *draft) bool {
	isFresh := make(map[*service]bool, len(d.fresh))
	for _, s := range d.fresh {
		isFresh[s] = true
	}
	all := config.Misroutes(d.plan(), c.local, func(i int) bool { return isFresh[d.all[i]] })
	for _, m := range all {
		d.refuse(d.all[m.Service].given, c.withOwner(d, m.Err))
	}
	return len(all) > 0
}

// culprit returns the fresh service that an error of the whole plan is about; nil: there is none.
func (c *Controller) culprit(d *draft, e *config.Error) *service {
	for _, name := range []string{e.Service, e.Other} {
		if i := slices.IndexFunc(d.fresh, func(s *service) bool { return s.given.Name == name }); i >= 0 {
			return d.fresh[i]
		}
	}
	// It is about a service that was right without those that are fresh. One of them completes what is wrong.
	at := make(map[*service]int, len(d.fresh))
	for i, s := range d.fresh {
		at[s] = i
	}
	i := sort.Search(len(d.fresh), func(most int) bool {
		var plan []*config.Service
		for _, s := range d.all {
			if i, isFresh := at[s]; !isFresh || i <= most {
				plan = append(plan, s.config)
			}
		}
		return c.checker.Check(plan) != nil
	})
	if i == len(d.fresh) {
		return nil
	}
	return d.fresh[i]
}

// explained is how many refusals of listeners get the advice that is searched for in the system's tables.
const explained = 8

// refuseSome refuses what an error of the data path is about. It returns false if a draft leaves nothing out, or nothing of
// it can help.
func (d *draft) refuseSome(err error) bool {
	if !d.isSound() {
		return false
	}
	if all, is := errors.AsType[proxy.ListenErrors](err); is {
		return d.refuseUnbound(all)
	}
	e, is := errors.AsType[*proxy.CapacityError](err)
	if !is || len(e.Services) == 0 {
		return false
	}
	fresh := d.freshByName()
	for _, name := range e.Services {
		if fresh[name] == nil {
			return false
		}
		d.refuse(fresh[name].given, err)
	}
	return true
}

// freshByName returns the services that are new or changed.
func (d *draft) freshByName() map[string]*service {
	all := make(map[string]*service, len(d.fresh))
	for _, s := range d.fresh {
		all[s.given.Name] = s
	}
	return all
}

// refuseUnbound refuses the listeners of a draft that cannot be bound. It returns false if one is of a service that does
// not change.
func (d *draft) refuseUnbound(all proxy.ListenErrors) bool {
	fresh := d.freshByName()
	for i, e := range all {
		s := fresh[e.Service]
		if s == nil {
			return false
		}
		err := error(e)
		if i < explained {
			err = explain(err, []*config.Service{{Listeners: s.wanted.Listeners[e.Index : e.Index+1]}})
		}
		s.refuseListener(e.Index, err)
	}
	return true
}

// refuseListener notes that a listener of wanted cannot be had; shorten leaves it out.
func (s *service) refuseListener(index int, err error) {
	s.refused = append(s.refused, Refusal{s.given.Name, s.wanted.Listeners[index], err})
	s.lacking = append(s.lacking, index)
}

// shorten leaves out the listeners that were refused.
func (s *service) shorten() (err error) {
	one := *s.wanted
	one.Listeners = nil
	for i, l := range s.wanted.Listeners {
		if _, lacks := slices.BinarySearch(s.lacking, i); !lacks {
			one.Listeners = append(one.Listeners, l)
		}
	}
	s.wanted, s.config, s.lacking = &one, &one, nil
	if len(one.Listeners) > 0 {
		err = s.setData()
	}
	return err
}

// refusals returns all that a draft leaves out.
func refusals(d *draft, err error) ([]Refusal, error) {
	if err != nil {
		return nil, err
	}
	var all []Refusal
	for _, s := range d.part {
		all = append(all, s.refused...)
	}
	if len(d.left.services) == 0 {
		return all, nil
	}
	for _, given := range d.left.given {
		all = append(all, d.left.services[given]...)
	}
	return all, nil
}
