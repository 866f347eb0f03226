package proxy

import (
	"fmt"
	"maps"
	"slices"
	"sort"
)

// Inherited is a listening socket that the process was started with. The listener of a service whose address is exactly
// that of the socket takes it instead of binding one. Several workers share a socket of tcp or unix; one of udp has a
// single worker. The file of a unix socket stays as it is, also at the end.
type Inherited struct {
	Name string   // for messages
	FD   int      // the server owns it
	At   Listener // where it listens; New asks the kernel
}

// inspectInherited asks the kernel where sockets listen.
func (s *Server) inspectInherited(all []Inherited) error {
	for _, in := range all {
		var err error
		if in.At, err = inspectSocket(in.FD); err != nil {
			return fmt.Errorf("socket %s (descriptor %d): %w", in.Name, in.FD, err)
		}
		at := addressOf(in.At)
		if other, ok := s.inherited[at]; ok {
			return fmt.Errorf("sockets %s and %s both listen on %v", other.Name, in.Name, in.At)
		}
		s.inherited[at] = in
	}
	return nil
}

// Unclaimed returns the inherited sockets that no service has taken so far.
func (s *Server) Unclaimed() []Inherited {
	s.applying.Lock()
	defer s.applying.Unlock()
	all := slices.Collect(maps.Values(s.inherited))
	sort.Slice(all, func(i, j int) bool { return all[i].FD < all[j].FD })
	return all
}

// bindOrInherit has the engine bind a new binding, or take the inherited socket at its address: a copy, until the change is committed.
func (s *Server) bindOrInherit(b *binding, isShared bool) error {
	in, ok := s.inherited[addressOf(b.at)]
	if !ok {
		return s.engine.bind(b, isShared)
	}
	own, err := duplicate(in.FD)
	if err != nil {
		return fmt.Errorf("listen on %v: inherited socket %s: %w", b.at, in.Name, err)
	}
	if b.at.Network != "unix" {
		b.local = b.at.Addr
	}
	if err := s.engine.inherit(b, own); err != nil {
		return fmt.Errorf("listen on %v: inherited socket %s: %w", b.at, in.Name, err)
	}
	return nil
}

// dropClaimed closes the inherited socket of which a binding has a copy.
func (s *Server) dropClaimed(b *binding) {
	at := addressOf(b.at)
	if in, ok := s.inherited[at]; ok {
		closeInherited(in.FD)
		delete(s.inherited, at)
	}
}

// closeUnclaimed closes what no service has taken.
func (s *Server) closeUnclaimed() {
	for _, in := range s.inherited {
		closeInherited(in.FD)
	}
	clear(s.inherited)
}
