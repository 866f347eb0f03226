package app

import (
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/internal/flags"
)

// restarter is a server on a unix socket that reports its state to each client.
type restarter struct {
	path    string
	state   atomic.Pointer[string]
	asked   atomic.Int64 // count of clients
	serving sync.WaitGroup
}

// listen serves until the function that it returns is called.
func (s *restarter) listen(t *testing.T, state string) (stop func()) {
	t.Helper()
	s.state.Store(&state)
	l, err := net.Listen("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	s.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, *s.state.Load())
			_ = c.Close()
			s.asked.Add(1)
		}
	})
	return func() { l.Close(); s.serving.Wait() }
}

// A server that crashes is back before its checks fail, and listens before it is ready. A client that it refused is held
// until a check has passed. A check that has not failed yet is no reason to send the client there.
func TestClientsAreHeldWhileABackendRestarts(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"auto", "portable"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			server := &restarter{path: filepath.Join(t.TempDir(), "s")}
			stop := server.listen(t, "ready")
			c := parse(t, flags.Words{
				Listen: []string{"127.0.0.1:0"}, Backend: []string{"unix://" + server.path},
				Options: []flags.Option{
					{Name: "engine", Value: engine}, {Name: "workers", Value: "1"}, {Name: "wait", Value: "10m"},
					{Name: "health", Value: "tcp:expect=^ready,interval=100ms,rise=1,fall=1000000"}, // it is never down
				},
			})
			log, out := openLog(c.Process, io.Discard)
			defer out.close()
			signals := watchSignals(t.Context(), false, false)
			defer signals.release()
			r := newRunning(startOf(c), settings{process: c.Process}, log, signals, Env{})
			if err := r.start(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer func() {
				signals.stop(true)
				r.end(signals.cut)
			}()

			until := func(what string, is func() bool) {
				t.Helper()
				for deadline := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("never: %s", what)
					}
				}
			}
			until("it is up", func() bool { return r.control.Services()[0].Backends[0].Status == "up" })
			starting, ready := "starting", "ready"
			server.state.Store(&starting)
			from := server.asked.Load()
			until("no check is under way that will pass", func() bool { return server.asked.Load() > from+1 })
			stop()
			conn, err := net.Dial("tcp", r.control.Services()[0].Listen[0])
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			until("the client is refused", func() bool { return r.control.Services()[0].Backends[0].Failed > 0 })
			stop = server.listen(t, starting)
			defer func() { stop() }()
			from = server.asked.Load()
			began := time.Now() // a client that is not held retries ten times a second
			until("checks fail", func() bool { return server.asked.Load() > from+3 && time.Since(began) > 300*time.Millisecond })
			server.state.Store(&ready)
			if got, err := io.ReadAll(conn); string(got) != ready {
				t.Errorf("the client hears %q, %v", got, err)
			}
		})
	}
}
