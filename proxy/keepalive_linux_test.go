package proxy

import (
	"maps"
	"net"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"usher/proxy/flow"
)

// withFlow runs do with what the engine knows of its one flow: how to have its peers
// inspected, as its timer would, and its sockets.
func withFlow(s *Server, do func(inspect func(), fds [2]int)) {
	if e, ok := s.engine.(*epollEngine); ok {
		e.all(func(w *worker) {
			for i := range w.conns {
				for j := range w.conns[i] {
					if c := &w.conns[i][j]; c.half[flow.Client].fd >= 0 {
						do(func() { w.inspect(c) }, [2]int{int(c.half[flow.Client].fd), int(c.half[flow.Backend].fd)})
					}
				}
			}
		})
		return
	}
	e := s.engine.(*portableEngine)
	e.mu.Lock()
	all := slices.Collect(maps.Values(e.streams))
	e.mu.Unlock()
	for _, x := range all {
		x.mu.Lock()
		var fds [2]int
		for side, c := range x.conn {
			if raw, ok := rawConn(c); ok {
				_ = raw.Control(func(fd uintptr) { fds[side] = int(fd) })
			}
		}
		do(func() { x.inspectLocked() }, fds)
		x.mu.Unlock()
	}
}

// inspected has the peers of the one flow inspected, and returns which sides have their
// keepalive then.
func inspected(t *testing.T, s *Server) (on [2]bool) {
	t.Helper()
	withFlow(s, func(inspect func(), fds [2]int) {
		inspect()
		for side, fd := range fds {
			n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE)
			if err != nil {
				t.Error(err)
			}
			on[side] = n != 0
		}
	})
	return on
}

// TestKeepaliveIsForSidesThatGoOn: one that has finished is not probed any more, also
// while its end waits behind bytes that nobody takes.
func TestKeepaliveIsForSidesThatGoOn(t *testing.T) {
	t.Parallel()
	for name, sent := range map[string]int{"passed on": 1, "not read yet": 128 << 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachEngine(t, func(t *testing.T, engine string) {
				release, over := make(chan struct{}), make(chan struct{})
				at := serve(t, func(c *net.TCPConn) {
					roundTripOf(c)
					<-release
					_, _ = c.Write(make([]byte, sent))
					_ = c.CloseWrite()
					<-over
				})
				defer close(over)
				s, addr := start(t, Options{Engine: engine, Workers: 1}, service(t, at))
				c := dial(t, addr)
				roundTrip(t, c)
				if on := inspected(t, s); on != [2]bool{true, true} {
					t.Fatalf("keepalive of both sides: %v", on)
				}
				withFlow(s, func(_ func(), fds [2]int) {
					_ = unix.SetsockoptInt(fds[flow.Client], unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
				})
				close(release)
				eventually(t, "the side that has finished has no keepalive, the other has", func() bool {
					return inspected(t, s) == [2]bool{flow.Client: true, flow.Backend: false}
				})
			})
		})
	}
}

// roundTripOf returns one byte.
func roundTripOf(c *net.TCPConn) {
	var b [1]byte
	_, _ = c.Read(b[:])
	_, _ = c.Write(b[:])
}
