package flow

import (
	"fmt"
	"iter"
)

// BindingState is where the clients of an address go.
type BindingState struct {
	DestinationState
	Gone bool `cbor:"3,keyasint,omitempty"`
	// Others are behind the first destination.
	Others []DestinationState `cbor:"5,keyasint,omitempty"`
}

// DestinationState is a Destination.
type DestinationState struct {
	Service    Ref    `cbor:"1,keyasint"` // of the services of the state
	Offset     uint16 `cbor:"2,keyasint,omitempty"`
	Last       Ref    `cbor:"4,keyasint,omitempty"` // what the last clients get; zero: what the service has
	ServerName string `cbor:"6,keyasint,omitempty"`
	Protocol   string `cbor:"7,keyasint,omitempty"`
	From       string `cbor:"8,keyasint,omitempty"`
}

// Save returns the state of a binding; service numbers services.
func (b *Binding) Save(n *Numbers, service func(*Service) Ref) BindingState {
	st := BindingState{Gone: b.isGone.Load()}
	for i, to := range b.Destinations() {
		d := DestinationState{service(to.Service), to.Offset, n.Settings.Of(to.last), to.ServerName, to.Protocol, to.From}
		if i == 0 {
			st.DestinationState = d
		} else {
			st.Others = append(st.Others, d)
		}
	}
	return st
}

// Check returns an error if no binding can have such a state.
func (st *BindingState) Check(services int, l Limits) error {
	seen := make(map[[3]string]bool)
	for _, d := range st.destinations() {
		if d.Service == 0 || int(d.Service) > services || int(d.Last) > l.Settings || (d.Last != 0) != st.Gone {
			return fmt.Errorf("binding of service %d of %d, with settings %d of %d", d.Service, services, d.Last, l.Settings)
		}
		if _, err := parseFrom(d.From); err != nil || d.From != "" && d.ServerName+d.Protocol != "" {
			return fmt.Errorf("binding with clients from %q", d.From)
		}
		key := [3]string{d.ServerName, d.Protocol, d.From}
		if seen[key] {
			return fmt.Errorf("binding with server name %q, protocol %q and clients from %q twice", d.ServerName, d.Protocol, d.From)
		}
		seen[key] = true
	}
	return nil
}

// Services yields the services of the binding.
func (st *BindingState) Services() iter.Seq[Ref] {
	return func(yield func(Ref) bool) {
		for _, d := range st.destinations() {
			if !yield(d.Service) {
				return
			}
		}
	}
}

func (st *BindingState) destinations() []DestinationState {
	return append([]DestinationState{st.DestinationState}, st.Others...)
}

// Restore makes a new binding one of the state.
func (b *Binding) Restore(st *BindingState, services []*Service, r *Refs) {
	var all []Destination
	for _, d := range st.destinations() {
		all = append(all, Destination{
			Claim{at(services, d.Service), d.Offset, d.ServerName, d.Protocol, d.From}, at(r.Settings, d.Last),
		})
	}
	b.to.Store(newRoutes(all))
	b.isGone.Store(st.Gone)
}
