package ipvsadm

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// sortKey is what listings sort by: mark, family, protocol, four words of the address (IPv4 has one), port.
type sortKey [8]uint32

func (k Key) sortKey() sortKey {
	s := addrSortKey(k.Addr)
	s[0], s[1], s[2] = k.Mark, 2, uint32(k.Protocol)
	if k.isIPv6() {
		s[1] = 10
	}
	return s
}

// addrSortKey is that of a destination, whose family does not count.
func addrSortKey(a netip.AddrPort) (s sortKey) {
	switch ip := a.Addr(); {
	case ip.Is4():
		b := ip.As4()
		s[3] = binary.BigEndian.Uint32(b[:])
	case ip.Is6():
		b := ip.As16()
		for i := range 4 {
			s[3+i] = binary.BigEndian.Uint32(b[4*i:])
		}
	}
	s[7] = uint32(a.Port())
	return s
}

// isAfter reports whether k comes after o. ipvsadm goes by the sign of differences in 32 bits: 192.168.0.1 comes before
// 1.2.3.4, and addresses far apart compare in a circle.
func (k *sortKey) isAfter(o *sortKey) bool {
	for i := range k {
		if k[i] != o[i] {
			return int32(k[i]-o[i]) > 0
		}
	}
	return false
}

// sorted returns the indices of keys in the order of a listing. It merges the way qsort of the GNU C library does, up to
// 2.36: where keys compare in a circle, another way gives another order.
func sorted(keys []sortKey) []int {
	order := indices(len(keys))
	mergeSort(keys, order, make([]int, len(keys)))
	return order
}

// sortedForSave returns the indices of keys in an order that does not depend on theirs, circles or not.
func sortedForSave(keys []sortKey) []int {
	order := indices(len(keys))
	slices.SortFunc(order, func(i, j int) int { return slices.Compare(keys[i][:], keys[j][:]) })
	mergeSort(keys, order, make([]int, len(keys)))
	return order
}

func indices(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
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
