package conntrack

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// The benchmarks of this file show what an operation costs among few entries and
// among many. Their names end in entries=N, N from 100 to 1,000,000; the word before
// says of what: the table that finds entries by their keys, its templates of
// affinity, or the plain list that both take the place of.

// eachSize runs a benchmark for each number of entries.
func eachSize(b *testing.B, name string, run func(b *testing.B, n int)) {
	for n := 100; n <= 1_000_000; n *= 10 {
		b.Run(fmt.Sprintf("%s/entries=%d", name, n), func(b *testing.B) { run(b, n) })
	}
}

// shuffledKeys returns the keys of n flows, each of a client of its own, in an
// order that has nothing to do with the one in which they are inserted: that of
// their numbers.
func shuffledKeys(n int) []Key {
	keys := make([]Key, n)
	for i := range keys {
		keys[i] = clientKey(uint64(i), uint16(i))
	}
	random := rand.New(rand.NewPCG(1, 2))
	random.Shuffle(n, func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	return keys
}

func fillIndexed(n int) *Table[service, backend] {
	table := NewIndexed[service, backend](n + 1)
	for i := range n {
		table.Insert(clientKey(uint64(i), uint16(i)), nil, 0)
	}
	return table
}

func fillList(n int) *list {
	l := &list{}
	for i := range n {
		l.insert(clientKey(uint64(i), uint16(i)), nil, 0)
	}
	return l
}

const stickyTimeout = 300 * time.Second

// fillAffinity returns a table with a template of each client, without flows.
func fillAffinity(n int) (*Affinity[service, backend], *service, *backend) {
	a := NewAffinity[service, backend](2 * n)
	s, to := &service{}, &backend{}
	var h Hold
	for i := range n {
		a.Put(&h, s, clientKey(uint64(i), 1).Client().Addr(), Persistence{Timeout: stickyTimeout}, nil, to, 0)
	}
	a.Release(&h, 0)
	return a, s, to
}

// BenchmarkLookup finds the flow of each datagram, in random order, or finds that
// it is a new one.
func BenchmarkLookup(b *testing.B) {
	var table *Table[service, backend]
	var l *list
	var keys []Key
	found := func(b *testing.B, n int, find func(*Key) bool) {
		keys = shuffledKeys(n)
		b.ReportAllocs()
		b.ResetTimer()
		for i := 0; b.Loop(); i++ {
			if i == n {
				i = 0
			}
			if !find(&keys[i]) {
				b.Fatal("not found")
			}
		}
	}
	missed := func(b *testing.B, find func(*Key) bool) {
		k := clientKey(0, 0)
		b.ReportAllocs()
		b.ResetTimer()
		for b.Loop() {
			k.local.hi++
			if find(&k) {
				b.Fatal("found")
			}
		}
	}
	inTable := func(k *Key) bool {
		_, e := table.Lookup(*k)
		return e != nil
	}
	inList := func(k *Key) bool { return l.lookup(k) >= 0 }
	eachSize(b, "table", func(b *testing.B, n int) {
		table = fillIndexed(n)
		found(b, n, inTable)
	})
	eachSize(b, "table-missed", func(b *testing.B, n int) {
		table = fillIndexed(n)
		missed(b, inTable)
	})
	eachSize(b, "list", func(b *testing.B, n int) {
		l = fillList(n)
		found(b, n, inList)
	})
	eachSize(b, "list-missed", func(b *testing.B, n int) {
		l = fillList(n)
		missed(b, inList)
	})
	eachSize(b, "affinity", func(b *testing.B, n int) {
		a, s, _ := fillAffinity(n)
		var h Hold
		found(b, n, func(k *Key) bool {
			to := a.Get(&h, s, k.Client().Addr(), Persistence{Timeout: stickyTimeout}, 0)
			a.Release(&h, 0)
			return to != nil
		})
	})
}

// BenchmarkInsertRemove ends any flow of those that there are, and begins a new one.
// The one that ends has to be found first, but not in the plain table, whose flows
// have sockets that know their entries.
func BenchmarkInsertRemove(b *testing.B) {
	// Of the flows numbered place 0 to n-1, remove ends one, insert begins another.
	run := func(b *testing.B, n int, insert, remove func(place int, flow uint64)) {
		flows := make([]uint64, n) // by place
		for i := range flows {
			flows[i] = uint64(i)
			insert(i, flows[i])
		}
		places := rand.New(rand.NewPCG(1, 2)).Perm(n)
		next := uint64(n)
		b.ReportAllocs()
		b.ResetTimer()
		for i := 0; b.Loop(); i++ {
			if i == n {
				i = 0
			}
			place := places[i]
			remove(place, flows[place])
			insert(place, next)
			flows[place] = next
			next++
		}
	}
	eachSize(b, "plain", func(b *testing.B, n int) {
		table := New[service, backend](n)
		ids := make([]ID, n)
		run(b, n, func(place int, flow uint64) {
			ids[place], _ = table.Insert(clientKey(flow, 1), nil, 0)
		}, func(place int, _ uint64) {
			table.Remove(ids[place])
		})
	})
	eachSize(b, "table", func(b *testing.B, n int) {
		table := NewIndexed[service, backend](n)
		run(b, n, func(_ int, flow uint64) {
			table.Insert(clientKey(flow, 1), nil, 0)
		}, func(_ int, flow uint64) {
			id, _ := table.Lookup(clientKey(flow, 1))
			table.Remove(id)
		})
	})
	eachSize(b, "list", func(b *testing.B, n int) {
		l := &list{}
		run(b, n, func(_ int, flow uint64) {
			l.insert(clientKey(flow, 1), nil, 0)
		}, func(_ int, flow uint64) {
			k := clientKey(flow, 1)
			l.remove(l.lookup(&k))
		})
	})
	eachSize(b, "affinity", func(b *testing.B, n int) { // the one idle for longest makes room
		a := NewAffinity[service, backend](n)
		s, to := &service{}, &backend{}
		run(b, n, func(_ int, flow uint64) {
			var h Hold
			a.Put(&h, s, clientKey(flow, 1).Client().Addr(), Persistence{Timeout: stickyTimeout}, nil, to, 0)
			a.Release(&h, 0)
		}, func(int, uint64) {})
	})
}

// BenchmarkRefresh moves the deadline of an entry, any of them.
func BenchmarkRefresh(b *testing.B) {
	eachSize(b, "table", func(b *testing.B, n int) {
		table, ids := fill(n)
		random := rand.New(rand.NewPCG(1, 2))
		random.Shuffle(n, func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
		at := time.Minute
		b.ReportAllocs()
		b.ResetTimer()
		for i := 0; b.Loop(); i++ {
			if i == n {
				i = 0
			}
			at += Tick
			table.Arm(ids[i], at)
		}
	})
}

// BenchmarkExpire is what each deadline of five minutes costs from Arm to fire,
// beside others that come and go all the time. Of a template it is the way from
// the Put that makes it to the Expire that takes it back.
func BenchmarkExpire(b *testing.B) {
	eachSize(b, "table", func(b *testing.B, n int) {
		table, _ := fill(n)
		random := rand.New(rand.NewPCG(3, 4))
		now := time.Duration(0)
		fired := 0
		fire := func(id ID) {
			fired++
			table.Arm(id, now+5*time.Minute+time.Duration(random.Uint64()%uint64(time.Second)))
		}
		wanted := 2 * n // each twice, until timers come down as evenly as they will
		run := func() {
			for fired < wanted {
				now, _ = table.Next()
				table.Expire(now, fire)
			}
		}
		run()
		b.ReportAllocs()
		b.ResetTimer()
		for b.Loop() {
			wanted++
			run()
		}
	})
	eachSize(b, "affinity", func(b *testing.B, n int) {
		a := NewAffinity[service, backend](2 * n)
		s, to := &service{}, &backend{}
		now := time.Duration(0)
		next := uint64(0)
		var h Hold
		put := func() {
			now += stickyTimeout / time.Duration(n) // so that n are alive
			a.Put(&h, s, clientKey(next, 1).Client().Addr(), Persistence{Timeout: stickyTimeout}, nil, to, now)
			a.Release(&h, now)
			if next++; next%1000 == 0 {
				a.Expire(now)
			}
		}
		for range 2 * n {
			put()
		}
		b.ReportAllocs()
		b.ResetTimer()
		for b.Loop() {
			put()
		}
	})
}

// BenchmarkAffinityParallel begins and ends flows of known clients on all CPUs at
// once, as several event loops do.
func BenchmarkAffinityParallel(b *testing.B) {
	const n = 100_000
	a, s, _ := fillAffinity(n)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		random := rand.New(rand.NewPCG(rand.Uint64(), 0))
		var h Hold
		for pb.Next() {
			a.Get(&h, s, clientKey(random.Uint64N(n), 1).Client().Addr(), Persistence{Timeout: stickyTimeout}, 0)
			a.Release(&h, 0)
		}
	})
}
