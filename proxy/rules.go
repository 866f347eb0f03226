package proxy

import "usher/proxy/rules"

// CheckRules returns an error if rules cannot be judged here: they ask for interfaces, and
// connections do not tell theirs.
func (s *Server) CheckRules(set *rules.Set) error {
	if set.NeedsInterface() {
		return knowsInterfaces()
	}
	return nil
}

// SetRules has new flows judged by a set of rules, from one moment to the next; nil lets all
// in. Flows that live stay. Of a restored server it is called before Start, so that flows that
// rules had counted are counted again. The error is that of CheckRules.
func (s *Server) SetRules(set *rules.Set) error {
	if err := s.CheckRules(set); err != nil {
		return err
	}
	if set.NeedsInterface() && !s.asksInterface.Swap(true) {
		s.cutting.RLock()
		if s.hasLoop || s.rejoins.Load() { // else sockets are asked when they are served
			s.engine.needInterfaces()
		}
		s.cutting.RUnlock()
	}
	s.admission.SetRules(set)
	if s.rejoins.CompareAndSwap(true, false) {
		s.rejoin(set)
	}
	return nil
}

// Rules returns the rules of new flows; nil: there are none.
func (s *Server) Rules() *rules.Set { return s.admission.Rules() }

// rejoin counts the flows of a restored server where they were counted before it was saved. It
// has not started, so nobody else has to do with them.
func (s *Server) rejoin(set *rules.Set) {
	if e, ok := s.engine.(handoverEngine); ok && set != nil {
		e.rejoin(set)
	}
}

// Dropped returns how many clients are held without an answer.
func (s *Server) Dropped() int { return s.admission.Dropped() }

// MaxDropped returns how many may be held.
func (s *Server) MaxDropped() int { return int(max(s.admission.MaxDropped.Load(), 0)) }
