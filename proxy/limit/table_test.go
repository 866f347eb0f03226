package limit

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

func keyOf(n int) (k Key) {
	binary.BigEndian.PutUint32(k[:], uint32(n))
	return k
}

func TestPrefixKey(t *testing.T) {
	t.Parallel()
	key := func(s string, bits4, bits6 uint8) Key { return PrefixKey(netip.MustParseAddr(s), bits4, bits6) }
	for _, test := range []struct {
		a, b         string
		bits4, bits6 uint8
		same         bool
	}{
		{"10.0.0.1", "10.0.0.2", 32, 128, false},
		{"10.0.0.1", "10.0.0.2", 24, 128, true},
		{"10.0.0.1", "10.0.1.1", 24, 0, false},
		{"10.0.0.1", "::ffff:10.0.0.1", 32, 0, true},
		{"10.0.0.1", "192.168.0.1", 0, 128, true},
		{"10.0.0.1", "::1", 0, 0, false},
		{"2001:db8::1", "2001:db8::2", 32, 64, true},
		{"2001:db8::1", "2001:db8:0:1::1", 32, 64, false},
		{"2001:db8::1", "2001:db8::2", 0, 127, false},
		{"2001:db8::2", "2001:db8::3", 0, 127, true},
		{"2001:db8::2", "2001:db8::3", 0, 200, false},
		{"2001:db8::1", "fe80::1", 0, 0, true},
		{"2001:db8::1", "2001:db9::1", 0, 31, true},
		{"2001:db8::1", "2001:db9::1", 0, 32, false},
	} {
		if same := key(test.a, test.bits4, test.bits6) == key(test.b, test.bits4, test.bits6); same != test.same {
			t.Errorf("%s and %s under /%d and /%d: same %v", test.a, test.b, test.bits4, test.bits6, same)
		}
	}
	k := key("10.0.0.1", 32, 128)
	all := []Key{k, k.WithPorts(1, 0), k.WithPorts(0, 1), k.WithAddress(netip.MustParseAddr("10.0.0.1"), 32, 128)}
	for i, a := range all {
		if slices.Index(all, a) != i {
			t.Errorf("key %d is not one of its own", i)
		}
	}
}

// TestTableIsModel drives one shard, and a list that does the same plainly.
func TestTableIsModel(t *testing.T) {
	t.Parallel()
	const seed = 1 // another one tests other cases
	random := rand.New(rand.NewPCG(seed, 0))
	const most = 100
	s := &newTable[int](seed, most).shards[0]
	var model []int // oldest first; the value of a key is its number
	for step := range 20_000 {
		n := random.IntN(3 * most)
		k := keyOf(n)
		hash := uint32(n % 16) // many collide
		i := s.find(&k, hash)
		at := slices.Index(model, n)
		if (i != 0) != (at >= 0) || i != 0 && s.at(i).value != n {
			t.Fatalf("seed %d, step %d: key %d is in slot %d, in the model at %d", seed, step, n, i, at)
		}
		switch {
		case i == 0 && s.isFull() != (len(model) == most):
			t.Fatalf("seed %d, step %d: full %v with %d", seed, step, s.isFull(), len(model))
		case i == 0 && s.isFull():
			s.remove(s.oldest)
			model = model[1:]
		case i == 0:
			s.at(s.insert(&k, hash)).value = n
			model = append(model, n)
		case random.IntN(3) == 0:
			s.remove(i)
			model = slices.Delete(model, at, at+1)
		default:
			s.touch(i)
			model = append(slices.Delete(model, at, at+1), n)
		}
		if s.count != len(model) {
			t.Fatalf("seed %d, step %d: count is %d, want %d", seed, step, s.count, len(model))
		}
	}
	var order []int
	for i := s.oldest; i != 0; i = s.at(i).newer {
		order = append(order, s.at(i).value)
	}
	if !slices.Equal(order, model) {
		t.Errorf("seed %d: order is %v, want %v", seed, order, model)
	}
}

// TestBucketsForgetTheOldest fills a table: what was used last stays.
func TestBucketsForgetTheOldest(t *testing.T) {
	t.Parallel()
	r := Rate{1, time.Hour, 1}
	b := NewBuckets(1, 100)
	for n := range 300 {
		if !b.Take(keyOf(n), r, time.Duration(n)) {
			t.Fatalf("the first event of key %d was refused", n)
		}
		if n%50 == 49 && b.Take(keyOf(0), r, time.Duration(n)) {
			t.Fatalf("key 0 was forgotten at key %d", n)
		}
	}
	if n := len(b.State()); n != 100 {
		t.Errorf("there are %d buckets, want 100", n)
	}
	if b.Take(keyOf(299), r, 300) || !b.Take(keyOf(1), r, 300) {
		t.Error("the newest key was forgotten, or the oldest was not")
	}
	restored := NewBuckets(2, 100)
	restored.Restore(b.State())
	if restored.Take(keyOf(299), r, 300) || !restored.Take(keyOf(2), r, 300) {
		t.Error("restored buckets do not go on as before")
	}
}

