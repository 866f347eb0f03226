package flow

import (
	"net/netip"
	"slices"
	"sync/atomic"
)

// Binding says which services have the clients of a bound address. Sessions remember
// by which address they came.
type Binding struct {
	to     atomic.Pointer[routes]
	isGone atomic.Bool // no service wants the address any more
}

// Claim is what a listener of a service has at a bound address: the clients with its server
// name and protocol, or from its prefixes.
type Claim struct {
	Service              *Service
	Offset               uint16 // of the port within the range of the listener
	ServerName, Protocol string // as in Listener
	From                 string // as in Listener
}

// Destination is who gets a client of a bound address.
type Destination struct {
	Claim
	last *Settings // what the last clients of an address that is given up get; nil: what the service has
}

// Settings returns what the next client gets.
func (d *Destination) Settings() *Settings {
	if d.last != nil {
		return d.last
	}
	return d.Service.Settings()
}

// Destination returns who gets the next client. Where services share the address that is not
// known before the client's ClientHello; see [Binding.NeedsHello]. Until then it is the
// listener without server name and protocol, else the first one: it accounts for the client.
func (b *Binding) Destination() *Destination { return b.to.Load().first }

// DestinationFor returns who gets the next client of a peer, as far as that is known before its ClientHello. Where nobody
// does, ok is false, and the destination accounts for the refusal.
func (b *Binding) DestinationFor(peer netip.Addr) (d *Destination, ok bool) {
	return b.to.Load().of(peer)
}

// NeedsHello reports whether a ClientHello decides who gets the next client.
func (b *Binding) NeedsHello() bool { return b.to.Load().byName != nil }

// DestinationOf returns who gets a client with this ClientHello; nil is nobody. The name is in
// lower case, without a trailing dot, and empty if there is none. It does not allocate.
func (b *Binding) DestinationOf(name string, hasProtocol func(string) bool) *Destination {
	return b.to.Load().find(name, hasProtocol)
}

// Destinations returns all who may get a client, in the order of their claims.
func (b *Binding) Destinations() []Destination { return b.to.Load().all }

// Assign has the clients that come from now on belong to these services. No two claims have
// the same server name and protocol, or a prefix in common. Earlier ones are preferred where several protocols match.
func (b *Binding) Assign(claims ...Claim) {
	all := make([]Destination, len(claims))
	for i := range claims {
		all[i].Claim = claims[i]
	}
	if to := b.to.Load(); to == nil || !slices.Equal(to.all, all) {
		b.to.Store(newRoutes(all))
	}
}

// Retire has the clients that still come get what the services have now: from now on it may
// be another one, of udp where it was of tcp.
func (b *Binding) Retire() {
	all := slices.Clone(b.Destinations())
	for i := range all {
		all[i].last = all[i].Settings()
	}
	b.to.Store(newRoutes(all))
	b.isGone.Store(true)
}
