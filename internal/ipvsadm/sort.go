package ipvsadm

import (
	"encoding/binary"
	"net/netip"
)

// sortKey is what listings sort by. ipvsadm compares numbers by the sign of their difference in 32 bits: 192.168.0.1
// comes before 1.2.3.4, and addresses that lie far apart compare in a circle.
type sortKey struct {
	mark     uint32
	family   uint32
	protocol uint32
	words    [4]uint32 // of the address; IPv4 has one
	port     uint32
}

func (k Key) sortKey() sortKey {
	s := addrSortKey(k.Addr)
	s.mark, s.protocol, s.family = k.Mark, uint32(k.Protocol), 2
	if k.isIPv6() {
		s.family = 10
	}
	return s
}

// addrSortKey is that of a destination, whose family does not count.
func addrSortKey(a netip.AddrPort) (s sortKey) {
	switch ip := a.Addr(); {
	case ip.Is4():
		b := ip.As4()
		s.words[0] = binary.BigEndian.Uint32(b[:])
	case ip.Is6():
		b := ip.As16()
		for i := range s.words {
			s.words[i] = binary.BigEndian.Uint32(b[4*i:])
		}
	}
	s.port = uint32(a.Port())
	return s
}

// isAfter reports whether k comes after o.
func (k *sortKey) isAfter(o *sortKey) bool {
	for _, pair := range [...][2]uint32{
		{k.mark, o.mark}, {k.family, o.family}, {k.protocol, o.protocol}, {k.words[0], o.words[0]},
		{k.words[1], o.words[1]}, {k.words[2], o.words[2]}, {k.words[3], o.words[3]}, {k.port, o.port},
	} {
		if pair[0] != pair[1] {
			return int32(pair[0]-pair[1]) > 0
		}
	}
	return false
}

// sorted returns the indices of keys in order. It merges the way qsort of the GNU C library does, up to 2.36: where keys
// compare in a circle, another way gives another order.
func sorted(keys []sortKey) []int {
	order := make([]int, len(keys))
	for i := range order {
		order[i] = i
	}
	mergeSort(keys, order, make([]int, len(keys)))
	return order
}

func mergeSort(keys []sortKey, order, room []int) {
	if len(order) < 2 {
		return
	}
	half := len(order) / 2
	mergeSort(keys, order[:half], room)
	mergeSort(keys, order[half:], room)
	left, right, merged := order[:half], order[half:], room[:0]
	for len(left) > 0 && len(right) > 0 {
		if keys[left[0]].isAfter(&keys[right[0]]) {
			merged, right = append(merged, right[0]), right[1:]
		} else {
			merged, left = append(merged, left[0]), left[1:]
		}
	}
	merged = append(merged, left...) // what is left of right is in its place
	copy(order, merged)
}
