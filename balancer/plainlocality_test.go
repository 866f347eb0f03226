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
	picked     map[*Backend]int
	picks      int
	homes      map[netip.Addr]*plainHome
	now        time.Duration
	kept, left int // flows by memory, and destinations that moved
}

type plainHome struct {
	servers       []*Backend // the last to join first
	used, changed time.Duration
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

// before compares as wlc does.
func (m *plainLocality) before(x, y *Backend) bool {
	a, b := x.Active()*int64(y.Weight()), y.Active()*int64(x.Weight())
	switch {
	case a != b:
		return a < b
	case m.ipvs:
		return x.ID() > y.ID()
	case m.picked[x] != m.picked[y]:
		return m.picked[x] < m.picked[y]
	}
	return x.ID() < y.ID()
}

func (m *plainLocality) wlc(members []*Backend, tried *Tried) *Backend {
	var least *Backend
	for _, b := range members {
		if !tried.Has(b) && !full(b) && (least == nil || m.before(b, least)) {
			least = b
		}
	}
	return least
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
	b = m.wlc(members, tried)
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
	for _, b := range home.servers {
		if !has(members, b) || tried.Has(b) || full(b) {
			continue
		}
		before := func() bool {
			if m.ipvs {
				return b.Active()*int64(least.Weight()) < least.Active()*int64(b.Weight())
			}
			return m.before(b, least)
		}
		if least == nil || before() {
			least = b
		}
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
	m.picked[b] = m.picks
	return b
}
