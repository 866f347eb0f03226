package assign

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"usher/internal/kube/planner"
)

// TestPoolSize gives all addresses of small pools.
func TestPoolSize(t *testing.T) {
	t.Parallel()
	for prefix, want := range map[string]int{
		"127.10.0.0/24": 254, "127.10.0.9/30": 2, "192.0.2.0/31": 2, "192.0.2.9/32": 1, "127.0.0.0/24": 253, "127.255.255.0/31": 2,
		"fd00::/120": 255, "fd00::ff00/127": 2, "fd00::1/128": 1,
	} {
		p, err := NewPool(netip.MustParsePrefix(prefix))
		if err != nil {
			t.Fatal(err)
		}
		seen := make(map[netip.Addr]bool)
		for {
			addr, err := p.Choose(keyOf(fmt.Sprint(len(seen))))
			if errors.Is(err, errExhausted) {
				break
			}
			if seen[addr] || !p.Prefix().Contains(addr) {
				t.Fatalf("%s: %s is given twice, or not of the pool", prefix, addr)
			}
			seen[addr] = true
		}
		if len(seen) != want {
			t.Errorf("%s gives %d addresses, not %d", prefix, len(seen), want)
		}
	}
	for _, prefix := range []string{"224.0.0.0/8", "0.0.0.0/0", "::/0", "ff00::/16", "::ffff:127.0.0.0/112"} {
		if p, err := NewPool(netip.MustParsePrefix(prefix)); err == nil {
			t.Errorf("%s is a pool", p.Prefix())
		}
	}
	if _, err := NewPool(netip.Prefix{}); err == nil {
		t.Error("no prefix is a pool")
	}
}

// TestPoolStable: whatever names come and go, no two have one address, and a name keeps what it has. Without collisions
// it is the same in each pool.
func TestPoolStable(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	small, large := pool(t, "127.10.0.0/26"), pool(t, "fd00::/64")
	has := make(map[planner.Key]netip.Addr)
	for range 5000 {
		key := keyOf(fmt.Sprint(random.IntN(100)))
		if random.IntN(3) == 0 {
			small.Release(key)
			delete(has, key)
			continue
		}
		addr, err := small.Choose(key)
		if before, is := has[key]; is && before != addr || (err != nil) != (len(has) == 62 && !is) {
			t.Fatalf("%s is given %s after %s with %d given: %v", key, addr, before, len(has), err)
		}
		if err == nil {
			has[key] = addr
		}
		if len(small.owner) != len(has) {
			t.Fatalf("%d addresses for %d names", len(small.owner), len(has))
		}
		got, _ := large.Choose(key)
		if want, _ := pool(t, "fd00::/64").Choose(key); got != want {
			t.Fatalf("%s is given %s, and %s in a pool of its own", key, got, want)
		}
	}
}

func pool(t *testing.T, prefix string) *Pool {
	t.Helper()
	p, err := NewPool(netip.MustParsePrefix(prefix))
	if err != nil {
		t.Fatal(err)
	}
	return p
}
