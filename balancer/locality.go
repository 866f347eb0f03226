package balancer

// locality is what lblc and lblcr share: they send a destination where it went before,
// so that caches behind them each hold a part of all content, and choose as wlc does
// when that will not do.
type locality struct {
	*best
	ipvs bool
	// With ipvs: the members, if any of them has limits. Guarded by best.mu.
	limited []member
}

func newLocality(s settings) locality {
	return locality{best: newBest(newWeightedLeastConn(s)), ipvs: s.ipvs}
}

func (s *locality) update(members []member) {
	s.best.update(members)
	if !s.ipvs {
		return
	}
	var limited []member
	for _, m := range members {
		if m.limits != nil {
			limited = members
			break
		}
	}
	s.mu.Lock()
	s.limited = limited
	s.mu.Unlock()
}

// usable reports whether a backend that had the destination is one to choose from.
func (s *locality) usable(b *Backend, tried *Tried) bool {
	return b.node.place >= 0 && b.Weight() > 0 && !tried.Has(b)
}

// crowded reports whether a destination should leave b: it has more flows than weight,
// and there is another backend that has less than half of that. Weights are those asked
// for, since here they stand for flows and not for shares.
//
// The other one is the one that wlc chooses. With ipvs it may also be one without room,
// which does not get the destination, as in the kernel; to see those, all members are
// looked at, and only if some of them have limits.
func (s *locality) crowded(b *Backend, tried *Tried) bool {
	if b.Active() <= int64(b.Weight()) {
		return false
	}
	if i := s.rows.first(tried); i >= 0 && s.rows.items[i].major != noRoom && half(s.rows.items[i].backend) {
		return true
	}
	for _, m := range s.limited {
		if half(m.Backend) && !tried.Has(m.Backend) {
			return true
		}
	}
	return false
}

func half(b *Backend) bool { return b.Active()*2 < int64(b.Weight()) }

// hold reserves a usable backend, past its thresholds if told so.
func (s *locality) hold(b *Backend, overloaded bool) bool {
	if !b.reserve(overloaded) {
		return false
	}
	s.pick(b)
	return true
}
