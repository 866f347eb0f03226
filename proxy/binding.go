package proxy

import (
	"fmt"
	"net/netip"

	"usher/proxy/flow"
)

// binding is one address that the server is bound to: of a range of ports each has one.
// It lasts as long as a service wants the address, whichever service that is.
type binding struct {
	flow.Binding
	claims  []claim        // of the services that run, in their order
	at      Listener       // of one port, without server name and protocol
	local   netip.AddrPort // as bound; invalid for a unix socket
	path    string         // of a unix socket
	splits  bool           // datagrams are scheduled one by one, when it is bound
	joins   bool           // it overlaps a binding that goes: all addresses and one of them
	file    socketFile
	sockets any // the engine's

	descriptors int // that sockets take
}

// address is what a binding is known by.
func (b *binding) address() address {
	a := addressOf(b.at)
	if b.at.Network != "unix" {
		a.at = b.local
	}
	return a
}

// port is the part of an address that bindings which overlap have in common.
func (b *binding) port() address {
	port := b.local.Port()
	if !b.local.IsValid() {
		port = b.at.Addr.Port()
	}
	return address{network: b.at.Network, at: netip.AddrPortFrom(netip.Addr{}, port)}
}

// overlaps reports whether one of two bindings of a port is on all addresses.
func (b *binding) overlaps(other *binding) bool {
	return b.at.Network != "unix" && (b.at.Addr.Addr().IsUnspecified() || other.at.Addr.Addr().IsUnspecified())
}

// address is what tells bindings apart. At one address but for v6only the kernel has room
// for one.
type address struct {
	network string
	at      netip.AddrPort
	path    string
	v6only  bool
}

func addressOf(l Listener) address {
	return address{l.Network, l.Addr, l.Path, l.V6Only && l.Addr.Addr() == netip.IPv6Unspecified()}
}

// request is a listener whose port the kernel chooses. The nth such listener of a service
// that is otherwise the same keeps its port.
type request struct {
	address address
	nth     int
}

// ListenErrors are the listeners that cannot be had, each of them once and at least one, in the order of the services.
// [errors.As] finds the first one as a *[ListenError].
type ListenErrors []*ListenError

// Error is the error of the first one.
func (e ListenErrors) Error() string {
	if len(e) == 1 {
		return e[0].Error()
	}
	return fmt.Sprintf("%v (and %d more listeners cannot be had)", e[0], len(e)-1)
}

// Unwrap returns all of them.
func (e ListenErrors) Unwrap() []error {
	all := make([]error, len(e))
	for i := range e {
		all[i] = e[i]
	}
	return all
}

// ListenError says which service cannot listen on which address, and why.
type ListenError struct {
	Service string
	Index   int    // of the listener in the service's config
	Address string // in the form that the command line takes; of a range of ports the first one that fails
	Err     error
}

func (e *ListenError) Error() string { return fmt.Sprintf("service %s: %v", e.Service, e.Err) }

// Unwrap returns the reason.
func (e *ListenError) Unwrap() error { return e.Err }
