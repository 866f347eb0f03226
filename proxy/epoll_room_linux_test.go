package proxy

import (
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"usher/conntrack"
	"usher/proxy/flow"
)

// TestOtherWorkersIdleConnectionsMakeRoom fills a server with connections of one worker.
// Newcomers are served in their place, whichever worker they come to.
func TestOtherWorkersIdleConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	const most = 8
	s, addr := start(t, Options{Engine: "epoll", Workers: 2, MaxConns: most}, reclaiming(t, time.Hour))
	svc, engine := s.Services()[0], s.engine.(*epollEngine)
	full := engine.workers[1]
	for n := 0; n < most; {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, c)
		if full.table.Len() > n {
			t.Cleanup(func() { c.Close() })
			n++
			continue
		}
		c.Close()
		eventually(t, "it has ended", func() bool { return svc.Active() == int64(n) })
	}
	// By hand: newcomers that a slow machine keeps waiting are not idle.
	engine.all(func(w *worker) {
		for id := range conntrack.ID(most) {
			if w == full {
				c := w.conn(id)
				w.inspect(c)
				c.Arm(w.table, s.Now()+time.Hour)
			}
		}
	})
	var newcomers sync.WaitGroup
	for range most {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		newcomers.Go(func() { roundTrip(t, c) })
	}
	newcomers.Wait()
	if n := svc.Ended(flow.Reclaimed); n != most || svc.Ended(flow.ServerFull) != 0 || svc.Active() != most {
		t.Errorf("%d made room for %d newcomers, %d were turned away; %d are there", n, most, svc.Ended(flow.ServerFull), svc.Active())
	}
}

// TestSlowReaderIsNotReclaimed: a client that still takes what was sent a while ago keeps
// its place.
func TestSlowReaderIsNotReclaimed(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		const after, bytes, step = time.Second, 96 << 10, 1 << 10
		backend := serve(t, func(c *net.TCPConn) {
			_, _ = c.Write(make([]byte, bytes))
			_, _ = io.Copy(io.Discard, c)
		})
		config := service(t, backend)
		config.ReclaimIdle = after
		s, addr := start(t, Options{Engine: engine, Workers: 1, MaxConns: 1}, config)
		narrow := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10) })
		}}
		slow, err := narrow.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer slow.Close()
		var sentAll, last, gap time.Duration
		b := make([]byte, step)
		for n := 0; n < bytes/2 || s.Now() < sentAll+2*after; n += step {
			last = s.Now()
			if _, err := io.ReadFull(slow, b); err != nil {
				t.Fatalf("after %d bytes: %v", n, err)
			}
			if n == 0 {
				sentAll = s.Now()
			}
			time.Sleep(25 * time.Millisecond)
			gap = max(gap, s.Now()-last)
		}
		if newcomer, err := net.Dial("tcp", addr); err == nil { // else reset already
			defer newcomer.Close()
		}
		svc := s.Services()[0]
		eventually(t, "somebody has to go", func() bool { return svc.Ended(flow.ServerFull)+svc.Ended(flow.Reclaimed) > 0 })
		if max(gap, s.Now()-last) > after/2 {
			t.Skip("this machine is too slow")
		}
		if n := svc.Ended(flow.Reclaimed); n != 0 {
			t.Errorf("%d connections were ended", n)
		}
	})
}
