package ipvsadm

import "net/netip"

// Names looks names up for listings without -n. A nil function, or an empty name, leaves the number.
type Names struct {
	Host func(netip.Addr) string
	Port func(uint16, Protocol) string
}

// maxName is how long ipvsadm lets an address with its port become.
const maxName = 59

// appendAddr appends an address and a port. The port of a firewall mark's destination has no name.
func (n Names) appendAddr(b []byte, a netip.AddrPort, p Protocol) []byte {
	start := len(b)
	host := ""
	if n.Host != nil {
		host = n.Host(a.Addr())
	}
	switch {
	case a.Addr().Is6() && host == "":
		b = append(appendIP(append(b, '['), a.Addr()), ']')
	case a.Addr().Is6():
		b = append(append(append(b, '['), host...), ']')
	case host == "":
		b = a.Addr().AppendTo(b)
	default:
		b = append(b, host...)
	}
	b = append(b, ':')
	service := ""
	if n.Port != nil && p != 0 {
		service = n.Port(a.Port(), p)
	}
	if service == "" {
		b = appendUint(b, uint32(a.Port()))
	} else {
		b = append(b, service...)
	}
	return b[:min(len(b), start+maxName)]
}

// appendService appends the address of a service. Ports of a range have no names.
func (n Names) appendService(b []byte, k Key) []byte {
	if k.Last == 0 {
		return n.appendAddr(b, k.Addr, k.Protocol)
	}
	n.Port = nil
	return appendUint(append(n.appendAddr(b, k.Addr, k.Protocol), '-'), uint32(k.Last))
}

// appendIP appends an address of IPv6 as inet_ntop writes it, which shows IPv4 in ::/96 too.
func appendIP(b []byte, a netip.Addr) []byte {
	all := a.As16()
	if [12]byte(all[:12]) == [12]byte{} && (all[12] != 0 || all[13] != 0) {
		return netip.AddrFrom4([4]byte(all[12:])).AppendTo(append(b, "::"...))
	}
	return a.AppendTo(b)
}
