package proxy

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"usher/conntrack"
	"usher/proxy/flow"
)

// BenchmarkShares reports what a loop does in one turn for readers and operators, in CPU
// time of its thread: for the round trip times of a share of rows, for the byte counters of a
// share of slots, for the ends of a share of flows. A walk of the rows takes nothing from it.
func BenchmarkShares(b *testing.B) {
	const flows = 1024
	for _, bench := range []struct {
		name  string
		share float64 // of the flows below
		work  func(*worker, []Row)
	}{
		{"rtt", rowShare / float64(flows), func(w *worker, rows []Row) {
			for i := range rows {
				w.measure(&rows[i])
			}
		}},
		{"bytes", flow.CutShare / float64(flows), func(w *worker, _ []Row) { w.countBytes(0) }},
		{"end", rowShare / float64(flows), func(w *worker, rows []Row) {
			for i := range rows {
				w.terminate(&rows[i], flow.Killed)
			}
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer ln.Close()
			s, addr := start(b, Options{Engine: "epoll", Workers: 1}, service(b, ln.Addr().(*net.TCPAddr).AddrPort()))
			took, n := time.Duration(0), 0
			for b.Loop() {
				rows, done := connectedRows(b, s, ln, addr, flows)
				s.engine.(*epollEngine).all(func(w *worker) {
					before := threadTime()
					bench.work(w, rows)
					took += threadTime() - before
				})
				done()
				n++
			}
			b.ReportMetric(float64(took.Microseconds())/float64(n)*bench.share, "cpu-µs/turn")
		})
	}
}

// threadTime is the CPU time of this thread.
func threadTime() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return time.Duration(t.Nano())
}

// connectedRows returns the rows of n flows that are connected, and ends them after.
func connectedRows(b testing.TB, s *Server, ln net.Listener, addr string, n int) (rows []Row, done func()) {
	b.Helper()
	var conns []net.Conn
	for range n {
		client, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		server, err := ln.Accept()
		if err != nil {
			b.Fatal(err)
		}
		_, _ = client.Write([]byte{1})
		conns = append(conns, client, server)
	}
	eventually(b, "all have carried something", func() bool {
		rows = nil
		for r := range s.Flows() {
			if r.State == conntrack.Established && r.Up == 1 {
				rows = append(rows, r)
			}
		}
		return len(rows) == n
	})
	return rows, func() {
		for _, c := range conns {
			c.Close()
		}
		eventually(b, "all are gone", func() bool { return s.Open() == 0 })
	}
}

// TestRTTOfSeveralWorkers: workers measure at the same time, each its own rows.
func TestRTTOfSeveralWorkers(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s, addr := start(t, Options{Engine: "epoll", Workers: 2}, service(t, ln.Addr().(*net.TCPAddr).AddrPort()))
	rows, done := connectedRows(t, s, ln, addr, 32)
	defer done()
	for range 20 {
		s.Measure(rows)
		for i := range rows {
			if rows[i].RTT <= 0 {
				t.Fatalf("row %d of worker %d was not measured", i, rows[i].worker)
			}
		}
	}
}
