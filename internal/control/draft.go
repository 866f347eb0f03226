package control

import (
	"reflect"

	"usher/internal/config"
	"usher/proxy"
)

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

	left    *leftOut // what it leaves out; nil: the first thing that cannot be had is an error
	retries bool     // services with listeners that were refused are fresh
	checks  int      // of the whole plan
	tries   int      // of binding what is new
}

// compare compares what an owner wants with what it has. Its cost is that of a pass over pointers, apart from services
// that have changed, and those between the first and the last one that have.
func (c *Controller) compare(d *draft, next []*config.Service) error {
	old := c.parts[d.owner]
	isSame := func(s *service, given *config.Service) bool {
		return s.given == given && !(d.retries && len(s.refused) > 0)
	}
	first, last := 0, 0 // how many are the same at the beginning, and at the end
	for first < min(len(old), len(next)) && isSame(old[first], next[first]) {
		first++
	}
	for last < min(len(old), len(next))-first && isSame(old[len(old)-1-last], next[len(next)-1-last]) {
		last++
	}
	middle := old[first : len(old)-last]
	d.part = append(make([]*service, 0, len(next)), old[:first]...)
	left := make(map[string]*service) // those of middle without a successor yet
	for i, s := range middle {
		if given := next[first:]; i >= len(given)-last || !isSame(s, given[i]) {
			left[s.given.Name] = s
		}
	}
	changed := make(map[string]bool)
	for i, given := range next[first : len(next)-last] {
		if i < len(middle) && isSame(middle[i], given) {
			d.part = append(d.part, middle[i])
			continue
		}
		if err := c.checkName(d.owner, given.Name, changed, left); err != nil {
			if !d.refuse(given, err) {
				return err
			}
			continue
		}
		changed[given.Name] = true
		d.add(given, left[given.Name])
		delete(left, given.Name)
	}
	for _, s := range middle {
		if left[s.given.Name] == s {
			d.removed = append(d.removed, s)
		}
	}
	d.part = append(d.part, old[len(old)-last:]...)
	d.all = c.withPart(d.owner, d.part)
	return nil
}

// checkName refuses the name of a service that changes or is new, if another one has it.
func (c *Controller) checkName(owner Owner, name string, changed map[string]bool, left map[string]*service) error {
	other := c.byName[name]
	switch {
	case changed[name] || other != nil && other.owner == owner && left[name] == nil:
		return config.TwoServices(name)
	case other != nil && other.owner != owner:
		return c.twice(name, other.owner)
	}
	return nil
}

// add adds a service that is not where it was; before is what it was, nil if it is new.
func (d *draft) add(given *config.Service, before *service) {
	hasAll := before != nil && len(before.refused) == 0
	if before != nil && before.given == given && (hasAll || !d.retries) || hasAll && reflect.DeepEqual(before.given, given) {
		s := before.withGiven(given)
		d.part, d.same = append(d.part, s), append(d.same, s)
		return
	}
	if before != nil && before.given.IsUDP() != given.IsUDP() {
		d.removed = append(d.removed, before) // another service, by the same name
		before = nil
	}
	s := &service{owner: d.owner, given: given}
	d.part, d.fresh, d.before = append(d.part, s), append(d.fresh, s), append(d.before, before)
}

// plan returns all services as they are known so far.
func (d *draft) plan() []*config.Service {
	all := make([]*config.Service, len(d.all))
	for i, s := range d.all {
		all[i] = s.config
	}
	return all
}

// data returns what the data path gets of a draft.
func (d *draft) data() []*proxy.ServiceConfig {
	all := make([]*proxy.ServiceConfig, len(d.all))
	for i, s := range d.all {
		all[i] = s.data
	}
	return all
}

// wanted returns the services of a draft that may want other addresses.
func (d *draft) wanted() []*config.Service {
	all := make([]*config.Service, len(d.fresh))
	for i, s := range d.fresh {
		all[i] = s.wanted
	}
	return all
}
