package nat

import (
	"net/netip"

	"usher/internal/config"
	"usher/internal/iptables"
)

// Env is what a plan depends on beside the tables.
type Env struct {
	// Local are the addresses of this machine beside loopback, from which its own clients come. Those of 127.0.0.0/8 and
	// ::1 need not be there.
	Local []netip.Addr
}

// Result is what the tables come to. Equal tables and an equal Env give an equal Result.
type Result struct {
	// Services are in the order of the tables, complete, and named PROTOCOL:[ADDRESS:]PORT[-PORT][/CLIENTS]. The name is that
	// of the first address that leads to the backends, and a change elsewhere leaves it and the service as they are.
	Services []*config.Service
	Origins  []Origin // of each service, in the same order
	// Guards are rules of the front door that must stand before all others of the owner iptables.
	Guards []Guard
	Marks  map[uint32][]config.Addr // listeners of -f MARK, in the order of the tables
	Rest   []Rest                   // in the order of the tables
}

// Origin says which rules a service is made of.
type Origin struct {
	// Backends are the rules that each new flow to a backend passes, whichever listener it came by.
	Backends [][]*iptables.Rule
}

// Guard is a line of the front door that refuses whom a service must not serve: usher does not bind listeners to
// interfaces, and a listener on all addresses takes each of them.
type Guard struct {
	Services []string // while any of them is there, the line is, too; with the last one it goes
	Line     string   // as ParseRule reads it
}

// Rest is a rule that is not done, or not quite.
type Rest struct {
	Table, Chain string
	Rule         *iptables.Rule
	Reason       string // what is not done and why, and the nearest thing that is possible
	// IsServed says that clients of the rule are served, but for what the reason says.
	IsServed bool
}
