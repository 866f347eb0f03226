package conntrack

import (
	"fmt"
	"net/netip"
)

// Mask says how much of a client's address tells it from others: a prefix length for
// each family. The zero Mask keeps whole addresses, /32 and /128.
type Mask struct{ host4, host6 uint8 } // host bits, which do not count

// NewMask returns the mask of prefix lengths for IPv4 (0 to 32) and IPv6 (0 to 128).
// With length zero all clients of the family are one.
func NewMask(ipv4, ipv6 int) (Mask, error) {
	if ipv4 < 0 || ipv4 > 32 {
		return Mask{}, fmt.Errorf("prefix length %d for ipv4: 0 to 32", ipv4)
	}
	if ipv6 < 0 || ipv6 > 128 {
		return Mask{}, fmt.Errorf("prefix length %d for ipv6: 0 to 128", ipv6)
	}
	return Mask{uint8(32 - ipv4), uint8(128 - ipv6)}, nil
}

// network is a masked address: an IPv6 or IPv4-mapped one, and how many of its 128
// bits count. It has no padding, so it hashes in one piece.
type network struct {
	address
	bits uint64
}

// network masks a valid address. An IPv4-mapped one counts as IPv4; zones are dropped.
func (m Mask) network(a netip.Addr) network {
	host := m.host6
	if a.Is4() || a.Is4In6() {
		host = m.host4
	}
	n := network{packAddress(a), uint64(128 - host)}
	n.lo = n.lo >> host << host // shifts by 64 and more leave zero
	if host > 64 {
		n.hi = n.hi >> (host - 64) << (host - 64)
	}
	return n
}

// prefix reverses network. Only IPv4 keeps the 96 bits of a mapped address.
func (n network) prefix() netip.Prefix {
	a := n.unpack(true, 0).Addr()
	if a.Is4() {
		return netip.PrefixFrom(a, int(n.bits)-96)
	}
	return netip.PrefixFrom(a, int(n.bits))
}
