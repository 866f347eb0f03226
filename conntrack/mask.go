package conntrack

import (
	"fmt"
	"net/netip"
)

// Mask says how much of a client's address tells it from others, as a prefix
// length for each family. The zero Mask takes whole addresses, /32 and /128.
type Mask struct{ cut4, cut6 uint8 } // bits at the end that do not count

// NewMask returns the mask of a prefix length for IPv4, 0 to 32, and one for
// IPv6, 0 to 128. A length of zero makes all clients of the family one.
func NewMask(ipv4, ipv6 int) (Mask, error) {
	if ipv4 < 0 || ipv4 > 32 {
		return Mask{}, fmt.Errorf("prefix length %d for ipv4: 0 to 32", ipv4)
	}
	if ipv6 < 0 || ipv6 > 128 {
		return Mask{}, fmt.Errorf("prefix length %d for ipv6: 0 to 128", ipv6)
	}
	return Mask{uint8(32 - ipv4), uint8(128 - ipv6)}, nil
}

// Bits returns the prefix lengths for IPv4 and IPv6.
func (m Mask) Bits() (ipv4, ipv6 int) { return 32 - int(m.cut4), 128 - int(m.cut6) }

// String returns both lengths, such as "/24,/64".
func (m Mask) String() string {
	ipv4, ipv6 := m.Bits()
	return fmt.Sprintf("/%d,/%d", ipv4, ipv6)
}

// Prefix returns what the mask leaves of an address. An IPv4-mapped address counts
// as IPv4, zones are left out. That of an invalid address is invalid.
func (m Mask) Prefix(a netip.Addr) netip.Prefix {
	if !a.IsValid() {
		return netip.Prefix{}
	}
	return m.network(a).prefix()
}

// network is a masked address: an IPv6 or IPv4-mapped one, and how many of its
// 128 bits count. It has no padding, so that it is hashed in one piece.
type network struct {
	address
	bits uint64
}

func (m Mask) network(a netip.Addr) network {
	cut := m.cut6
	if a.Is4() || a.Is4In6() {
		cut = m.cut4
	}
	n := network{packAddress(a), uint64(128 - cut)}
	// Shifts by 64 and more leave nothing.
	n.lo = n.lo >> cut << cut
	if cut > 64 {
		n.hi = n.hi >> (cut - 64) << (cut - 64)
	}
	return n
}

// prefix undoes network. Only IPv4 keeps the 96 bits that mark a mapped address.
func (n network) prefix() netip.Prefix {
	a := n.unpack(true, 0).Addr()
	if a.Is4() {
		return netip.PrefixFrom(a, int(n.bits)-96)
	}
	return netip.PrefixFrom(a, int(n.bits))
}
