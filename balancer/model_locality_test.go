package balancer

import (
	"net/netip"
	"slices"
	"time"
)

// localityRule is lblc and lblcr by scans and its own record of destinations. It does
// what the kernel does, except for what locality.go says of the default form.
type localityRule struct {
	modelRule   // wlc
	p           *Pool
	set, ipvs   bool
	entries     map[netip.Addr]*localityEntry
	now         time.Duration
	kept, moved int // flows by an entry, and entries that moved
}

type localityEntry struct {
	servers       []*modelBackend // the last to join first
	used, changed time.Duration
}

func newLocalityRule(p *Pool, set, ipvs bool) *localityRule {
	wlc := "wlc"
	if ipvs {
		wlc = "wlc ipvs"
	}
	return &localityRule{modelRule: modelRules[wlc](), p: p, set: set, ipvs: ipvs, entries: map[netip.Addr]*localityEntry{}}
}

func (r *localityRule) crowded(b *modelBackend, c choice) bool {
	return b.active > b.Weight() && slices.ContainsFunc(c.members, func(x *modelBackend) bool {
		return !c.tried.Has(x.Backend) && (r.ipvs || !x.full()) && x.active*2 < x.Weight()
	})
}

func (r *localityRule) choose(c choice) ([]*modelBackend, bool) {
	r.now = max(r.now, c.flow.Now)
	to := c.flow.Local.Addr()
	entry := r.entries[to]
	if entry != nil && r.now-entry.used >= 24*time.Hour {
		entry = nil
		delete(r.entries, to)
	}
	if entry != nil {
		entry.used = r.now
		if b := r.known(entry, c); b != nil {
			r.kept++
			return only(b, c)
		}
		r.moved++
	}
	right, busy := r.modelRule.choose(c)
	if right == nil {
		return nil, busy
	}
	b := right[0]
	if entry == nil {
		entry = &localityEntry{used: r.now, changed: r.now}
		r.entries[to] = entry
	}
	switch {
	case !r.set:
		entry.servers = []*modelBackend{b}
	case !slices.Contains(entry.servers, b):
		if len(entry.servers) == serverSetMost {
			entry.drop(max(entry.most(), 0))
		}
		entry.servers = slices.Insert(entry.servers, 0, b)
		entry.changed = r.now
	}
	return right, false
}

// known is the backend that the entry still stands for, or nil.
func (r *localityRule) known(entry *localityEntry, c choice) *modelBackend {
	if !r.set {
		b := entry.servers[0]
		isMax := b.limits.Max > 0 && b.active >= b.limits.Max
		if !slices.Contains(c.members, b) || c.tried.Has(b.Backend) || isMax || b.full() && !r.ipvs || r.crowded(b, c) {
			return nil
		}
		return b
	}
	entry.servers = slices.DeleteFunc(entry.servers, func(b *modelBackend) bool { return !slices.Contains(r.p.Backends(), b.Backend) })
	var some []*modelBackend
	for _, b := range entry.servers {
		if slices.Contains(c.candidates, b) {
			some = append(some, b)
		}
	}
	var least *modelBackend
	if r.ipvs {
		for _, b := range some {
			if least == nil || byShare(b, least) < 0 {
				least = b
			}
		}
	} else if right, _ := r.modelRule.choose(choice{candidates: some}); right != nil {
		least = right[0]
	}
	if len(entry.servers) > 1 && r.now-entry.changed > 24*time.Hour {
		if i := entry.most(); i >= 0 {
			entry.drop(i)
			entry.changed = r.now
		}
	}
	if least == nil || r.crowded(least, c) {
		return nil
	}
	return least
}

func (e *localityEntry) drop(i int) { e.servers = slices.Delete(e.servers, i, i+1) }

func (e *localityEntry) most() int {
	most := -1
	for i, b := range e.servers {
		if b.Weight() > 0 && (most < 0 || b.active*e.servers[most].Weight() > e.servers[most].active*b.Weight()) {
			most = i
		}
	}
	return most
}
