package proxy

import (
	"fmt"
	"slices"
	"time"

	"usher/proxy/flow"
)

const (
	// stateWorkersMost bounds the event loops of a state.
	stateWorkersMost = 1 << 12
	// stateFDMost bounds the numbers of descriptors (fs.nr_open's largest value).
	stateFDMost = 1 << 30
	// stateRestMost bounds what is left of a read: a buffer, or what a pipe has held.
	stateRestMost = 1 << 20
)

// Check returns an error if no server can be in such a state. It opens nothing and looks at no
// descriptor: a successor that is asked whether it could take over calls it. What remains to
// be seen, [Restore] sees.
func (st *State) Check() error {
	if st.Version != stateVersion {
		return fmt.Errorf("state: format %d, and not %d", st.Version, stateVersion)
	}
	if n := len(st.Workers); n == 0 || n > stateWorkersMost {
		return fmt.Errorf("state: %d workers", n)
	}
	if st.Clock < 0 || st.Clock > 1<<62 || st.Monotonic < 0 {
		return fmt.Errorf("state: %v on the clock, %v on the system's", st.Clock, st.Monotonic)
	}
	l := flow.Limits{Settings: len(st.Settings), Bindings: len(st.Bindings)}
	for i := range st.Pools {
		l.Backends += len(st.Pools[i].Backends)
	}
	for _, check := range [...]func(flow.Limits) error{st.checkServices, st.checkBindings, st.checkWorkers} {
		if err := check(l); err != nil {
			return fmt.Errorf("state: %w", err)
		}
	}
	return st.checkDescriptors()
}

func (st *State) checkServices(l flow.Limits) error {
	for i := range st.Settings {
		if err := st.Settings[i].Check(len(st.Services), len(st.Pools)); err != nil {
			return err
		}
	}
	names := make(map[string]bool)
	for i := range st.Services {
		svc := &st.Services[i]
		if err := svc.Check(l); err != nil {
			return err
		}
		if !svc.Removed {
			if names[svc.Name] {
				return fmt.Errorf("service %s is there twice", svc.Name)
			}
			names[svc.Name] = true
		}
		if now := &st.Settings[svc.Running-1]; now.Service != flow.Ref(i+1) || now.Config.Name != svc.Name {
			return fmt.Errorf("service %s has the settings of another one", svc.Name)
		}
	}
	for i := range st.Pools {
		if err := st.Pools[i].Check(st.Clock); err != nil {
			return err
		}
	}
	for i := range st.Clients {
		c := &st.Clients[i]
		if !c.Client.IsValid() || !has(c.Service, len(st.Services)) || !has(c.Backend, l.Backends) || c.Created < 0 || c.Expires < 0 {
			return fmt.Errorf("client %v of service %d with backend %d", c.Client, c.Service, c.Backend)
		}
	}
	return nil
}

// has reports whether a number stands for one of n things.
func has(r flow.Ref, n int) bool { return r != 0 && int(r) <= n }

func (st *State) checkBindings(l flow.Limits) error {
	addresses := make(map[address]bool)
	for i := range st.Bindings {
		b := &st.Bindings[i]
		if err := b.Flow.Check(len(st.Services), l); err != nil {
			return err
		}
		for r := range b.Flow.Services() {
			if st.Services[r-1].Removed && !b.Flow.Gone {
				return fmt.Errorf("listener %v is that of service %s, which is gone", b.At, st.Services[r-1].Name)
			}
		}
		if b.Flow.Gone {
			if len(b.FDs)+len(b.Slots) > 0 {
				return fmt.Errorf("listener %v is gone and has sockets", b.At)
			}
			continue
		}
		sockets, slots := len(st.Workers), 0
		switch {
		case b.At.Network == "udp":
			sockets, slots = 0, len(st.Workers)
		case b.Shared:
			sockets = 1
		}
		a := b.address()
		isUnix := b.At.Network == "unix"
		switch {
		case len(b.FDs) != sockets || len(b.Slots) != slots:
			return fmt.Errorf("listener %v: %d sockets, %d slots for %d workers", b.At, len(b.FDs), len(b.Slots), len(st.Workers))
		case !isUnix && b.At.Network != "udp" && b.At.Network != "tcp" || isUnix != !b.Local.IsValid() || isUnix && !b.Shared:
			return fmt.Errorf("listener %v on %v, shared: %v", b.At, b.Local, b.Shared)
		case !isUnix && b.At.Addr.Addr() != b.Local.Addr() || b.At.Count() > 1:
			return fmt.Errorf("listener %v on %v", b.At, b.Local)
		case slots > 0 && !slices.ContainsFunc(b.Slots, func(slot int32) bool { return slot != noSlot }):
			return fmt.Errorf("listener %v: no worker has a socket for it", b.At)
		case addresses[a]:
			return fmt.Errorf("listener %v is there twice", b.At)
		}
		addresses[a] = true
	}
	for i := range st.Requests {
		r := &st.Requests[i]
		isClosed := r.Binding == 0 && r.Port != 0 && r.At.Network != "unix"
		if !has(r.Service, len(st.Services)) || !isClosed && (!has(r.Binding, l.Bindings) || st.Bindings[r.Binding-1].Flow.Gone) {
			return fmt.Errorf("the port of service %d is that of listener %d", r.Service, r.Binding)
		}
	}
	return nil
}

