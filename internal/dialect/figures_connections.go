package dialect

import (
	"iter"
	"net/netip"
	"time"

	"usher/balancer"
	"usher/conntrack"
	"usher/internal/ipvsadm"
	"usher/proxy"
	"usher/proxy/flow"
)

// connections yields the connection table as ipvsadm lists it: flows that have a backend, and a template for each client of
// a service that persists. It takes bounded memory.
func (f *figures) connections(s *Server) iter.Seq[ipvsadm.Connection] {
	now := s.now.Load()
	marks := markNames(now.ipvs)
	return func(yield func(ipvsadm.Connection) bool) {
		for r := range s.control.MeasuredRows() {
			if c, is := connectionOf(&r, now.ipvs.Timeouts); is && !yield(c) {
				return
			}
		}
		at := s.control.Now()
		for client := range s.control.Clients() {
			if c, is := templateOf(&client, marks, at); is && !yield(c) {
				return
			}
		}
	}
}

// connectionOf returns the entry of a flow; is is false of one that IPVS has none of.
func connectionOf(r *proxy.Row, t ipvsadm.Timeouts) (c ipvsadm.Connection, is bool) {
	protocol, has := protocolOf(r.Key.Proto())
	if !has || r.Backend == nil || !r.Client().IsValid() || r.Service.Config().UDP.OnePacket {
		return c, false
	}
	c = ipvsadm.Connection{
		Protocol: protocol, State: stateOf(r), Client: r.Client(), Virtual: r.Key.Local(), Destination: r.Target,
		Expires: secondsLeft(r.Left),
	}
	if !c.Destination.IsValid() {
		c.Destination = r.Backend.Endpoint().Addr
	}
	if r.Left < 0 { // it never ends by itself: as an entry that a packet has just renewed
		c.Expires = t.TCP
	}
	return c, c.Destination.IsValid()
}

func protocolOf(p conntrack.Proto) (ipvsadm.Protocol, bool) {
	switch p {
	case conntrack.TCP:
		return ipvsadm.TCP, true
	case conntrack.UDP:
		return ipvsadm.UDP, true
	}
	return 0, false
}

// stateOf is the state that IPVS would give a flow: a FIN of the client is CLOSE_WAIT, one of the backend FIN_WAIT, and a
// reset CLOSE. What is accepted and has no answer of its backend yet is SYN_RECV.
func stateOf(r *proxy.Row) string {
	switch r.State {
	case conntrack.Unreplied, conntrack.Assured:
		return "UDP"
	case conntrack.Established:
		return "ESTABLISHED"
	case conntrack.Closing:
		return "CLOSE"
	case conntrack.HalfClosed:
		if r.Closed[flow.Backend] && !r.Closed[flow.Client] {
			return "FIN_WAIT"
		}
		return "CLOSE_WAIT"
	}
	return "SYN_RECV"
}

// markNames returns the services of firewall marks by their names.
func markNames(s *ipvsadm.State) map[string]ipvsadm.Key {
	names := make(map[string]ipvsadm.Key)
	for _, v := range s.Services() {
		if v.Mark == 0 {
			continue
		}
		for _, network := range networksOf(&v.Key) {
			names[NameOf(&v.Key, network)] = v.Key
		}
	}
	return names
}

// templateOf returns the template of a client; is is false of a service that ipvsadm cannot show. Usher makes one when a
// connection is made, so that it is assured from the start.
func templateOf(client *proxy.Client, marks map[string]ipvsadm.Key, now time.Duration) (c ipvsadm.Connection, is bool) {
	c = ipvsadm.Connection{
		State: "ASSURED", Expires: secondsLeft(client.Expires - now),
		Client: netip.AddrPortFrom(client.Client.Addr(), 0), Destination: templateDestination(client.Backend),
	}
	if key, isMark := marks[client.Service.Name]; isMark {
		c.Virtual = netip.AddrPortFrom(markAddr(key), 0)
		c.Destination = netip.AddrPortFrom(c.Destination.Addr(), 0)
		return c, true
	}
	config := client.Service.Config()
	for _, l := range config.Listeners {
		if l.Network == "unix" {
			continue
		}
		c.Protocol = ipvsadm.TCP
		if config.IsUDP() {
			c.Protocol = ipvsadm.UDP
		}
		if c.Virtual = l.Addr; l.Ports > 1 {
			c.Virtual = netip.AddrPortFrom(l.Addr.Addr(), 0)
		}
		if l.BothFamilies() {
			c.Virtual = netip.AddrPortFrom(netip.IPv4Unspecified(), c.Virtual.Port())
		}
		return c, c.Destination.IsValid()
	}
	return c, false
}

// templateDestination is the address of a backend, with port 0 if it has many.
func templateDestination(b *balancer.Backend) netip.AddrPort {
	e := b.Endpoint()
	if e.Ports > 1 {
		return netip.AddrPortFrom(e.Addr.Addr(), 0)
	}
	return e.Addr
}

// markAddr is the virtual address that a template of a firewall mark has: the mark in the last four bytes.
func markAddr(k ipvsadm.Key) netip.Addr {
	m := [4]byte{byte(k.Mark >> 24), byte(k.Mark >> 16), byte(k.Mark >> 8), byte(k.Mark)}
	if !k.IPv6 {
		return netip.AddrFrom4(m)
	}
	var all [16]byte
	copy(all[12:], m[:])
	return netip.AddrFrom16(all)
}

// secondsLeft rounds up: what has not ended yet has time left.
func secondsLeft(d time.Duration) uint32 {
	return uint32((max(d, 0) + time.Second - 1) / time.Second)
}
