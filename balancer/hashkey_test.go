package balancer

import (
	"net/netip"
	"testing"

	"github.com/cespare/xxhash/v2"
)

func TestHashKey(t *testing.T) {
	t.Parallel()
	const none = -1
	for _, tt := range []struct {
		name          string
		key           HashKey
		client, local string
		want          string // the address that is hashed
		port          int
	}{
		{"address", HashKey{}, "192.0.2.77:5", "10.0.0.1:80", "::ffff:192.0.2.77", none},
		{"mapped", HashKey{}, "[::ffff:192.0.2.77]:5", "10.0.0.1:80", "::ffff:192.0.2.77", none},
		{"zone", HashKey{}, "[fe80::1%eth0]:5", "[fe80::2%eth0]:80", "fe80::1", none},
		{"port", HashKey{Of: ClientAddrPort}, "192.0.2.77:513", "10.0.0.1:80", "::ffff:192.0.2.77", 513},
		{"local", HashKey{Of: LocalAddr}, "192.0.2.77:5", "10.0.0.1:80", "::ffff:10.0.0.1", none},
		{"local port", HashKey{Of: LocalAddrPort}, "192.0.2.77:5", "10.0.0.1:80", "::ffff:10.0.0.1", 80},
		{"/24", HashKey{Prefix4: 24}, "192.0.2.77:5", "", "::ffff:192.0.2.0", none},
		{"/24 of mapped", HashKey{Prefix4: 24}, "[::ffff:192.0.2.77]:5", "", "::ffff:192.0.2.0", none},
		{"/23", HashKey{Prefix4: 23}, "192.0.3.77:5", "", "::ffff:192.0.2.0", none},
		{"/1", HashKey{Prefix4: 1}, "192.0.3.77:5", "", "::ffff:128.0.0.0", none},
		{"/32", HashKey{Prefix4: 32}, "192.0.3.77:5", "", "::ffff:192.0.3.77", none},
		{"/24 is not for IPv6", HashKey{Prefix4: 24}, "[2001:db8:1:2:3:4:5:6]:5", "", "2001:db8:1:2:3:4:5:6", none},
		{"/64", HashKey{Prefix6: 64}, "[2001:db8:1:2:3:4:5:6]:5", "", "2001:db8:1:2::", none},
		{"/60", HashKey{Prefix6: 60}, "[2001:db8:1:23:3:4:5:6]:5", "", "2001:db8:1:20::", none},
		{"/128", HashKey{Prefix6: 128}, "[2001:db8::1]:5", "", "2001:db8::1", none},
		{"/64 is not for IPv4", HashKey{Prefix6: 64}, "192.0.2.77:5", "", "::ffff:192.0.2.77", none},
		{"/64 is not for mapped", HashKey{Prefix6: 64}, "[::ffff:192.0.2.77]:5", "", "::ffff:192.0.2.77", none},
		{"/64 and port", HashKey{Of: ClientAddrPort, Prefix6: 64}, "[2001:db8::7]:5", "", "2001:db8::", 5},
		{"/24 of local", HashKey{Of: LocalAddr, Prefix4: 24}, "192.0.2.77:5", "10.0.0.9:80", "::ffff:10.0.0.0", none},
		{"no address", HashKey{}, "", "", "::", none},
		{"no address with a prefix", HashKey{Prefix4: 24, Prefix6: 64}, "", "", "::", none},
	} {
		var f Flow
		if tt.client != "" {
			f.Client = netip.MustParseAddrPort(tt.client)
		}
		if tt.local != "" {
			f.Local = netip.MustParseAddrPort(tt.local)
		}
		if got, want := tt.key.hash(&f), hashOf(netip.MustParseAddr(tt.want), tt.port); got != want {
			t.Errorf("%s: hash of %+v is not that of %s, port %d", tt.name, f, tt.want, tt.port)
		}
	}
}

// hashOf hashes an address, and a port that is not negative, by the definition.
func hashOf(a netip.Addr, port int) uint64 {
	bytes := a.As16()
	if port < 0 {
		return xxhash.Sum64(bytes[:])
	}
	return xxhash.Sum64(append(bytes[:], byte(port>>8), byte(port)))
}

// TestHashKeyOfPool: the key of a pool is that of its options; flags are short for one.
func TestHashKeyOfPool(t *testing.T) {
	t.Parallel()
	key := HashKey{Of: LocalAddrPort, Prefix4: 24}
	for _, tt := range []struct {
		o    Options
		want HashKey
	}{
		{Options{Scheduler: "mh"}, HashKey{}},
		{Options{Scheduler: "mh", Flags: []string{"mh-port"}}, HashKey{Of: ClientAddrPort}},
		{Options{Scheduler: "sh", Flags: []string{"sh-port"}}, HashKey{Of: ClientAddrPort}},
		{Options{Scheduler: "ring", HashKey: key}, key},
		{Options{Scheduler: "hrw", HashKey: key}, key},
		{Options{Scheduler: "dh"}, HashKey{Of: LocalAddr}},
	} {
		p := poolOf(t, tt.o, nil)
		if got := schedulerOf(p).(*hashing).key; got != tt.want || p.UsesDestination() != (got.Of >= LocalAddr) {
			t.Errorf("%s: key %+v, uses the destination: %v", formOf(tt.o), got, p.UsesDestination())
		}
	}
}
