package conntrack

import (
	"math"
	"net/netip"
	"testing"
)

func TestMask(t *testing.T) {
	t.Parallel()
	for _, bad := range [][2]int{{-1, 64}, {33, 64}, {24, -1}, {24, 129}, {math.MaxInt, 0}} {
		if m, err := NewMask(bad[0], bad[1]); err == nil || m != (Mask{}) {
			t.Errorf("NewMask(%d, %d) is %v, %v, want an error", bad[0], bad[1], m, err)
		}
	}
	// All lengths, against the standard library.
	for _, s := range []string{
		"192.0.2.77", "::ffff:192.0.2.77", "255.255.255.255", "0.0.0.0",
		"2001:db8:1:2:8003:4:5:6", "ffff::1", "fe80::1%eth0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	} {
		a := netip.MustParseAddr(s)
		for bits := range 129 {
			m, err := NewMask(min(bits, 32), bits)
			if got, want := m.network(a).prefix(), plainPrefix(a, min(bits, 32), bits); err != nil || got != want {
				t.Errorf("%s with %d bits is %v, %v, want %v", s, bits, got, err, want)
			}
		}
		if got, want := (Mask{}).network(a).prefix(), plainPrefix(a, 32, 128); got != want {
			t.Errorf("%s with the zero mask is %v, want %v", s, got, want)
		}
	}
}

func plainPrefix(a netip.Addr, bits4, bits6 int) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := bits6
	if a.Is4() {
		bits = bits4
	}
	p, _ := a.Prefix(bits)
	return p
}
