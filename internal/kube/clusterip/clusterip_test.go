package clusterip

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"usher/internal/kube/planner"
	"usher/internal/reach"
)

// TestListen: where ClusterIPs are listened on that come in this order, where the host routes 10.43.0.0/16 to itself.
func TestListen(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		mode      Mode
		ips, want string
	}{
		{Auto, "10.43.0.10 10.96.0.10 10.43.0.1", "10.43.0.10 127.96.0.10 10.43.0.1"},
		{Auto, "10.43.0.10 192.43.0.10", "10.43.0.10 127.43.0.10"},
		{Bind, "10.96.0.10 10.43.0.10 fd00::1", "10.96.0.10 10.43.0.10 fd00::1"},
		{Loopback, "10.43.0.10 12.0.7.1 172.16.255.9", "127.43.0.10 127.12.7.1 127.16.255.9"},
		{Loopback, "10.96.0.10 192.96.0.10 172.96.0.10", "127.96.0.10 127.97.0.10 127.98.0.10"},
		{Loopback, "10.255.0.10 192.255.0.10", "127.255.0.10 127.1.0.10"},
		{Loopback, "10.255.255.255", "127.1.255.255"},
		{Loopback, "10.10.3.4", "127.11.3.4"}, // 127.10.0.0/16 is reserved
		{Loopback, "127.5.5.5 10.5.5.5", "127.5.5.5 127.6.5.5"},
		{Loopback, "0.0.0.0", "127.1.0.0"},
	} {
		m := New(test.mode, probeOf("10.43.0.0/16"), netip.MustParsePrefix("127.10.0.0/16"))
		var got []string
		for i, text := range strings.Fields(test.ips) {
			ip := netip.MustParseAddr(text)
			m.Set(keyOf(i), []netip.Addr{ip})
			got = append(got, m.Listen(ip).String())
			if back := m.taken[m.Listen(ip)]; back != ip {
				t.Errorf("%s is listened on at %s, whose ClusterIP is %s", ip, m.Listen(ip), back)
			}
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s: %s are at %v, not at %s", test.mode, test.ips, got, test.want)
		}
	}
}

// TestMapStable: whatever Services come and go, no two ClusterIPs are at one address, each stays where it is, nothing is
// left of those that are gone, and without collisions the place depends on the address alone.
func TestMapStable(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		m, has := New(Auto, probeOf("10.1.0.0/16")), make(map[planner.Key][]netip.Addr)
		for range 400 {
			key := keyOf(random.IntN(60))
			before := make(map[netip.Addr]netip.Addr)
			for ip, p := range m.places {
				before[ip] = p.listen
			}
			has[key] = nil
			for range random.IntN(3) {
				has[key] = append(has[key], randomAddr(random))
			}
			m.Set(key, has[key])
			listens := make(map[netip.Addr]netip.Addr)
			for _, ips := range has {
				for _, ip := range ips {
					at := m.Listen(ip)
					if was, is := before[ip]; is && was != at {
						t.Fatalf("%s moves from %s to %s", ip, was, at)
					}
					if other, is := listens[at]; is && other != ip {
						t.Fatalf("%s and %s are both at %s", ip, other, at)
					}
					if listens[at] = ip; m.taken[at] != ip || at != ip && (!at.IsLoopback() || at.As4()[1] == 0) {
						t.Fatalf("%s is at %s, which is that of %s", ip, at, m.taken[at])
					}
				}
			}
			if len(m.places) != len(listens) || len(m.taken) != len(listens) {
				t.Fatalf("%d places and %d taken for %d ClusterIPs", len(m.places), len(m.taken), len(listens))
			}
		}
	}
}

// TestRefresh: a route that comes moves the ClusterIPs that it covers, and no others; its end moves them back.
func TestRefresh(t *testing.T) {
	t.Parallel()
	local := "10.43.0.0/16"
	m := New(Auto, func(ip netip.Addr) reach.Reach { return probeOf(local)(ip) })
	if m.Refresh() {
		t.Error("an empty map changes")
	}
	words := strings.Fields("10.96.0.1 10.43.0.1 11.96.0.1 fd00::1")
	for i, word := range words {
		m.Set(keyOf(i), []netip.Addr{netip.MustParseAddr(word)})
	}
	v6 := m.Listen(netip.MustParseAddr("fd00::1")).String()
	for _, step := range []struct {
		local, want string
		isChange    bool
	}{
		{"10.43.0.0/16", "127.96.0.1 10.43.0.1 127.97.0.1 " + v6, false},
		{"10.0.0.0/8", "10.96.0.1 10.43.0.1 127.97.0.1 " + v6, true},
		{"10.0.0.0/8", "10.96.0.1 10.43.0.1 127.97.0.1 " + v6, false},
		{"192.0.2.0/24", "127.96.0.1 127.43.0.1 127.97.0.1 " + v6, true},
	} {
		local = step.local
		if m.Refresh() != step.isChange {
			t.Errorf("%s: Refresh reports a change: %v", local, !step.isChange)
		}
		var got []string
		for _, word := range words {
			got = append(got, m.Listen(netip.MustParseAddr(word)).String())
		}
		if strings.Join(got, " ") != step.want || len(m.taken) != len(words) {
			t.Errorf("%s: %v, not %s", local, got, step.want)
		}
	}
}

