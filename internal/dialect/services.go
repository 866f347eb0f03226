package dialect

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"usher/balancer"
	"usher/internal/config"
	"usher/internal/ipvsadm"
)

// Marks are the listeners that firewall marks stand for: rules of the table mangle name them.
type Marks map[uint32][]config.Addr

// servicePlan makes services of a state of ipvsadm. It remembers what it has made: one whose pointer is the same costs
// control nothing.
type servicePlan struct {
	made     map[*ipvsadm.Service][]*config.Service
	timeouts ipvsadm.Timeouts
}

// of returns the services of a state, in its order. A firewall mark is a service of each network that it has listeners
// of, and of none without any.
func (p *servicePlan) of(state *ipvsadm.State, marks Marks) []*config.Service {
	made := make(map[*ipvsadm.Service][]*config.Service, len(state.Services()))
	all := make([]*config.Service, 0, len(state.Services()))
	for _, s := range state.Services() {
		services, has := p.made[s]
		if !has || s.Mark != 0 || p.timeouts != state.Timeouts {
			services = ServicesOf(s, state.Timeouts, marks)
		}
		made[s] = services
		all = append(all, services...)
	}
	p.made, p.timeouts = made, state.Timeouts
	return all
}

// ServicesOf makes the services that a virtual service is.
func ServicesOf(s *ipvsadm.Service, t ipvsadm.Timeouts, marks Marks) (all []*config.Service) {
	for _, network := range networksOf(&s.Key) {
		if listeners := listenersOf(&s.Key, network, marks); len(listeners) > 0 {
			all = append(all, serviceOf(s, t, network, listeners))
		}
	}
	return all
}

// networksOf returns those that a virtual service can have.
func networksOf(k *ipvsadm.Key) []string {
	switch {
	case k.Mark != 0:
		return []string{config.TCP, config.UDP}
	case k.Protocol == ipvsadm.UDP:
		return []string{config.UDP}
	}
	return []string{config.TCP}
}

// listenersOf returns the listeners of a virtual service that are of one network.
func listenersOf(k *ipvsadm.Key, network string, marks Marks) []config.Addr {
	if k.Mark == 0 {
		return []config.Addr{{Network: network, IP: k.Addr.Addr(), Port: k.Addr.Port(), Ports: portsOf(k)}}
	}
	var all []config.Addr
	for _, a := range marks[k.Mark] {
		if a.Network == network && (!a.IP.IsValid() || a.IP.Is6() == k.IPv6) {
			all = append(all, a)
		}
	}
	return all
}

// portsOf returns how many ports a virtual service has.
func portsOf(k *ipvsadm.Key) int { return max(int(k.Last)-int(k.Addr.Port())+1, 1) }

// serviceOf makes a service. It schedules as the kernel does, and a server without limits is one that is not checked:
// IPVS has no health checks. While there is no server the listener is closed, so that clients are refused at once.
func serviceOf(s *ipvsadm.Service, t ipvsadm.Timeouts, network string, listeners []config.Addr) *config.Service {
	c := config.NewService(NameOf(&s.Key, network), network)
	c.Listeners = listeners
	c.Scheduler = config.Scheduler{Name: s.Scheduler, Flags: append([]string{balancer.IPVS}, s.Flags...)}
	c.Health = config.Health{Kind: "off"}
	c.OnEmpty = config.EmptyClose
	if s.Persist > 0 {
		c.Persist = persistOf(s)
	}
	if network == config.UDP {
		c.UDP.OnePacket = s.OnePacket
		c.UDP.IdleTimeout = seconds(t.UDP)
		c.UDP.UnrepliedTimeout = c.UDP.IdleTimeout
	} else {
		c.IdleTimeout, c.HalfCloseTimeout = seconds(t.TCP), seconds(t.TCPFin)
	}
	c.Backends = make([]config.Backend, 0, len(s.Destinations))
	for _, d := range slices.Backward(s.Destinations) { // the oldest first: package balancer takes the last one for the newest
		c.Backends = append(c.Backends, backendOf(&d, network))
	}
	return c
}

func persistOf(s *ipvsadm.Service) config.Persist {
	p := config.Persist{Timeout: seconds(s.Persist)}
	isAll := s.Bits == 0 || s.Bits == bitsOf(&s.Key)
	switch {
	case isAll:
	case isIPv6(&s.Key):
		p.Bits4, p.Bits6 = 32, s.Bits
	default:
		p.Bits4 = s.Bits
	}
	return p
}

// isIPv6 reports whether clients of a virtual service have IPv6 addresses.
func isIPv6(k *ipvsadm.Key) bool { return k.IPv6 || k.Addr.Addr().Is6() }

// bitsOf returns how many bits the addresses of a virtual service's clients have.
func bitsOf(k *ipvsadm.Key) int {
	if isIPv6(k) {
		return 128
	}
	return 32
}

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }

// backendOf makes a backend. A server without a port gets the port that the client has asked for.
func backendOf(d *ipvsadm.Destination, network string) config.Backend {
	b := config.Backend{
		Addr:   config.Addr{Network: network, IP: d.Addr.Addr(), Port: d.Addr.Port(), Ports: 1},
		Weight: int(d.Weight),
		Limits: balancer.Limits{Upper: int(d.Upper), Lower: int(d.Lower)},
	}
	if d.Addr.Port() == 0 {
		b.Addr.Ports = 0
	}
	if d.Upper == 0 {
		b.Limits.Lower = 0 // it has no effect
	}
	return b
}

// NameOf returns the name of the service that a virtual service is in a network, such as tcp:10.0.0.1:80 or fwm:7:udp.
func NameOf(k *ipvsadm.Key, network string) string {
	switch {
	case k.Mark != 0 && k.IPv6:
		return fmt.Sprintf("fwm6:%d:%s", k.Mark, network)
	case k.Mark != 0:
		return fmt.Sprintf("fwm:%d:%s", k.Mark, network)
	}
	name := fmt.Sprintf("%s:%s:%d", network, nameOfAddr(k.Addr.Addr()), k.Addr.Port())
	if k.Last != 0 {
		name += fmt.Sprintf("-%d", k.Last)
	}
	return name
}

// nameOfAddr writes an address without an empty word between two colons, which no name of a service has.
func nameOfAddr(ip netip.Addr) string {
	if !ip.Is6() {
		return ip.String()
	}
	bytes := ip.As16()
	var words [8]string
	for i := range words {
		words[i] = fmt.Sprintf("%x", uint16(bytes[2*i])<<8|uint16(bytes[2*i+1]))
	}
	return strings.Join(words[:], ":")
}
