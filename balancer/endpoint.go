package balancer

import (
	"net/netip"
	"strconv"
)

// Endpoint says how a backend is reached, and is its identity within a pool:
// two endpoints that are equal name one backend.
type Endpoint struct {
	// Addr is the address and port; not valid when Path or Host is used instead.
	// Port 0 means the port that the client asked for.
	Addr netip.AddrPort
	// Ports is the number of consecutive ports from Addr's on, for a listener that
	// is a port range; 0 and 1 both mean one.
	Ports uint16
	// Path is the path of a unix socket.
	Path string
	// Host is a name that does not resolve yet, with its port ("db.local:5432"). A
	// backend with such an endpoint is shown, but never gets a flow.
	Host string
}

// Resolved reports whether a connection to the endpoint can be tried at all.
func (e Endpoint) Resolved() bool { return e.Addr.IsValid() || e.Path != "" }

// String returns the endpoint in the form in which an operator writes it:
// "127.0.0.1:9001", "[::1]:9000-9099", "unix:///run/x.sock", "db.local:5432".
// Instances that agree on it agree on the choices of consistent hashing.
func (e Endpoint) String() string {
	switch {
	case e.Path != "":
		return "unix://" + e.Path
	case e.Addr.IsValid() && e.Ports > 1:
		last := int(e.Addr.Port()) + int(e.Ports) - 1
		return e.Addr.String() + "-" + strconv.Itoa(last)
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
