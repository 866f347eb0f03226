package flow

import "sync/atomic"

// Binding says which service has the clients of a bound address. Sessions remember
// by which address they came.
type Binding struct {
	to     atomic.Pointer[destination]
	isGone atomic.Bool // no service wants the address any more
}

// destination is who gets the clients of a bound address.
type destination struct {
	Service *Service
	Offset  uint16    // of the port within the range of the listener
	last    *Settings // what the last clients of an address that is given up get; nil: what the service has
}

// Settings returns what the next client gets.
func (d *destination) Settings() *Settings {
	if d.last != nil {
		return d.last
	}
	return d.Service.Settings()
}

// Destination returns who gets the next client.
func (b *Binding) Destination() *destination { return b.to.Load() }

// Assign has the clients that come from now on belong to a service.
func (b *Binding) Assign(svc *Service, offset uint16) {
	if to := b.to.Load(); to == nil || to.Service != svc || to.Offset != offset {
		b.to.Store(&destination{Service: svc, Offset: offset})
	}
}

// Retire has the clients that still come get what the service has now: from now on it may
// be another one, of udp where it was of tcp.
func (b *Binding) Retire() {
	to := b.to.Load()
	b.to.Store(&destination{to.Service, to.Offset, to.Settings()})
	b.isGone.Store(true)
}
