package balancer

// lblc sends all flows to one destination address to one backend: to the one that the
// last flow went to, for as long as that is a member, has room and is not crowded; else
// to the one that wlc chooses, which is remembered. See destinations for how long and
// how many; a flow whose destination is not remembered is wlc's.
//
// With ipvs a backend keeps its destinations while it is between its thresholds, as in
// the kernel, and among equals wlc chooses the newest. Limits.Max is always kept.
//
// A flow that has been at its destination's backend without success takes the
// destination along to the next one.
type lblc struct {
	locality
	homes destinations[*Backend]
}

func newLBLC(s settings) scheduler {
	return &lblc{newLocality(s), newDestinations[*Backend]()}
}

func (s *lblc) acquire(f Flow, tried *Tried) (b *Backend, busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.homes.advance(f.Now)
	home := s.homes.use(f.Local.Addr())
	if home != nil {
		b := home.value
		if s.usable(b, tried) && !s.crowded(b, tried) && s.hold(b, s.ipvs) {
			return b, false
		}
	}
	b, busy = s.choose(tried)
	if b == nil {
		return nil, busy
	}
	if home == nil {
		home = s.homes.add(f.Local.Addr())
	}
	if home != nil {
		home.value = b
	}
	return b, false
}
