package kube

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"
	"sort"
	"time"

	"usher/internal/config"
	"usher/internal/kube/planner"
)

// book has what each Service needs, and all services of usher in one list. A Service that changes costs that Service, and
// a pass over pointers.
type book struct {
	entries map[planner.Key]*entry
	list    []*config.Service // nil: a hole
	at      map[string]int    // where in list a name is
	holes   int
	isFreed bool // something that was listened on may be free

	endpoints, noLocalInternal, noLocalExternal int // sums of the entries

	health map[planner.Key]planner.Health
	served servedHealth
}

// entry is what one Service needs, as far as it is asked for again.
type entry struct {
	services                                    []string // their names
	endpoints, noLocalInternal, noLocalExternal int
	triggered                                   time.Time
}

// servedHealth is what was last asked of the healthCheckNodePorts.
type servedHealth struct {
	addrs     []netip.Addr
	health    []planner.Health
	hasFailed bool
}

func newBook() *book {
	return &book{entries: make(map[planner.Key]*entry), at: make(map[string]int), health: make(map[planner.Key]planner.Health)}
}

// set makes a result what a Service needs; nil: it is gone. Services that are equal to those of before keep their pointers,
// by which package control knows that they have not changed.
func (b *book) set(key planner.Key, r *planner.Result) {
	before := b.entries[key]
	if before != nil {
		b.endpoints -= before.endpoints
		b.noLocalInternal -= before.noLocalInternal
		b.noLocalExternal -= before.noLocalExternal
	}
	delete(b.health, key)
	next := new(entry)
	if r != nil {
		next.triggered = r.Triggered
		next.endpoints, next.noLocalInternal, next.noLocalExternal = r.Endpoints, r.NoLocalInternal, r.NoLocalExternal
		for _, s := range r.Services {
			next.services = append(next.services, s.Name)
			b.put(s)
		}
		if r.Health != nil {
			b.health[key] = *r.Health
		}
	}
	if before != nil {
		for _, name := range before.services {
			if !slices.Contains(next.services, name) {
				b.remove(name)
			}
		}
	}
	b.endpoints += next.endpoints
	b.noLocalInternal += next.noLocalInternal
	b.noLocalExternal += next.noLocalExternal
	b.entries[key] = next
	if r == nil {
		delete(b.entries, key)
	}
}

// isTriggered reports whether the endpoints of a Service changed later than those in the book. Another plan of the
// same endpoints does not change them.
func (b *book) isTriggered(key planner.Key, at time.Time) bool {
	before := b.entries[key]
	return !at.IsZero() && (before == nil || at.After(before.triggered))
}

func (b *book) put(s *config.Service) {
	at, is := b.at[s.Name]
	switch {
	case !is:
		b.at[s.Name] = len(b.list)
		b.list = append(b.list, s)
	case !reflect.DeepEqual(b.list[at], s):
		b.isFreed = b.isFreed || !slices.Equal(b.list[at].Listeners, s.Listeners)
		b.list[at] = s
	}
}

func (b *book) remove(name string) {
	at := b.at[name]
	delete(b.at, name)
	b.list[at] = nil
	b.holes++
	b.isFreed = true
}

// services returns all services, in the order in which they came. The caller may keep the list.
func (b *book) services() []*config.Service {
	if b.holes > 0 {
		b.list = slices.DeleteFunc(b.list, func(s *config.Service) bool { return s == nil })
		for i, s := range b.list {
			b.at[s.Name] = i
		}
		b.holes = 0
	}
	return slices.Clone(b.list)
}

// released reports whether something that was listened on may be free since the last call.
func (b *book) released() bool {
	is := b.isFreed
	b.isFreed = false
	return is
}

// healthPorts returns all healthCheckNodePorts, by the names of their Services.
func (b *book) healthPorts() []planner.Health {
	all := make([]planner.Health, 0, len(b.health))
	for _, h := range b.health {
		all = append(all, h)
	}
	sort.Slice(all, func(i, j int) bool {
		return cmp.Or(all[i].Service.Compare(all[j].Service), cmp.Compare(all[i].Port, all[j].Port)) < 0
	})
	return all
}