// TestMapFull: a full range makes the places of another one that it collides with no slower to find.
func TestMapFull(t *testing.T) {
	t.Parallel()
	m := New(Loopback, nil)
	for i := range 1 << 12 {
		for _, first := range []byte{10, 11, 12} {
			ip := netip.AddrFrom4([4]byte{first, 96, byte(i >> 8), byte(i)})
			m.Set(planner.Key{Name: ip.String()}, []netip.Addr{ip})
			if want := netip.AddrFrom4([4]byte{127, 96 + first - 10, byte(i >> 8), byte(i)}); m.Listen(ip) != want {
				t.Fatalf("%s is at %s, not at %s", ip, m.Listen(ip), want)
			}
		}
	}
}

// TestMapNothingFree: a ClusterIP that no place is found for is listened on as it is, which is refused and told.
func TestMapNothingFree(t *testing.T) {
	t.Parallel()
	m, ip := New(Loopback, nil, netip.MustParsePrefix("127.0.0.0/8")), netip.MustParseAddr("10.96.0.1")
	m.Set(keyOf(1), []netip.Addr{ip})
	if got := m.Listen(ip); got != ip {
		t.Errorf("it is at %s", got)
	}
	m.Set(keyOf(1), nil)
	if len(m.places)+len(m.taken)+len(m.owned) != 0 {
		t.Error("something is left of it")
	}
}

func TestParseMode(t *testing.T) {
	t.Parallel()
	for _, word := range Modes() {
		if mode, err := ParseMode(word); err != nil || string(mode) != word {
			t.Errorf("%s is %s: %v", word, mode, err)
		}
	}
	if _, err := ParseMode("lopback"); err == nil || !strings.Contains(err.Error(), `did you mean "loopback"?`) {
		t.Error(err)
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		mode Mode
		ips  []string
		want string
	}{
		{Auto, nil, ""},
		{Auto, []string{"10.43.0.9", "10.96.0.1"}, "ClusterIPs of IPv4 are listened on as they are: this host routes 10.43.0.9 to itself"},
		{Auto, []string{"10.96.0.1"}, "as root, with the service CIDR of your cluster: ip route add local 10.96.0.0/12 dev lo"},
		{Auto, []string{"10.44.5.5"}, "ip route add local 10.44.0.0/16 dev lo"},
		{Auto, []string{"fd00:1::9"}, "no socket of this host can have fd00:1::9"},
		{Bind, []string{"10.44.5.5"}, "ClusterIPs are listened on as they are"},
		{Loopback, []string{"10.44.5.5"}, "ClusterIPs are mapped to 127.0.0.0/8"},
	} {
		m := New(test.mode, probeOf("10.43.0.0/16"))
		for i, ip := range test.ips {
			m.Set(keyOf(i), []netip.Addr{netip.MustParseAddr(ip)})
		}
		if got := strings.Join(m.Summary(), "\n"); !strings.HasSuffix(got, test.want) {
			t.Errorf("%s of %v: %q, not %q", test.mode, test.ips, got, test.want)
		}
	}
}

// probeOf answers like a host that routes one prefix to itself, and has no IPv6.
func probeOf(local string) func(netip.Addr) reach.Reach {
	return func(ip netip.Addr) reach.Reach {
		switch {
		case netip.MustParsePrefix(local).Contains(ip):
			return reach.Local
		case ip.Is4():
			return reach.Bindable
		}
		return reach.Unreachable
	}
}

// randomAddr returns one of few addresses, of which many have the same place.
func randomAddr(random *rand.Rand) netip.Addr {
	if random.IntN(4) == 0 {
		return netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(random.IntN(8))})
	}
	return netip.AddrFrom4([4]byte{[]byte{10, 11, 127}[random.IntN(3)], byte(random.IntN(3)), 0, byte(random.IntN(3))})
}

func keyOf(i int) planner.Key { return planner.Key{Namespace: "default", Name: fmt.Sprint(i)} }