func TestBucketsExpire(t *testing.T) {
	t.Parallel()
	r := Rate{1, time.Hour, 2}
	b := NewExpiringBuckets(1, 100, time.Minute)
	for _, test := range []struct {
		at   time.Duration
		pass bool
	}{
		{0, true},
		{59 * time.Second, true},
		{118 * time.Second, false}, // a refused event is a use, too
		{177 * time.Second, false},
		{237 * time.Second, true},
	} {
		if pass := b.Take(Key{}, r, test.at); pass != test.pass {
			t.Errorf("at %v: Take = %v", test.at, pass)
		}
	}
}

// TestCounts lets many members come and go: no group has more than it may.
func TestCounts(t *testing.T) {
	t.Parallel()
	const groups, most = 50, 3
	counts := NewCounts(1, groups*40)
	var inside [groups]struct {
		sync.Mutex
		n int
	}
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 0))
			for range 5000 {
				n := random.IntN(groups)
				var h Holds
				c, count := counts.Enter(keyOf(n))
				h.Add(c)
				if count <= most {
					inside[n].Lock()
					inside[n].n++
					if inside[n].n > most {
						t.Errorf("group %d has %d members", n, inside[n].n)
					}
					inside[n].Unlock()
					inside[n].Lock()
					inside[n].n--
					inside[n].Unlock()
				}
				h.Release()
			}
		})
	}
	all.Wait()
	for n := range groups {
		if m := counts.Members(keyOf(n)); m != 0 {
			t.Errorf("group %d has %d members at the end", n, m)
		}
	}
}

func TestCountsWithoutRoom(t *testing.T) {
	t.Parallel()
	counts := NewCounts(1, 2)
	a, n := counts.Enter(keyOf(1))
	if a == nil || n != 1 {
		t.Fatalf("Enter = %v, %d", a, n)
	}
	counts.Enter(keyOf(2))
	if c, n := counts.Enter(keyOf(3)); c != nil || n != 1 {
		t.Errorf("Enter without room = %v, %d", c, n)
	}
	if c, n := counts.Enter(keyOf(1)); c != a || n != 2 {
		t.Errorf("Enter of a group that is there = %v, %d", c, n)
	}
	a.Leave()
	a.Leave()
	if c, n := counts.Enter(keyOf(3)); c == nil || n != 1 {
		t.Errorf("Enter where one left = %v, %d", c, n)
	}
}

func TestHolds(t *testing.T) {
	t.Parallel()
	counts := NewCounts(1, 100)
	for n := range 6 {
		var h Holds
		h.Add(nil)
		for i := range n {
			c, _ := counts.Enter(keyOf(i))
			if h.Has(c) {
				t.Errorf("count %d of %d is kept before it is added", i, n)
			}
			h.Add(c)
			if !h.Has(c) || h.Has(nil) {
				t.Errorf("count %d of %d is not kept", i, n)
			}
		}
		h.Release()
		h.Release()
		for i := range n {
			if m := counts.Members(keyOf(i)); m != 0 {
				t.Errorf("with %d counts, %d has %d members after Release", n, i, m)
			}
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	r := Rate{1, time.Hour, 1}
	b, counts := NewBuckets(1, 1000), NewCounts(1, 1000)
	n := 0
	step := func() {
		n++
		b.Take(keyOf(n), r, time.Duration(n))
		var h Holds
		for i := range 2 {
			c, _ := counts.Enter(keyOf(n + i))
			h.Add(c)
		}
		h.Release()
	}
	for range 10_000 {
		step()
	}
	if allocs := testing.AllocsPerRun(10_000, step); allocs != 0 {
		t.Errorf("%v allocations a step", allocs)
	}
}

func BenchmarkBuckets(b *testing.B) {
	r := Rate{1, time.Hour, 1}
	buckets := NewBuckets(1, 1<<16)
	n := 0
	for b.Loop() {
		n++
		buckets.Take(keyOf(n&0xffff), r, time.Duration(n))
	}
}

func BenchmarkCounts(b *testing.B) {
	counts := NewCounts(1, 1<<16)
	n := 0
	for b.Loop() {
		n++
		c, _ := counts.Enter(keyOf(n & 0xffff))
		c.Leave()
	}
}
