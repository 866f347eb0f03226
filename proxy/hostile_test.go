package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"usher/balancer"
	"usher/proxy/flow"
)

// TestChurnAtMaxConns has more clients than places come and go: a place that is
// given back must be one that the table has.
func TestChurnAtMaxConns(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		const most = 4
		s, addr := start(t, Options{Engine: engine, Workers: 2, MaxConns: most}, service(t, echo(t)))
		var served atomic.Int64
		var clients sync.WaitGroup
		deadline := time.Now().Add(time.Minute)
		for range 4 * most {
			clients.Go(func() {
				for served.Load() < 500 && time.Now().Before(deadline) {
					c, err := net.Dial("tcp", addr)
					if err != nil {
						continue
					}
					var b [1]byte
					_, _ = c.Write(b[:])
					if _, err := io.ReadFull(c, b[:]); err == nil {
						served.Add(1)
					}
					c.Close()
				}
			})
		}
		clients.Wait()
		svc := s.Services()[0]
		if served.Load() < 500 {
			t.Errorf("%d round trips only", served.Load())
		}
		if svc.Ended(flow.ServerFull) == 0 {
			t.Error("the limit was never reached")
		}
		eventually(t, "all flows end", func() bool { return s.Open() == 0 && svc.Active() == 0 })
	})
}

// TestHeldClientResets: a client without a backend holds one of the places. It
// must be given back when the client is gone.
func TestHeldClientResets(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		cfg := service(t)
		cfg.Wait = time.Hour
		s, addr := start(t, Options{Engine: engine, Workers: 1, MaxConns: 1}, cfg)
		c := dial(t, addr)
		eventually(t, "the client is held", func() bool { return s.Open() == 1 })
		_ = c.SetLinger(0)
		c.Close()
		eventually(t, "the place is free", func() bool { return s.Open() == 0 })
		if n := s.Services()[0].Ended(flow.ClientReset); n != 1 {
			t.Errorf("%d flows ended as %v, want 1", n, flow.ClientReset)
		}
	})
}

// TestIdleTimeoutCutsAStalledStreamWithReset: the client has stopped reading in
// the middle. A FIN would tell it that it has everything.
func TestIdleTimeoutCutsAStalledStreamWithReset(t *testing.T) {
	t.Parallel()
	payload := make([]byte, 64<<20) // takes a while to make
	eachEngine(t, func(t *testing.T, engine string) {
		cfg := service(t, serve(t, func(c *net.TCPConn) { _, _ = c.Write(payload) }))
		cfg.IdleTimeout = 500 * time.Millisecond
		s, addr := start(t, Options{Engine: engine, Workers: 1}, cfg)
		c := dial(t, addr)
		eventually(t, "the flow is cut", func() bool { return s.Services()[0].Ended(flow.IdleTimeout) == 1 })
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		n, err := io.Copy(io.Discard, c)
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read %d of %d bytes, then %v; want a reset", n, 64<<20, err)
		}
	})
}

// TestSuccessorKeepsItsSocketFile: while one server drains another one takes the
// path over, as at a restart.
func TestSuccessorKeepsItsSocketFile(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		path := filepath.Join(t.TempDir(), "socket")
		cfg := service(t, echo(t))
		cfg.Listeners = []Listener{{Network: "unix", Path: path}}
		old, err := newServer(Options{Engine: engine, Workers: 2}, cfg)
		if err != nil {
			t.Fatal(err)
		}
		old.Start()
		before, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, before)
		drained := make(chan error, 1)
		go func() { drained <- old.Shutdown(t.Context()) }()
		eventually(t, "the path is free", func() bool {
			_, err := os.Lstat(path)
			return errors.Is(err, os.ErrNotExist)
		})

		start(t, Options{Engine: engine, Workers: 2}, cfg)
		after, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer after.Close()
		roundTrip(t, after)
		roundTrip(t, before)
		before.Close()
		if err := <-drained; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("the predecessor took its successor's file away: %v", err)
		}
	})
}

func TestLeftOverSocketFileIsReplaced(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		path := filepath.Join(t.TempDir(), "socket")
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		cfg := service(t, echo(t))
		cfg.Listeners = []Listener{{Network: "unix", Path: path}}
		if _, err := newServer(Options{Engine: engine}, cfg); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("somebody listens: %v, want address in use", err)
		}
		ln.(*net.UnixListener).SetUnlinkOnClose(false)
		ln.Close()
		start(t, Options{Engine: engine}, cfg)
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		roundTrip(t, c)

		cfg.Listeners = []Listener{{Network: "unix", Path: filepath.Join(t.TempDir(), "file")}}
		if err := os.WriteFile(cfg.Listeners[0].Path, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := newServer(Options{Engine: engine}, cfg); err == nil {
			t.Error("a file that is no socket was replaced")
		}
	})
}

// TestNewClientsBesideBulk: flows with much to move must not make new clients
// wait for a turn of the loop each.
func TestNewClientsBesideBulk(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		bulk, small := service(t, echo(t)), service(t, echo(t))
		s, err := newServer(Options{Engine: engine, Workers: 1}, bulk, small)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		s.Start()
		for range 16 {
			c := dial(t, s.Services()[0].Config().Listeners[0].String())
			go func() {
				p := make([]byte, 256<<10)
				for {
					if _, err := c.Write(p); err != nil {
						return
					}
				}
			}()
			go func() { _, _ = io.Copy(io.Discard, c) }()
		}
		eventually(t, "bulk flows", func() bool {
			moved := 0
			for r := range s.Flows() {
				if r.Down > 1<<20 {
					moved++
				}
			}
			return moved == 16
		})
		const clients, rounds = 32, 5
		var done sync.WaitGroup
		for range clients {
			done.Go(func() {
				for range rounds {
					c, err := net.Dial("tcp", s.Services()[1].Config().Listeners[0].String())
					if err != nil {
						t.Error(err)
						return
					}
					_ = c.SetDeadline(time.Now().Add(time.Minute))
					var b [1]byte
					_, _ = c.Write(b[:])
					_, err = io.ReadFull(c, b[:])
					c.Close()
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		done.Wait()
		if n := s.Services()[1].Ended(flow.ConnectFailed); n > 0 {
			t.Errorf("%d connects failed beside bulk", n)
		}
	})
}

func TestUnixBackendWithFullBacklog(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		path := filepath.Join(t.TempDir(), "socket")
		ln, release := fullBacklog(t, path)
		cfg := service(t)
		cfg.Pool.Update([]balancer.Spec{{Endpoint: balancer.Endpoint{Path: path}, Weight: 1, Check: balancer.Up}}, 0)
		s, addr := start(t, Options{Engine: engine, Workers: 1}, cfg)
		c := dial(t, addr)
		eventually(t, "the client waits", func() bool { return s.Open() == 1 })
		release()
		go func() {
			for {
				b, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					_, _ = io.Copy(b, b)
					b.Close()
				}()
			}
		}()
		roundTrip(t, c)
	})
}
