package conntrack

import (
	"math"
	"net/netip"
	"testing"
)

func TestMask(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		ipv4, ipv6 int
		addr, want string
	}{
		{32, 128, "192.0.2.77", "192.0.2.77/32"},
		{24, 64, "192.0.2.77", "192.0.2.0/24"},
		{24, 64, "::ffff:192.0.2.77", "192.0.2.0/24"}, // mapped is IPv4
		{31, 64, "192.0.2.77", "192.0.2.76/31"},
		{1, 64, "192.0.2.77", "128.0.0.0/1"},
		{0, 64, "192.0.2.77", "0.0.0.0/0"},
		{24, 128, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6/128"},
		{24, 65, "2001:db8:1:2:8003:4:5:6", "2001:db8:1:2:8000::/65"},
		{24, 64, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"},
		{24, 63, "2001:db8:1:3:3:4:5:6", "2001:db8:1:2::/63"},
		{24, 48, "2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"},
		{24, 1, "ffff::1", "8000::/1"},
		{24, 0, "2001:db8::1", "::/0"},
		{24, 64, "fe80::1%eth0", "fe80::/64"},
		{0, 0, "::", "::/0"},
	} {
		m, err := NewMask(tc.ipv4, tc.ipv6)
		if err != nil {
			t.Errorf("NewMask(%d, %d): %v", tc.ipv4, tc.ipv6, err)
		}
		if got := m.Prefix(netip.MustParseAddr(tc.addr)); got != netip.MustParsePrefix(tc.want) {
			t.Errorf("%v of %s is %v, want %s", m, tc.addr, got, tc.want)
		}
		if ipv4, ipv6 := m.Bits(); ipv4 != tc.ipv4 || ipv6 != tc.ipv6 {
			t.Errorf("NewMask(%d, %d) has lengths %d and %d", tc.ipv4, tc.ipv6, ipv4, ipv6)
		}
	}
	var whole Mask
	if whole.String() != "/32,/128" || whole.Prefix(netip.Addr{}) != (netip.Prefix{}) {
		t.Errorf("the zero mask is %v, of an invalid address %v", whole, whole.Prefix(netip.Addr{}))
	}
	for _, bad := range [][2]int{{-1, 64}, {33, 64}, {24, -1}, {24, 129}, {math.MaxInt, 0}} {
		if m, err := NewMask(bad[0], bad[1]); err == nil || m != whole {
			t.Errorf("NewMask(%d, %d) is %v, %v, want an error", bad[0], bad[1], m, err)
		}
	}
}

// FuzzMask compares masks with those of the standard library.
func FuzzMask(f *testing.F) {
	f.Add(uint8(24), uint8(64), []byte{192, 0, 2, 1})
	f.Add(uint8(0), uint8(65), []byte{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 1})
	f.Add(uint8(8), uint8(100), []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1})
	f.Fuzz(func(t *testing.T, ipv4, ipv6 uint8, raw []byte) {
		a, _ := netip.AddrFromSlice(raw)
		bits4, bits6 := int(ipv4)%33, int(ipv6)%129
		m, err := NewMask(bits4, bits6)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := m.Prefix(a), plainPrefix(a, bits4, bits6); got != want {
			t.Errorf("%v of %v is %v, want %v", m, a, got, want)
		}
	})
}

func plainPrefix(a netip.Addr, bits4, bits6 int) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := bits6
	if a.Is4() {
		bits = bits4
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
