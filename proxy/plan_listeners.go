package proxy

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"strings"

	"usher/proxy/flow"
)

// want is one port of a listener that a service wants.
type want struct {
	owner    *instance
	listener int // of owner
	offset   uint16
	at       Listener // of this port alone
	request  request  // where the kernel chooses the port
	site     *site    // nil: the kernel has not chosen the port yet
	binding  *binding
	sockets  int // that its binding takes
}

// site is an address that services want, or keep.
type site struct {
	address address
	owner   *instance // one of those that share it; nil: nobody has it
	at      Listener  // of the owner
	binding *binding  // nil: it is not bound yet

	hasNames, hasPrefixes bool // some listener is for server names or protocols, for prefixes
}

// claimed is what one service alone can have of an address, but for v6only.
type claimed struct {
	address              address
	serverName, protocol string
	from                 string // one prefix, or none
}

// keys returns what a listener has of an address.
func (a address) keys(serverName, protocol, from string) (keys []claimed) {
	a.v6only = false
	for prefix := range strings.SplitSeq(from, "+") {
		keys = append(keys, claimed{a, serverName, protocol, prefix})
	}
	return keys
}

// SharingError says in which field services must be the same to share an address by server
// names: what it names comes before the ClientHello.
type SharingError struct {
	Other string // the service that has the address
	Field string // of AccessConfig, UDPConfig or Listener; From: the other has server names or protocols, or this one
}

func (e *SharingError) Error() string {
	return fmt.Sprintf("service %s shares the address, and has another %s", e.Other, e.Field)
}

// refuse notes that a listener cannot be had.
func (p *plan) refuse(w *want, err error) {
	p.refused = append(p.refused, &ListenError{w.owner.service.Name, w.listener, w.at.String(), err})
}

// refusal returns which listeners cannot be had, in the order of the services; nil: all can.
func (p *plan) refusal() error {
	if len(p.refused) == 0 {
		return nil
	}
	index := make(map[string]int, len(p.placed))
	for _, at := range p.placed {
		index[at.now.service.Name] = at.index
	}
	slices.SortStableFunc(p.refused, func(a, b *ListenError) int {
		return cmp.Or(cmp.Compare(index[a.Service], index[b.Service]), cmp.Compare(a.Index, b.Index))
	})
	return p.refused
}

// match finds the bindings that stay, and those that go.
func (p *plan) match(s *Server) {
	for _, now := range p.changed {
		asked := make(map[address]int) // listeners whose port the kernel chooses
		for i, l := range now.settings.Listeners {
			if err := checkListener(now.settings, l); err != nil {
				p.refuse(&want{owner: now, listener: i, at: l}, err)
				continue
			}
			if now.settings.Empty == flow.EmptyClose {
				p.keepClosed(s, now, i, asked)
				continue
			}
			sockets := s.kind.sockets(l, s.workers) / l.Count()
			for offset := range l.Count() {
				w := want{owner: now, listener: i, offset: uint16(offset), at: l.Port(offset), sockets: sockets}
				if a := w.resolve(s, asked); a.network == "" {
					p.sockets += sockets
				} else if err := p.claim(s, a, &w); err != nil {
					p.refuse(&w, fmt.Errorf("listen on %s: %w", w.at, err))
					break
				}
				p.wants = append(p.wants, w)
			}
		}
	}
	for _, b := range p.leaving {
		if p.isFree[b] {
			p.gone = append(p.gone, b)
			p.sockets -= b.descriptors
		}
	}
}

// keepClosed binds nothing for a listener, and keeps the port that the kernel has chosen for it.
func (p *plan) keepClosed(s *Server, now *instance, listener int, asked map[address]int) {
	l := &now.settings.Listeners[listener]
	if l.Network == "unix" || l.Addr.Port() != 0 {
		return
	}
	w := want{owner: now, at: *l}
	if a := w.resolve(s, asked); a.network != "" {
		l.Addr = a.at
	}
}

// checkListener refuses a listener that a service cannot have.
func checkListener(c *flow.Settings, l Listener) error {
	switch {
	case (l.Network == "udp") != c.IsUDP():
		return fmt.Errorf("listen on %s: all listeners of a service are udp, or none is", l)
	case c.IsUDP() && l.NeedsHello():
		return fmt.Errorf("listen on %s: datagrams have no server name", l)
	case l.From != "" && (l.Network == "unix" || l.NeedsHello()):
		return fmt.Errorf("listen on %s: prefixes of clients are for tcp and udp, without server name and protocol", l)
	case l.Network != "unix" && l.Count() > 1 && (l.Addr.Port() == 0 || int(l.Addr.Port())+l.Count() > 1<<16):
		return fmt.Errorf("listen on %s: a range of ports is within 1-65535", l)
	}
	if _, err := l.Prefixes(); err != nil {
		return fmt.Errorf("listen on %s: %w", l, err)
	}
	return nil
}

// resolve returns the address that is wanted. Where the kernel is to choose the port that is the one which it has
// chosen before; without one there is no address yet.
func (w *want) resolve(s *Server, asked map[address]int) address {
	a := addressOf(w.at)
	if w.at.Network == "unix" || a.at.Port() != 0 {
		return a
	}
	w.request = request{a, asked[a]}
	asked[a]++
	before := s.byName[w.owner.service.Name]
	if before == nil || before.chosen[w.request].network == "" {
		return address{}
	}
	a = before.chosen[w.request]
	w.owner.choose(w.request, a)
	return a
}

