package health_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"usher/health"
)

// listen opens a listener on a new address.
func listen(t *testing.T, network string) (net.Listener, health.Target) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		// t.TempDir can exceed the 104 bytes of sun_path on the BSDs.
		dir, err := os.MkdirTemp("", "usher")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		address = filepath.Join(dir, "s")
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln, health.Target{Name: "b", Network: network, Address: ln.Addr().String()}
}

// seen is what a backend saw of one connection.
type seen struct {
	data []byte
	err  error // nil: the client ended with FIN
}

// serve accepts one connection, sends greeting, and reads to the end.
func serve(ln net.Listener, greeting string) <-chan seen {
	result := make(chan seen, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			result <- seen{err: err}
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(conn, greeting); err != nil {
			result <- seen{err: err}
			return
		}
		data, err := io.ReadAll(conn)
		result <- seen{data, err}
	}()
	return result
}

func expectCleanEnd(t *testing.T, got seen) {
	t.Helper()
	if len(got.data) > 0 || got.err != nil {
		t.Errorf("backend saw %q and %v, want no byte and a clean end", got.data, got.err)
	}
}

func TestTCPIsSeenAsConnectAndCleanEnd(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			ln, target := listen(t, network)
			backend := serve(ln, "")
			if err := (health.TCP{}).Check(t.Context(), target); err != nil {
				t.Errorf("check: %v", err)
			}
			expectCleanEnd(t, <-backend)
		})
	}
}

// A server that speaks first sees no reset. It has ample time here.
func TestTCPReadsAGreeting(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		for _, size := range []int{24, 25_000} {
			t.Run(fmt.Sprintf("%s %d bytes", network, size), func(t *testing.T) {
				t.Parallel()
				ln, target := listen(t, network)
				backend := serve(ln, strings.Repeat("2", size))
				if err := health.CheckTCP(t.Context(), target, time.Minute); err != nil {
					t.Errorf("check: %v", err)
				}
				expectCleanEnd(t, <-backend)
			})
		}
	}
}

func TestTCPRefused(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			ln, target := listen(t, network)
			ln.Close()
			err := (health.TCP{}).Check(t.Context(), target)
			if err == nil || !strings.Contains(err.Error(), target.Address) {
				t.Errorf("check of a closed listener: %v, want an error that names %s", err, target.Address)
			}
			if errors.Is(err, health.ErrInconclusive) {
				t.Errorf("a refused connection is a result: %v", err)
			}
		})
	}
}

// A target passes if it accepts, even if it then resets or floods the connection.
func TestTCPPassesAnyServer(t *testing.T) {
	t.Parallel()
	for _, tt := range badServers {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ln, target := listen(t, "tcp")
			serveConns(t, ln, tt.handle)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := health.TCP{}.Check(ctx, target)
			// A reset may come before connect returns.
			if early := strings.HasPrefix(tt.name, "resets") && errors.Is(err, syscall.ECONNRESET); err != nil && !early {
				t.Errorf("check: %v", err)
			}
			if ctx.Err() != nil {
				t.Error("the check waited for its timeout")
			}
		})
	}
}
