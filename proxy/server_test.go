package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"usher/proxy/flow"
)

func TestRowsAreLiveWhileBytesMove(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		const size = 64 << 20
		s, addr := start(t, Options{Engine: engine, Workers: 1}, service(t, echo(t)))
		c := dial(t, addr)
		go func() {
			_, _ = c.Write(make([]byte, size))
			_ = c.CloseWrite()
		}()
		seen := uint64(0) // while bytes are under way
		n := 0
		buffer := make([]byte, 1<<20)
		for {
			m, err := c.Read(buffer)
			n += m
			if n < size {
				for r := range s.Flows() {
					if r.Down > seen {
						seen = r.Down
					}
					if r.Service.Name != "test" || r.Backend == nil || r.Key.Client().String() != c.LocalAddr().String() {
						t.Fatalf("row %+v", r)
					}
				}
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if n != size || seen == 0 || seen > size {
			t.Errorf("%d bytes came back, %d were seen in the table on the way", n, seen)
		}
		eventually(t, "the flow ends", func() bool { return s.Services()[0].Ended(flow.Finished) == 1 })
		if up, down := s.Services()[0].Bytes(); up != size || down != size {
			t.Errorf("counted %d up, %d down, want %d each", up, down, size)
		}
	})
}

func TestNothingIsLeftAfterManyFlows(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		const flows = 2000 // not one of which may leave anything
		s, addr := start(t, Options{Engine: engine, Workers: 2}, service(t, echo(t)))
		one := func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if _, err := c.Write([]byte{1}); err != nil {
				t.Error(err)
			}
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Error(err)
			}
		}
		one()
		svc := s.Services()[0]
		settled := func() bool { return svc.Active() == 0 && s.Open() == 0 }
		eventually(t, "the first flow ends", settled)
		before := runtime.NumGoroutine()
		var clients sync.WaitGroup
		for range 8 {
			clients.Go(func() {
				for range flows / 8 {
					one()
				}
			})
		}
		clients.Wait()
		eventually(t, "all flows end", settled)
		eventually(t, "goroutines return", func() bool { return runtime.NumGoroutine() <= before+2 })
		for range s.Flows() {
			t.Error("a row is left")
		}
		for _, b := range svc.Config().Pool.Backends() {
			if b.Active() != 0 {
				t.Errorf("%v: %d active", b, b.Active())
			}
		}
		if got, want := svc.Ended(flow.Finished), uint64(flows/8*8+1); got != want {
			t.Errorf("%d flows finished, want %d", got, want)
		}
	})
}

func TestNewBindsAllOrNone(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		free := ownPorts(t, 1)[0]
		c := service(t, echo(t))
		c.Listeners = []Listener{
			{Network: "tcp", Addr: free},
			{Network: "tcp", Addr: taken.Addr().(*net.TCPAddr).AddrPort()},
		}
		_, err = newServer(Options{Engine: engine, Workers: 2}, c)
		if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), taken.Addr().String()) {
			t.Fatalf("error %v, want address in use, naming %v", err, taken.Addr())
		}
		again, err := net.Listen("tcp", free.String())
		if err != nil {
			t.Fatalf("the other listener was left open: %v", err)
		}
		again.Close()
	})
}

func TestTwoServersCannotShareAPort(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		c := service(t, echo(t))
		_, addr := start(t, Options{Engine: engine, Workers: 2}, c)
		c.Listeners = []Listener{{Network: "tcp", Addr: netip.MustParseAddrPort(addr)}}
		if _, err := newServer(Options{Engine: engine, Workers: 2}, c); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("second server on %s: %v, want address in use", addr, err)
		}
	})
}

func TestClientsBeforeStartAreServedAfterIt(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, err := newServer(Options{Engine: engine, Workers: 1}, service(t, echo(t)))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		c := dial(t, s.Services()[0].Config().Listeners[0].String())
		s.Start()
		roundTrip(t, c)
	})
}

func TestShutdownLetsFlowsFinish(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, addr := start(t, Options{Engine: engine, Workers: 2}, service(t, echo(t)))
		c := dial(t, addr)
		roundTrip(t, c)
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(t.Context()) }()
		eventually(t, "the listener closes", func() bool {
			d, err := net.Dial("tcp", addr)
			if err == nil {
				d.Close()
			}
			return err != nil
		})
		roundTrip(t, c)
		c.Close()
		if err := <-done; err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
}

func TestShutdownCutsAtItsDeadline(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		s, addr := start(t, Options{Engine: engine, Workers: 2}, service(t, echo(t)))
		c := dial(t, addr)
		roundTrip(t, c)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("shutdown: %v, want deadline exceeded", err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client reads %v, want a reset", err)
		}
		if n := s.Services()[0].Ended(flow.Drained); n != 1 {
			t.Errorf("%d flows drained, want 1", n)
		}
	})
}

func TestCloseWhileConnectingAndHolding(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		c := service(t)
		c.Wait = time.Hour
		s, addr := start(t, Options{Engine: engine, Workers: 1}, c)
		dial(t, addr)
		eventually(t, "the client is held", func() bool { return s.Open() == 1 })
		s.Close()
		if s.Open() != 0 {
			t.Errorf("%d flows left", s.Open())
		}
	})
}

func TestWaitServesTheClientOnceABackendComes(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		c := service(t)
		c.Wait = time.Minute
		s, addr := start(t, Options{Engine: engine, Workers: 1}, c)
		client := dial(t, addr)
		eventually(t, "the client is held", func() bool { return s.Open() == 1 })
		c.Pool.Update(specs(echo(t)), 0)
		roundTrip(t, client)
	})
}

func TestAccessLogSaysHowAFlowEnded(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		core, lines := observer.New(zap.InfoLevel)
		backend := echo(t)
		s, addr := start(t, Options{Engine: engine, Workers: 1, Logger: zap.New(core), AccessLog: true}, service(t, backend))
		c := dial(t, addr)
		roundTrip(t, c)
		from := c.LocalAddr().String()
		c.Close()
		eventually(t, "the flow ends", func() bool { return s.Open() == 0 })
		s.Close() // writes what is left
		all := lines.FilterMessage("flow").All()
		if len(all) != 1 {
			t.Fatalf("%d lines, want 1", len(all))
		}
		got := all[0].ContextMap()
		for key, want := range map[string]any{
			"client": from, "service": "test", "backend": backend.String(),
			"network": "tcp", "listener": addr, "bytes_up": uint64(1), "bytes_down": uint64(1), "tries": uint8(1), "end": "fin",
		} {
			if got[key] != want {
				t.Errorf("%s is %v (%T), want %v", key, got[key], got[key], want)
			}
		}
		if ms, ok := got["connect_ms"].(float64); !ok || ms < 0 || ms > got["duration_ms"].(float64) {
			t.Errorf("connect_ms is %v of %v", got["connect_ms"], got["duration_ms"])
		}
	})
}

func TestUnknownEngine(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{Engine: "kqueue"}); err == nil || !strings.Contains(err.Error(), `"kqueue"`) {
		t.Errorf("error %v, want one that names the engine", err)
	}
}
