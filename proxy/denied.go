package proxy

import (
	"net"
	"net/netip"

	"usher/conntrack"
	"usher/proxy/rules"
)

// Denied returns a judge of flows that live: whether the rules, or the lists of clients of their services, would refuse
// them now. Rates and limits have no say. A client that has yet to name itself is not judged, and one on a unix socket is
// never refused.
//
// A row does not have the interface of its client. Rules that ask for it get the one that has the client's destination, or
// the loopback interface if the client is of this machine.
func (s *Server) Denied() func(*Row) bool {
	set := s.Rules()
	var names interfaceOwners
	if set.NeedsInterface() {
		names = newInterfaceOwners()
	}
	return func(r *Row) bool {
		client, settings := r.Client(), r.Service.Settings()
		isGreeting := r.State == conntrack.Greeting
		if !client.IsValid() || isGreeting && settings.AcceptsProxy(client.Addr()) {
			return false
		}
		if !isGreeting && !settings.Allows(client.Addr()) { // which service a greeting client wants is not known
			return true
		}
		p := rules.Packet{Client: client, Local: r.Key.Local(), Protocol: rules.TCP}
		if r.Key.Proto() == conntrack.UDP {
			p.Protocol = rules.UDP
		}
		p.Interface = names.of(client.Addr(), p.Local.Addr())
		return set.Judge(&p).Target != rules.Accept
	}
}

// interfaceOwners are the names of interfaces by the addresses that they have.
type interfaceOwners struct {
	byAddr   map[netip.Addr]string
	loopback string
}

// newInterfaceOwners asks the system; what it does not tell is not known.
func newInterfaceOwners() interfaceOwners {
	o := interfaceOwners{byAddr: make(map[netip.Addr]string)}
	interfaces, err := net.Interfaces()
	if err != nil {
		return o
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback != 0 && o.loopback == "" {
			o.loopback = i.Name
		}
		addrs, _ := i.Addrs() // of one that has gone there are none
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				o.byAddr[p.Addr().Unmap()] = i.Name
			}
		}
	}
	return o
}

// of returns the interface by which a client came to an address; empty: it is not known.
func (o *interfaceOwners) of(client, local netip.Addr) string {
	if local.IsLoopback() {
		return o.loopback
	}
	if _, isOurs := o.byAddr[client]; isOurs {
		return o.loopback
	}
	return o.byAddr[local]
}
