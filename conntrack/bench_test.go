package conntrack

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// fill returns a table that holds n flows with deadlines within five minutes.
func fill(n int) (*Table[service, backend], []ID) {
	random := rand.New(rand.NewPCG(1, 2))
	table := New[service, backend](n + 1)
	ids := make([]ID, n)
	s, b := &service{}, &backend{}
	for i := range ids {
		id, e := table.Insert(testKey(uint64(i)), s, 0)
		e.SetBackend(b)
		table.Arm(id, time.Duration(random.Int64N(int64(5*time.Minute))))
		ids[i] = id
	}
	return table, ids
}

func BenchmarkNewKey(b *testing.B) {
	client, local := netip.MustParseAddrPort("192.0.2.1:40000"), netip.MustParseAddrPort("127.0.0.1:80")
	for b.Loop() {
		NewKey(TCP, client, local)
	}
}

// BenchmarkFlow is all that a flow costs the table but for its bytes, beside many others.
func BenchmarkFlow(b *testing.B) {
	for _, n := range []int{0, 1000, 1_000_000} {
		b.Run(fmt.Sprintf("beside=%d", n), func(b *testing.B) {
			table, _ := fill(n)
			s, to := &service{}, &backend{}
			local := netip.MustParseAddrPort("127.0.0.1:80")
			addr := netip.MustParseAddr("192.0.2.1")
			now := time.Duration(0)
			port := uint16(0)
			b.ReportAllocs()
			for b.Loop() {
				now += time.Microsecond
				port++
				id, e := table.Insert(NewKey(TCP, netip.AddrPortFrom(addr, port), local), s, now)
				table.Arm(id, now+5*time.Second) // connect
				e.SetBackend(to)
				e.SetState(Established)
				table.Arm(id, now+10*time.Minute) // idle
				e.SetState(HalfClosed)
				table.Arm(id, now+5*time.Minute) // half-close
				table.Remove(id)
			}
		})
	}
}

// BenchmarkCount counts reads: each at a time of its own, and many in one turn of a loop.
func BenchmarkCount(b *testing.B) {
	_, e := New[service, backend](1).Insert(testKey(1), nil, 0)
	b.Run("later", func(b *testing.B) {
		now := time.Duration(0)
		for b.Loop() {
			now++
			e.CountUp(64, now)
		}
	})
	b.Run("same", func(b *testing.B) {
		for b.Loop() {
			e.CountDown(64, time.Hour)
		}
	})
}

func BenchmarkNext(b *testing.B) {
	table, _ := fill(1000)
	for b.Loop() {
		table.Next()
	}
}

func BenchmarkRows(b *testing.B) {
	const n = 100_000
	table, _ := fill(n)
	rows := 0
	for b.Loop() {
		for range table.Rows() {
			rows++
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rows), "ns/row")
}

// BenchmarkIndexedFlow is what the begin and the end of a flow cost an indexed
// table but for the deadlines, beside many others.
func BenchmarkIndexedFlow(b *testing.B) {
	for _, n := range []int{0, 1000, 1_000_000} {
		b.Run(fmt.Sprintf("beside=%d", n), func(b *testing.B) {
			table := NewIndexed[service, backend](n + 1)
			s := &service{}
			next := uint64(0)
			insert := func() {
				table.Insert(clientKey(next, 1), s, 0)
				next++
			}
			for range n {
				insert()
			}
			b.ReportAllocs()
			for b.Loop() { // the newest comes, the oldest goes
				insert()
				id, _ := table.OldestUnreplied()
				table.Remove(id)
			}
		})
	}
}

// BenchmarkGrowth fills a table, and reports the insertion that is slower than all
// but one in ten thousand: every 512th allocates a chunk, none does more.
func BenchmarkGrowth(b *testing.B) {
	const n = 1_000_000
	for name, table := range map[string]func(int) *Table[service, backend]{
		"plain": New[service, backend], "indexed": NewIndexed[service, backend],
	} {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				took = took[:0]
				table := table(n)
				for i := range uint64(n) {
					k := clientKey(i, 1)
					start := time.Now()
					table.Insert(k, nil, 0)
					took = append(took, time.Since(start))
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/insertion")
			slices.Sort(took)
			b.ReportMetric(float64(took[n-n/10_000].Nanoseconds()), "ns/slow-insertion")
		})
	}
}