// choose notes which port the kernel has chosen.
func (now *instance) choose(r request, a address) {
	if now.chosen == nil {
		now.chosen = make(map[request]address)
	}
	now.chosen[r] = a
}

// claim gives a service its part of an address. The error says who has it.
func (p *plan) claim(s *Server, a address, w *want) error {
	x := p.siteOf(s, a)
	keys := a.keys(w.at.ServerName, w.at.Protocol, w.at.From)
	var other *instance
	for _, key := range keys {
		other = cmp.Or(other, p.owners[key])
	}
	if other == nil && x.owner != nil && x.address != a {
		other = x.owner
	}
	if other != nil {
		return fmt.Errorf("service %s listens there", other.service.Name)
	}
	if x.owner == nil {
		x.address, x.owner, x.at = a, w.owner, w.at
		if b := s.bindings[a]; b != nil && b.file.isThere() {
			x.binding = b
			p.isFree[b] = false
		} else {
			p.sockets += w.sockets
		}
	} else if field := x.differs(w); field != "" {
		return &SharingError{x.owner.service.Name, field}
	}
	for _, key := range keys {
		p.owners[key] = w.owner
	}
	x.note(w.at)
	w.site, w.binding = x, x.binding
	return nil
}

// siteOf returns an address, which may be that of services that stay as they are.
func (p *plan) siteOf(s *Server, a address) *site {
	a.v6only = false
	x := p.sites[a]
	if x != nil {
		return x
	}
	x = new(site)
	p.sites[a] = x
	unscoped := a
	for range 2 {
		if b := s.bindings[a]; b != nil {
			for _, c := range b.claims {
				if p.isReplaced[c.owner] {
					continue
				}
				x.address, x.owner, x.at, x.binding = a, c.owner, b.at, b
				for _, key := range unscoped.keys(c.ServerName, c.Protocol, c.From) {
					p.owners[key] = c.owner
				}
				x.note(Listener{ServerName: c.ServerName, Protocol: c.Protocol, From: c.From})
			}
		}
		a.v6only = true
	}
	return x
}

// note notes by what a listener tells its clients from those of others.
func (x *site) note(l Listener) {
	x.hasNames = x.hasNames || l.NeedsHello()
	x.hasPrefixes = x.hasPrefixes || l.From != ""
}

// differs returns the field in which a service differs from those that it shares an address
// with, of what they must have in common.
func (x *site) differs(w *want) string {
	own, other := &w.owner.settings.Access, &x.owner.settings.Access
	switch {
	case own.ProxyOnly != other.ProxyOnly:
		return "ProxyOnly"
	case !flow.SamePrefixes(own.AcceptProxy, other.AcceptProxy):
		return "AcceptProxy"
	case w.at.From != "" && x.hasNames, w.at.NeedsHello() && x.hasPrefixes:
		return "From"
	case w.owner.settings.UDP.OnePacket != x.owner.settings.UDP.OnePacket:
		return "OnePacket"
	case w.at.Mode != x.at.Mode:
		return "Mode"
	case w.at.User != x.at.User:
		return "User"
	case w.at.Group != x.at.Group:
		return "Group"
	}
	return ""
}

// claim is a listener of a service at a binding.
type claim struct {
	flow.Claim
	owner    *instance
	listener int // of owner
}

// claims returns whose each binding is then that others have from now on. Indexes of instances
// are those of the plan.
func (p *plan) claims() map[*binding][]claim {
	all := make(map[*binding][]claim, len(p.wants))
	keep := func(b *binding) {
		if _, isKnown := all[b]; !isKnown && !p.isFree[b] {
			all[b] = slices.DeleteFunc(slices.Clone(b.claims), func(c claim) bool { return p.isReplaced[c.owner] })
		}
	}
	for _, b := range p.leaving {
		keep(b)
	}
	for _, at := range p.placed { // the first services come first
		for _, b := range at.now.bindings {
			if len(b.claims) > 1 { // one alone has no order: a removed service moves all behind it
				keep(b)
			}
		}
	}
	for i := range p.wants {
		w := &p.wants[i]
		keep(w.binding)
		l := &w.owner.settings.Listeners[w.listener]
		all[w.binding] = append(all[w.binding], claim{
			flow.Claim{Service: w.owner.service, Offset: w.offset, ServerName: l.ServerName, Protocol: l.Protocol, From: l.From}, w.owner, w.listener,
		})
	}
	for _, c := range all {
		sort.Slice(c, func(i, j int) bool {
			return cmp.Or(cmp.Compare(c[i].owner.index, c[j].owner.index), cmp.Compare(c[i].listener, c[j].listener)) < 0
		})
	}
	return all
}

// assign has the clients of a binding be those of services from now on.
func (b *binding) assign(claims []claim) {
	b.claims = claims
	all := make([]flow.Claim, len(claims))
	for i := range claims {
		all[i] = claims[i].Claim
	}
	b.Assign(all...)
}
