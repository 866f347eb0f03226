package balancer

import (
	"net/netip"
	"time"
)

// plainLocality chooses by scans of the backends' counters and its own record of picks
// and destinations. It does what the kernel does, but for what lblc.go, lblcr.go and
// locality.go say of the default form.
type plainLocality struct {
	p          *Pool
	set, ipvs  bool
	wlc        plainRule
	backends   map[*Backend]*plainBackend
	picks      int
	homes      map[netip.Addr]*plainHome
	now        time.Duration
	kept, left int // flows by memory, and destinations that moved
}

type plainHome struct {
	servers       []*Backend // the last to join first
	used, changed time.Duration
}

func newPlainLocality(p *Pool, set, ipvs bool) *plainLocality {
	m := &plainLocality{
		p: p, set: set, ipvs: ipvs, wlc: plainRules["wlc"](),
		backends: map[*Backend]*plainBackend{}, homes: map[netip.Addr]*plainHome{},
	}
	if ipvs {
		m.wlc = plainRules["wlc ipvs"]()
	}
	m.read()
	return m
}

// read takes over what has become of the backends.
func (m *plainLocality) read() {
	var members []*plainBackend
	for i, x := range membersOf(m.p) {
		b := m.backends[x.Backend]
		if b == nil {
			b = &plainBackend{Backend: x.Backend}
			m.backends[x.Backend] = b
		}
		b.active, b.overloaded, b.limits = int(x.Active()), x.Overloaded(), x.Limits()
		b.weight, b.order = x.weight, i
		members = append(members, b)
	}
	m.wlc.edit(members)
	m.wlc.settle()
}

func has(backends []*Backend, b *Backend) bool {
	for _, x := range backends {
		if x == b {
			return true
		}
	}
	return false
}

func (m *plainLocality) members() []*Backend {
	var members []*Backend
	for _, x := range membersOf(m.p) {
		members = append(members, x.Backend)
	}
	return members
}

// least is the one of some members that wlc chooses.
func (m *plainLocality) least(some []*Backend, tried *Tried) *Backend {
	var candidates []*plainBackend
	for _, b := range some {
		if !tried.Has(b) && !full(b) {
			candidates = append(candidates, m.backends[b])
		}
	}
	if b := m.wlc.choose(candidates); b != nil {
		return b.Backend
	}
	return nil
}

func (m *plainLocality) crowded(b *Backend, members []*Backend, tried *Tried) bool {
	if b.Active() <= int64(b.Weight()) {
		return false
	}
	for _, x := range members {
		if !tried.Has(x) && (m.ipvs || !full(x)) && x.Active()*2 < int64(x.Weight()) {
			return true
		}
	}
	return false
}

// acquire returns the choice, and whether another may have room.
func (m *plainLocality) acquire(f Flow, tried *Tried) (b *Backend, busy bool) {
	members := m.members()
	for _, x := range members {
		busy = busy || !tried.Has(x) && full(x)
	}
	m.now = max(m.now, f.Now)
	home := m.homes[f.Local.Addr()]
	if home != nil && m.now-home.used >= 24*time.Hour {
		home = nil
		delete(m.homes, f.Local.Addr())
	}
	if home != nil {
		home.used = m.now
		if b := m.of(home, members, tried); b != nil {
			m.kept++
			return m.pick(b), false
		}
		m.left++
	}
	b = m.least(members, tried)
	if b == nil {
		return nil, busy
	}
	if home == nil {
		home = &plainHome{used: m.now, changed: m.now}
		m.homes[f.Local.Addr()] = home
	}
	switch {
	case !m.set:
		home.servers = []*Backend{b}
	case !has(home.servers, b):
		if len(home.servers) == serverSetMost {
			home.drop(max(home.most(), 0))
		}
		home.servers = append([]*Backend{b}, home.servers...)
		home.changed = m.now
	}
	return m.pick(b), false
}

// of is the backend that the home still means, or nil.
func (m *plainLocality) of(home *plainHome, members []*Backend, tried *Tried) *Backend {
	if !m.set {
		b := home.servers[0]
		tooMany := b.Limits().Max > 0 && b.Active() >= int64(b.Limits().Max)
		if !has(members, b) || tried.Has(b) || tooMany || full(b) && !m.ipvs || m.crowded(b, members, tried) {
			return nil
		}
		return b
	}
	for i := len(home.servers) - 1; i >= 0; i-- {
		if !has(m.p.Backends(), home.servers[i]) {
			home.drop(i)
		}
	}
	var least *Backend
	if m.ipvs {
		for _, b := range home.servers {
			if !has(members, b) || tried.Has(b) || full(b) {
				continue
			}
			if least == nil || b.Active()*int64(least.Weight()) < least.Active()*int64(b.Weight()) {
				least = b
			}
		}
	} else {
		var some []*Backend
		for _, b := range home.servers {
			if has(members, b) {
				some = append(some, b)
			}
		}
		least = m.least(some, tried)
	}
	if len(home.servers) > 1 && m.now-home.changed > 24*time.Hour {
		if i := home.most(); i >= 0 {
			home.drop(i)
			home.changed = m.now
		}
	}
	if least == nil || m.crowded(least, members, tried) {
		return nil
	}
	return least
}

func (h *plainHome) drop(i int) {
	h.servers = append(append([]*Backend{}, h.servers[:i]...), h.servers[i+1:]...)
}

func (h *plainHome) most() int {
	most := -1
	for i, b := range h.servers {
		if b.Weight() == 0 {
			continue
		}
		if most < 0 || b.Active()*int64(h.servers[most].Weight()) > h.servers[most].Active()*int64(b.Weight()) {
			most = i
		}
	}
	return most
}

func (m *plainLocality) pick(b *Backend) *Backend {
	m.picks++
	x := m.backends[b]
	x.picked = m.picks
	m.wlc.chosen(x)
	return b
}
