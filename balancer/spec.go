package balancer

import (
	"net/netip"
	"strconv"
)

// Spec is a backend as it is asked for.
type Spec struct {
	Endpoint Endpoint `cbor:",omitempty"`
	// Weight is the share of new flows in relation to other backends; 0 gives it
	// none and leaves existing flows alone. Values outside 0 … 2147483647 count as
	// the nearest one inside.
	Weight int `cbor:",omitempty"`
	// Share is how much of Weight counts now, in percent from 1 to 1000; 0 means all of
	// it. It is exact for small weights too where shares of flows follow weights; where
	// they do not, or follow them as in the kernel (fo, ovf, all with ipvs), Weight itself
	// becomes the whole number next above. Values outside count as the nearest one inside.
	Share int `cbor:",omitempty"`
	// Backup keeps new flows from the backend while one without it is in use.
	Backup bool `cbor:",omitempty"`
	// Limits bound its flows. Limits that do not pass their Check count as none.
	Limits Limits `cbor:",omitempty"`
	// Source is the local address of connections to it; not valid: the kernel chooses.
	Source netip.Addr `cbor:",omitempty"`
	// Check is what health checks found: Unknown, Up or Down. A backend without an address
	// is Down whatever it says; one without checks is given as Up.
	Check Status `cbor:",omitempty"`
	// Admin is what an operator wants. It stands above Check and Ejected.
	Admin AdminState `cbor:",omitempty"`
	// Ejected makes the backend Down whatever Check says: flow after flow failed there.
	Ejected bool `cbor:",omitempty"`
}

// specSettings are a Spec without its endpoint: what a backend keeps to see whether another one says something new.
type specSettings struct {
	weight, share int
	limits        Limits
	source        netip.Addr
	check         Status
	admin         AdminState
	backup        bool
	ejected       bool
}

func (s *Spec) settings() specSettings {
	return specSettings{s.Weight, s.Share, s.Limits, s.Source, s.Check, s.Admin, s.Backup, s.Ejected}
}

// Status is that of a backend with this spec.
func (s *Spec) Status() Status {
	switch s.Admin {
	case Drain:
		return Draining
	case Maint:
		return InMaint
	}
	return s.found()
}

// found is the status whatever the admin state.
func (s *Spec) found() Status {
	switch {
	case s.Ejected || !s.Endpoint.Resolved():
		return Down
	case s.Check > Down:
		return Unknown
	}
	return s.Check
}

// Status is the condition of a backend. Health checks find Unknown, Up and Down. Draining and
// InMaint follow from its admin state, which stands above what checks find.
type Status uint8

const (
	Unknown Status = iota // no check has ended yet
	Up
	Down
	Draining // no new flows, those that exist go on
	InMaint  // out of service
)

// AdminState is what an operator wants of a backend.
type AdminState uint8

const (
	Ready AdminState = iota
	Drain            // no new flows, those that exist go on
	Maint            // out of service
)

func (s Status) String() string {
	switch s {
	case Unknown:
		return "unknown"
	case Up:
		return "up"
	case Down:
		return "down"
	case Draining:
		return "drain"
	case InMaint:
		return "maint"
	}
	return "invalid"
}

// Endpoint says how a backend is reached, and is its identity within a pool:
// two endpoints that are equal name one backend.
type Endpoint struct {
	// Addr is the address and port; not valid when Path or Host is used instead.
	// Port 0 means the port that the client asked for.
	Addr netip.AddrPort `cbor:",omitempty"`
	// Ports is the number of consecutive ports from Addr's on, for a listener that
	// is a port range; 0 and 1 both mean one.
	Ports uint16 `cbor:",omitempty"`
	// Path is the path of a unix socket.
	Path string `cbor:",omitempty"`
	// Host is a name that does not resolve yet, with its port ("db.local:5432"). A
	// backend with such an endpoint is shown, but never gets a flow.
	Host string `cbor:",omitempty"`
}

// Resolved reports whether a connection to the endpoint can be tried at all.
func (e Endpoint) Resolved() bool { return e.Addr.IsValid() || e.Path != "" }

// String returns the endpoint in the form in which an operator writes it:
// "127.0.0.1:9001", "127.0.0.1", "[::1]:9000-9099", "unix:///run/x.sock", "db.local:5432".
// Instances that agree on it agree on the choices of consistent hashing.
func (e Endpoint) String() string {
	switch {
	case e.Path != "":
		return "unix://" + e.Path
	case e.Addr.IsValid() && e.Ports > 1:
		last := int(e.Addr.Port()) + int(e.Ports) - 1
		return e.Addr.String() + "-" + strconv.Itoa(last)
	case e.Addr.IsValid() && e.Addr.Port() == 0: // it gets the port that the client asked for
		if ip := e.Addr.Addr(); ip.Is4() {
			return ip.String()
		}
		return "[" + e.Addr.Addr().String() + "]"
	case e.Addr.IsValid():
		return e.Addr.String()
	default:
		return e.Host
	}
}

// canonical returns the one form of the endpoint that serves as its identity.
func (e Endpoint) canonical() Endpoint {
	if e.Ports == 1 {
		e.Ports = 0
	}
	return e
}
