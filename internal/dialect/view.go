package dialect

import (
	"iter"
	"net/netip"
	"slices"

	"usher/balancer"
	"usher/internal/config"
	"usher/internal/control"
	"usher/internal/ipvsadm"
	"usher/internal/reconcile"
)

// keyOf returns the virtual service that a listener is for ipvsadm; is is false of one that it cannot show. A listener on
// all addresses is that of 0.0.0.0.
func keyOf(l config.Addr) (key ipvsadm.Key, is bool) {
	switch l.Network {
	case config.TCP:
		key.Protocol = ipvsadm.TCP
	case config.UDP:
		key.Protocol = ipvsadm.UDP
	default:
		return key, false
	}
	ip := l.IP.WithZone("")
	if l.IsAll() {
		ip = netip.IPv4Unspecified()
	}
	key.Addr = netip.AddrPortFrom(ip, l.Port)
	if l.Ports > 1 {
		key.Last = l.Port + uint16(l.Ports-1)
	}
	return key, ip.IsValid()
}

// IPVS returns what ipvsadm lists: the services of all owners that it can show. One with several listeners has its
// counters at the first.
func (s *Server) IPVS() ipvsadm.View { return s.view(func(ipvsadm.Key) bool { return true }) }

// IPVSService is IPVS of one service, or of none if it is not there.
func (s *Server) IPVSService(key ipvsadm.Key) ipvsadm.View {
	return s.view(func(k ipvsadm.Key) bool { return k == key })
}

func (s *Server) view(has func(ipvsadm.Key) bool) ipvsadm.View {
	now := s.now.Load()
	live := s.control.Live()
	s.figures.look(s.control, live)
	view := ipvsadm.View{Timeouts: now.ipvs.Timeouts, Services: make([]ipvsadm.ServiceView, 0, len(live))}
	own := make(map[string]*control.Live)
	for i := range live {
		if live[i].Owner == control.IPVSAdm {
			own[live[i].Config.Name] = &live[i]
		}
	}
	for _, v := range now.ipvs.Services() {
		if has(v.Key) {
			view.Services = append(view.Services, s.ownView(v, own, now.zeros))
		}
	}
	for i := range live {
		if live[i].Owner == control.IPVSAdm {
			continue
		}
		for _, v := range s.otherViews(&live[i], now.zeros) {
			if has(v.Key()) {
				view.Services = append(view.Services, v)
			}
		}
	}
	return view
}

// IPVSLines returns the lines that ipvsadm -S prints.
func (s *Server) IPVSLines() []string { return slices.Collect(s.now.Load().ipvs.Lines()) }

// ownView is what ipvsadm shows of a service of its own, with the counters of each network that it is a service of.
func (s *Server) ownView(v *ipvsadm.Service, live map[string]*control.Live, z zeros) ipvsadm.ServiceView {
	view := ipvsadm.ServiceView{
		Protocol: v.Protocol, Addr: v.Addr, Last: v.Last, Mark: v.Mark, IPv6: v.IPv6,
		Scheduler: v.Scheduler, Flags: v.Flags, OnePacket: v.OnePacket, Persist: v.Persist, Bits: v.Bits, Engine: v.Engine,
		Destinations: make([]ipvsadm.DestinationView, len(v.Destinations)),
	}
	at := make(map[netip.AddrPort]*ipvsadm.DestinationView, len(v.Destinations))
	for i, d := range v.Destinations {
		view.Destinations[i] = ipvsadm.DestinationView{Addr: d.Addr, Method: d.Method, Weight: d.Weight, Upper: d.Upper, Lower: d.Lower}
		at[d.Addr] = &view.Destinations[i]
	}
	for _, network := range networksOf(&v.Key) {
		l := live[NameOf(&v.Key, network)]
		if l == nil {
			continue
		}
		s.addService(&view, l, z)
		for i := range l.Backends {
			b := &l.Backends[i]
			if d := at[b.Backend.Endpoint().Addr]; d != nil {
				d.Weight = weightOf(b)
				s.addBackend(d, l, b, z)
			}
		}
	}
	return view
}

// otherViews are what ipvsadm shows of a service of another owner.
func (s *Server) otherViews(live *control.Live, z zeros) (all []ipvsadm.ServiceView) {
	c := live.Config
	for _, l := range c.Listeners {
		key, is := keyOf(l)
		if !is {
			continue
		}
		view := ipvsadm.ServiceView{
			Protocol: key.Protocol, Addr: key.Addr, Last: key.Last,
			Scheduler: c.Scheduler.Name, OnePacket: c.UDP.OnePacket, Persist: uint32(c.Persist.Timeout.Seconds()), Bits: bitsOf(&key),
			Flags:        slices.DeleteFunc(slices.Clone(c.Scheduler.Flags), func(f string) bool { return f == balancer.IPVS }),
			Destinations: []ipvsadm.DestinationView{},
		}
		switch bits := c.Persist.Bits4; {
		case isIPv6(&key) && c.Persist.Bits6 > 0:
			view.Bits = c.Persist.Bits6
		case !isIPv6(&key) && bits > 0:
			view.Bits = bits
		}
		isFirst := len(all) == 0
		if isFirst {
			s.addService(&view, live, z)
		}
		for i := range slices.Backward(live.Backends) {
			b := &live.Backends[i]
			if addr := b.Backend.Endpoint().Addr; addr.IsValid() {
				limits := b.Backend.Limits()
				d := ipvsadm.DestinationView{Addr: addr, Weight: weightOf(b), Upper: uint32(limits.Upper), Lower: uint32(limits.Lower)}
				if isFirst {
					s.addBackend(&d, live, b, z)
				}
				view.Destinations = append(view.Destinations, d)
			}
		}
		all = append(all, view)
	}
	return all
}

// weightOf is the weight in force. A backend that takes no new flows has none.
func weightOf(b *reconcile.BackendState) int32 {
	if b.Status == balancer.Draining || b.Status == balancer.InMaint {
		return 0
	}
	return int32(b.Weight)
}

// addService adds the figures of a service since they were zeroed.
func (s *Server) addService(v *ipvsadm.ServiceView, live *control.Live, z zeros) {
	f := s.figures.service(live)
	v.Stats = add(v.Stats, since(f.Stats, z.service(live.Config.Name)))
	v.Rates = addRates(v.Rates, f.Rates)
}

// addBackend adds the figures of a backend since they were zeroed.
func (s *Server) addBackend(d *ipvsadm.DestinationView, live *control.Live, b *reconcile.BackendState, z zeros) {
	f := s.figures.backend(live, b)
	d.Active += f.Active
	d.Inactive += f.Inactive
	d.Persistent += f.Persistent
	d.Stats = add(d.Stats, since(f.Stats, z.backend(live.Config.Name, b.Backend.Endpoint().Addr)))
	d.Rates = addRates(d.Rates, f.Rates)
}

// IPVSConnections yields the connection table.
func (s *Server) IPVSConnections() iter.Seq[ipvsadm.Connection] {
	return s.figures.connections(s)
}
