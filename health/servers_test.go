package health_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"usher/health"
)

func fuzzing() bool {
	f := flag.Lookup("test.fuzz")
	return f != nil && f.Value.String() != ""
}

// serveConns serves each connection with handle, and closes it afterwards or at the end
// of the test.
func serveConns(t testing.TB, ln net.Listener, handle func(net.Conn)) {
	t.Helper()
	var (
		serving sync.WaitGroup
		mu      sync.Mutex
		open    = make(map[net.Conn]bool)
		over    bool
	)
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		over = true
		for conn := range open {
			conn.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[conn] = true
			if over {
				conn.Close()
			}
			mu.Unlock()
			serving.Go(func() {
				handle(conn)
				conn.Close()
				mu.Lock()
				delete(open, conn)
				mu.Unlock()
			})
		}
	})
}

// hear reads until the client ends.
func hear(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// flood writes b until the client is gone.
func flood(conn net.Conn, b []byte) {
	for {
		if _, err := conn.Write(b); err != nil {
			return
		}
	}
}

// inPieces writes b byte by byte, each in its own packet.
func inPieces(conn net.Conn, b []byte) {
	for i := range b {
		if _, err := conn.Write(b[i : i+1]); err != nil {
			return
		}
	}
}

// badServers fail all checks. Those that wait do so at the timeout.
var badServers = []struct {
	name   string
	handle func(net.Conn)
	waits  bool
}{
	{"silent", hear, true},
	{"closes after accept", func(net.Conn) {}, false},
	{"resets after accept", func(conn net.Conn) { _ = conn.(*net.TCPConn).SetLinger(0) }, false},
	{"closes after the question", func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1)) }, false},
	{"resets after the question", func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 1))
		_ = conn.(*net.TCPConn).SetLinger(0)
	}, false},
	{"half-closes and stays", func(conn net.Conn) {
		_ = conn.(*net.TCPConn).CloseWrite()
		hear(conn)
	}, false},
	{"garbage and the end", func(conn net.Conn) {
		_, _ = conn.Write(bytes.Repeat([]byte("\x00\xff\x1b[31mnonsense\r\n\r\n"), 40))
		_ = conn.(*net.TCPConn).CloseWrite()
		hear(conn)
	}, false},
	{"garbage without end", func(conn net.Conn) { flood(conn, bytes.Repeat([]byte("\xfe nonsense\r\n"), 1000)) }, false},
	{"zeros without end", func(conn net.Conn) { flood(conn, make([]byte, 32<<10)) }, false},
	{"one line without end", func(conn net.Conn) { flood(conn, bytes.Repeat([]byte("x"), 32<<10)) }, false},
	{"drips", func(conn net.Conn) {
		for {
			if _, err := conn.Write([]byte("H")); err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}, true},
}

// streamChecks returns the checks that expect a reply, by name.
func streamChecks(t testing.TB) map[string]health.Checker {
	t.Helper()
	secure, err := health.NewTLS(health.TLSOptions{SkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	expect := []health.Step{{Send: "PING\r\n"}, {Expect: []string{"+PONG\r\n"}}}
	anchored := []health.Step{{Send: "PING\r\n"}, {Expect: []string{"+PONG\r\n", "HHH"}, Anchored: true}, {Expect: []string{"no"}}}
	return map[string]health.Checker{
		"http":              newHTTP(t, health.HTTPOptions{Expect: "well"}),
		"http tls":          newHTTP(t, health.HTTPOptions{TLS: secure}),
		"http status only":  newHTTP(t, health.HTTPOptions{}),
		"send/expect":       newSendExpect(t, expect, nil),
		"send/expect first": newSendExpect(t, anchored, nil),
		"send/expect tls":   newSendExpect(t, expect, secure),
		"grpc":              newGRPC(t, health.GRPCOptions{}),
		"grpc tls":          newGRPC(t, health.GRPCOptions{TLS: secure}),
	}
}

func newHTTP(t testing.TB, o health.HTTPOptions) *health.HTTP {
	t.Helper()
	c, err := health.NewHTTP(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newSendExpect(t testing.TB, steps []health.Step, secure *health.TLS) *health.SendExpect {
	t.Helper()
	c, err := health.NewSendExpect(steps, secure)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newGRPC(t testing.TB, o health.GRPCOptions) *health.GRPC {
	t.Helper()
	c, err := health.NewGRPC(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestBadServers(t *testing.T) {
	t.Parallel()
	for name, c := range streamChecks(t) {
		for _, tt := range badServers {
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				ln, target := listen(t, "tcp")
				serveConns(t, ln, tt.handle)
				// A check that ends by itself has ample time; waiting for it is a fault.
				timeout := time.Minute
				if tt.waits {
					timeout = 30 * time.Millisecond
				}
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				defer cancel()
				err := c.Check(ctx, target)
				if err == nil {
					t.Fatal("the check is content")
				}
				expectError(t, err, err.Error())
				if !tt.waits && ctx.Err() != nil {
					t.Errorf("the check waited for its timeout: %v", err)
				}
				t.Log(err)
			})
		}
	}
}

// The kernel completes a connection that the process does not accept.
func TestTargetDoesNotAccept(t *testing.T) {
	t.Parallel()
	for name, c := range streamChecks(t) {
		for _, network := range []string{"tcp", "unix"} {
			t.Run(name+"/"+network, func(t *testing.T) {
				t.Parallel()
				_, target := listen(t, network)
				expectCheck(t, c, target, true, "no reply in time")
			})
		}
	}
}

func TestTargetGone(t *testing.T) {
	t.Parallel()
	for name, c := range streamChecks(t) {
		for _, network := range []string{"tcp", "unix"} {
			t.Run(name+"/"+network, func(t *testing.T) {
				t.Parallel()
				ln, target := listen(t, network)
				ln.Close()
				err := check(t, c, target, false)
				expectError(t, err, target.Address)
				if network == "tcp" && !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("check: %v, want a refusal", err)
				}
			})
		}
		t.Run(name+"/udp", func(t *testing.T) {
			t.Parallel()
			expectError(t, check(t, c, dead(t), false), "udp has none")
		})
	}
}

func TestChecksEndWithTheirContext(t *testing.T) {
	t.Parallel()
	for name, c := range streamChecks(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ln, target := listen(t, "tcp")
			accepted := make(chan struct{}, 1)
			serveConns(t, ln, func(conn net.Conn) {
				accepted <- struct{}{}
				hear(conn)
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			result := make(chan error, 1)
			go func() { result <- c.Check(ctx, target) }()
			<-accepted
			cancel()
			select {
			case err := <-result:
				if !errors.Is(err, context.Canceled) {
					t.Errorf("check: %v", err)
				}
			case <-time.After(time.Minute):
				t.Fatal("the check outlives its context")
			}
			if err := c.Check(ctx, target); !errors.Is(err, context.Canceled) {
				t.Errorf("check that starts too late: %v", err)
			}
		})
	}
}
