package ipvsadm

import (
	"net/netip"
	"slices"
)

// hasScheduler reports whether the kernel has the scheduler. A service of none refuses all connections.
func hasScheduler(name string) bool {
	all := []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos", "none"}
	return slices.Contains(all, name)
}

func (k Key) isIPv6() bool { return k.IPv6 || k.Addr.Addr().Is6() }

// addressBits is how many bits an address of the family has.
func (k Key) addressBits() int {
	if k.isIPv6() {
		return 128
	}
	return 32
}

// check refuses what the kernel refuses in a service, in its order. Port 0 without persistence, and one-packet
// scheduling of TCP, are refused by ipvsadm alone.
func (v *Service) check() error {
	switch {
	case !hasScheduler(v.Scheduler):
		return ENOENT
	case v.Engine != "" && v.Engine != "sip":
		return ENOENT
	case v.isIPv6() && v.Persist != 0 && (v.Bits < 1 || v.Bits > 128):
		return EINVAL
	}
	return nil
}

// normal returns v as a State keeps it: without destinations, and with a mask only where it matters.
func (v Service) normal() Service {
	v.Destinations = nil
	v.Flags = slices.Clone(v.Flags)
	if v.Persist == 0 {
		v.Bits = v.addressBits()
	}
	return v
}

// check refuses what the kernel refuses in a destination of a service, in its order.
func (d *Destination) check(of Key) error {
	switch {
	case d.Addr.Addr().Is6() != of.isIPv6() && d.Method != Tunnel:
		return EINVAL
	case d.Weight < 0:
		return ERANGE
	case d.Lower > d.Upper:
		return ERANGE
	case d.TunnelType == GUE && d.TunnelPort == 0:
		return EINVAL
	}
	return nil
}

// isUnicast reports whether the kernel takes the address for a destination. It would also refuse the broadcast address
// of a network that it is on, and take a link-local address of its own.
func isUnicast(a netip.Addr) bool {
	if a.Is4() {
		first := a.As4()[0]
		return first != 0 && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
	}
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLinkLocalUnicast() && !a.Is4In6()
}
