package proxy

import (
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"

	"usher/balancer"
	"usher/proxy/flow"
)

// resultCounter counts what it is told.
type resultCounter struct{ good, bad atomic.Int64 }

func (w *resultCounter) OnSuccess(*balancer.Backend) { w.good.Add(1) }
func (w *resultCounter) OnFailure(*balancer.Backend) { w.bad.Add(1) }

func TestWitnessHearsHowFlowsWent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		backend   func(t *testing.T) netip.AddrPort
		good, bad int64
	}{
		{"answers", echo, 1, 0},
		{"refuses", refusing, 0, 1},
		{"closes without an answer", func(t *testing.T) netip.AddrPort {
			return serve(t, func(c *net.TCPConn) {
				c.CloseWrite()
				_, _ = io.Copy(io.Discard, c)
			})
		}, 1, 0},
		{"resets at once", func(t *testing.T) netip.AddrPort {
			return serve(t, func(c *net.TCPConn) {
				_, _ = c.Read(make([]byte, 1))
				c.SetLinger(0)
			})
		}, 0, 1},
		{"resets after its answer", func(t *testing.T) netip.AddrPort {
			return serve(t, func(c *net.TCPConn) {
				_, _ = c.Read(make([]byte, 1))
				_, _ = c.Write([]byte{'x'})
				_, _ = c.Read(make([]byte, 1))
				c.SetLinger(0)
			})
		}, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			eachEngine(t, func(t *testing.T, engine string) {
				w := new(resultCounter)
				c := service(t, tt.backend(t))
				c.Observer = w
				s, addr := start(t, Options{Engine: engine, Workers: 1}, c)
				if conn, err := net.Dial("tcp", addr); err == nil { // else it is reset already
					defer conn.Close()
					_, _ = conn.Write([]byte{'x'})
					_, _ = conn.Read(make([]byte, 1))
					_, _ = conn.Write([]byte{'x'})
					conn.(*net.TCPConn).CloseWrite()
					_, _ = io.Copy(io.Discard, conn)
				}
				eventually(t, "the flow ends", func() bool { return s.Services()[0].Accepted() == 1 && s.Open() == 0 })
				if w.good.Load() != tt.good || w.bad.Load() != tt.bad {
					t.Errorf("%d good and %d bad, want %d and %d", w.good.Load(), w.bad.Load(), tt.good, tt.bad)
				}
			})
		})
	}
}

// TestWitnessHearsNothingOfClientsThatGo: a backend that is silent until its client gives
// up has neither worked nor failed.
func TestWitnessHearsNothingOfClientsThatGo(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		w := new(resultCounter)
		c := service(t, serve(t, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }))
		c.Observer = w
		s, addr := start(t, Options{Engine: engine, Workers: 1}, c)
		conn := dial(t, addr)
		_, _ = conn.Write([]byte{'x'})
		eventually(t, "the backend has it", func() bool {
			for row := range s.Flows() {
				return row.Up == 1
			}
			return false
		})
		conn.SetLinger(0)
		conn.Close()
		eventually(t, "the flow ends", func() bool { return s.Services()[0].Ended(flow.ClientReset) == 1 && s.Open() == 0 })
		if w.good.Load() != 0 || w.bad.Load() != 0 {
			t.Errorf("%d good and %d bad, want none", w.good.Load(), w.bad.Load())
		}
	})
}