func (b *bindingState) address() address {
	x := binding{at: b.At, local: b.Local}
	return x.address()
}

func (st *State) checkWorkers(l flow.Limits) error {
	for n := range st.Workers {
		w := &st.Workers[n]
		for i := range w.Conns {
			if err := w.Conns[i].check(l); err != nil {
				return err
			}
		}
		for i := range w.Listeners {
			if err := w.checkListener(int32(i), l); err != nil {
				return err
			}
		}
		for i := range w.Sessions {
			if err := w.checkSession(&w.Sessions[i], l); err != nil {
				return err
			}
		}
		for i := range st.Bindings {
			if len(st.Bindings[i].Slots) == 0 {
				continue
			}
			slot := st.Bindings[i].Slots[n]
			if slot == noSlot {
				continue // another worker has the only one
			}
			if x := w.listener(slot); x == nil || x.Binding != flow.Ref(i+1) || x.Left || x.Replies != slot {
				return fmt.Errorf("listener %v: worker %d has no socket for it in slot %d", st.Bindings[i].At, n, slot)
			}
		}
	}
	return nil
}

func (c *connState) check(l flow.Limits) error {
	if err := c.Flow.Check(l); err != nil {
		return err
	}
	isRelaying := c.Flow.IsRelaying()
	for s := range c.Half {
		h := &c.Half[s]
		switch {
		case h.FD < 0 && (isRelaying || s == int(flow.Client)):
			return fmt.Errorf("flow from %v has lost a socket", c.Flow.Origin.Client)
		case !flow.IsOutcome(h.Broken):
			return fmt.Errorf("flow from %v: outcome %d", c.Flow.Origin.Client, h.Broken)
		case int(h.Preface) > len(h.Rest):
			return fmt.Errorf("flow from %v: a header of %d bytes in %d that are left", c.Flow.Origin.Client, h.Preface, len(h.Rest))
		case h.Pipe == nil && len(h.Rest) == 0: // most
		case !isRelaying, len(h.Rest) > stateRestMost, h.Pipe != nil && (h.Pipe.Held <= 0 || h.Pipe.Held > stateRestMost):
			return fmt.Errorf("flow from %v: %d bytes are left", c.Flow.Origin.Client, len(h.Rest))
		}
	}
	if !c.Flow.IsTrying() && !isRelaying && c.Half[flow.Backend].FD >= 0 {
		return fmt.Errorf("flow from %v tries no backend, and has a socket to one", c.Flow.Origin.Client)
	}
	return nil
}

// listener returns what is in a slot; nil is nothing.
func (w *workerState) listener(slot int32) *udpListenerState {
	if slot < 0 || int(slot) >= len(w.Listeners) || w.Listeners[slot].FD < 0 {
		return nil
	}
	return &w.Listeners[slot]
}

func (w *workerState) checkListener(slot int32, l flow.Limits) error {
	x := &w.Listeners[slot]
	switch {
	case x.FD < 0:
		return nil
	case !has(x.Binding, l.Bindings) || !x.Local.IsValid() || x.Left != x.Leaving:
		return fmt.Errorf("udp listener %v of binding %d", x.Local, x.Binding)
	case x.Replies != slot && x.Replies != -1 && w.listener(x.Replies) == nil:
		return fmt.Errorf("udp listener %v: replies leave by slot %d", x.Local, x.Replies)
	}
	return nil
}

func (w *workerState) checkSession(s *sessionState, l flow.Limits) error {
	client := s.Flow.Origin.Client
	if err := s.Flow.Check(l); err != nil {
		return err
	}
	switch {
	case s.FD < 0:
		return fmt.Errorf("session from %v has no socket", client)
	case w.listener(s.Listener) == nil || w.Listeners[s.Listener].Replies != s.Listener:
		return fmt.Errorf("session from %v: replies leave by slot %d", client, s.Listener)
	case s.Front != -1 && (w.listener(s.Front) == nil || w.Listeners[s.Front].Replies != s.Listener || s.Front == s.Listener):
		return fmt.Errorf("session from %v: its socket at the front is in slot %d", client, s.Front)
	}
	return nil
}

// checkDescriptors returns an error if a descriptor is there twice or is a standard one.
func (st *State) checkDescriptors() (err error) {
	seen := make(map[int32]struct{})
	st.descriptors(func(fd int32, _ descriptorKind) bool {
		if _, twice := seen[fd]; twice || fd <= 2 || fd > stateFDMost {
			err = fmt.Errorf("state: descriptor %d is there twice, or none of ours", fd)
			return false
		}
		seen[fd] = struct{}{}
		return true
	})
	return err
}

// sinceStart returns the clock of the data path at a time after the state was saved.
func (st *State) sinceStart(age time.Duration) time.Duration { return st.Clock + max(age, 0) }
