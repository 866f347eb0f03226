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

// listen opens a listener of the given network on an address of its own.
func listen(t *testing.T, network string) (net.Listener, health.Target) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		// t.TempDir can be longer than the 104 bytes that sun_path has on
		// the BSDs.
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

// serve accepts one connection, says greeting, and reads to the end.
func serve(ln net.Listener, greeting string) <-chan seen {
	result := make(chan seen, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			result <- seen{err: err}
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
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

// A server that speaks first must not see its greeting answered by a reset.
// It has all the time it wants here: a busy machine is no part of the test.
func TestTCPHearsAGreetingOut(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		for _, size := range []int{24, 25_000} {
			t.Run(fmt.Sprintf("%s %d bytes", network, size), func(t *testing.T) {
				t.Parallel()
				ln, target := listen(t, network)
				backend := serve(ln, strings.Repeat("2", size))
				if err := health.CheckTCP(t.Context(), target, 10*time.Second); err != nil {
					t.Errorf("check: %v", err)
				}
				expectCleanEnd(t, <-backend)
			})
		}
	}
}

// A backend that has a listen queue but does not get round to accepting, or
// that never closes its side, must not hold up the probe.
func TestTCPDoesNotWaitForTheBackendToClose(t *testing.T) {
	t.Parallel()
	_, target := listen(t, "tcp")
	start := time.Now()
	if err := (health.TCP{}).Check(t.Context(), target); err != nil {
		t.Errorf("check: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("check took %v", took)
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

// To accept is all that is asked: what a target does then, a reset or a flood too, is
// neither bad nor heard for long.
func TestTCPTakesAnyServer(t *testing.T) {
	t.Parallel()
	for _, tt := range badServers {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ln, target := listen(t, "tcp")
			serveConns(t, ln, tt.handle)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			err := health.TCP{}.Check(ctx, target)
			// A reset may come before the kernel has told of the connection.
			if early := strings.HasPrefix(tt.name, "resets") && errors.Is(err, syscall.ECONNRESET); err != nil && !early {
				t.Errorf("check: %v", err)
			}
			if ctx.Err() != nil {
				t.Error("the check waited for its timeout")
			}
		})
	}
}

// A backend that takes as many flows as there are local ports is not dead; one that this
// host has no address towards is of no use.
func TestPortsUsedUp(t *testing.T) {
	t.Parallel()
	unavailable := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)}
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, tt := range []struct {
		err              error
		network, address string
		want             bool
	}{
		{unavailable, "tcp", "127.0.0.1:9", true},
		{refused, "tcp", "127.0.0.1:9", false},
		{unavailable, "tcp", "[fe80::1]:9", false}, // of no link: there is no way to it
		{unavailable, "unix", "/x", false},
	} {
		if got := health.PortsUsedUp(tt.err, health.Target{Network: tt.network, Address: tt.address}); got != tt.want {
			t.Errorf("%v, %s: %t, want %t", tt.err, tt.address, got, tt.want)
		}
	}
}

func TestTCPEndsWithItsContext(t *testing.T) {
	t.Parallel()
	_, target := listen(t, "tcp")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (health.TCP{}).Check(ctx, target); err == nil {
		t.Error("check with a cancelled context succeeded")
	}
}

func TestShortageSaysNothingAboutTheTarget(t *testing.T) {
	t.Parallel()
	for errno, want := range map[syscall.Errno]bool{
		syscall.EMFILE:        true,
		syscall.ENFILE:        true,
		syscall.ENOBUFS:       true,
		syscall.ENOMEM:        true,
		syscall.ECONNREFUSED:  false,
		syscall.ENETUNREACH:   false,
		syscall.EADDRNOTAVAIL: false,
		syscall.ETIMEDOUT:     false,
	} {
		err := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", errno)}
		if got := health.Shortage(err); got != want {
			t.Errorf("shortage(%v) = %t, want %t", err, got, want)
		}
	}
}
