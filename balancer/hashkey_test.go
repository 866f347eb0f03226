package balancer

import (
	"net/netip"
	"testing"
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
		if got, want := tt.key.hash(&f), plainHash(netip.MustParseAddr(tt.want), tt.port); got != want {
			t.Errorf("%s: hash of %+v is not that of %s, port %d", tt.name, f, tt.want, tt.port)
		}
	}
}

// TestHashKeyOfSchedulers takes all that a key can be through the options.
func TestHashKeyOfSchedulers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		o            Options
		byPort, by24 bool // clients that differ in this only go to different backends
	}{
		{Options{}, false, true},
		{Options{HashKey: HashKey{Of: ClientAddrPort}}, true, true},
		{Options{HashKey: HashKey{Prefix4: 24}}, false, false},
		{Options{HashKey: HashKey{Of: ClientAddrPort, Prefix4: 24}}, true, false},
		{Options{HashKey: HashKey{Of: LocalAddr}}, false, false},
	} {
		for _, scheduler := range []string{"mh", "sh", "ring", "hrw"} {
			tt.o.Scheduler, tt.o.Initial = scheduler, Up
			p, err := NewPool(tt.o)
			if err != nil {
				t.Fatal(err)
			}
			p.Update(specs(50))
			ports, hosts := map[*Backend]bool{}, map[*Backend]bool{}
			for i := range 20 {
				ports[acquire(p, Flow{Client: netip.AddrPortFrom(ipv4(1<<24), uint16(i))}, nil)] = true
				hosts[acquire(p, Flow{Client: netip.AddrPortFrom(ipv4(1<<24|uint32(i)), 1)}, nil)] = true
			}
			if len(ports) > 1 != tt.byPort || len(hosts) > 1 != tt.by24 {
				t.Errorf("%s, key %+v: %d backends by port, %d by host", scheduler, tt.o.HashKey, len(ports), len(hosts))
			}
		}
	}
	for flag, scheduler := range map[string]string{"sh-port": "sh", "mh-port": "mh"} {
		p, err := NewPool(Options{Scheduler: scheduler, Flags: []string{flag}, Initial: Up})
		if err != nil {
			t.Fatal(err)
		}
		q := newPool(t, scheduler, specs(50))
		p.Update(specs(50))
		s := p.scheduler.(*hashing)
		if s.key != (HashKey{Of: ClientAddrPort}) || q.scheduler.(*hashing).key != (HashKey{}) {
			t.Errorf("%s makes the key %+v", flag, s.key)
		}
	}
}
