package app

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"usher/internal/flags"
)

// freePort returns a TCP port without a listener on any address. A socket that never listens keeps others from it; a
// listener shares it by SO_REUSEADDR.
func freePort(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, new(unix.SockaddrInet4))); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(name.(*unix.SockaddrInet4).Port)
}

// A name server that blocks a name answers with 0.0.0.0 and ::, which systems take for this machine. Neither becomes a
// backend. No check and no agent query reaches a listener of this process.
func TestNobodyAsksThisProcess(t *testing.T) {
	t.Parallel()
	here, chained := freePort(t), freePort(t)
	var checks atomic.Int64
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			checks.Add(1)
			_, _ = io.WriteString(c, "hello")
			_ = c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	nowhere := []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	names := book{"sink.test": nowhere, "mixed.test": append(nowhere, netip.MustParseAddr("127.0.0.1"))}
	c := parse(t, flags.Words{
		Listen: []string{"web=0.0.0.0:" + here, "sink=127.0.0.1:0", "chain=127.0.0.1:" + chained, "udp=udp:0"},
		Backend: []string{
			"web=sink.test", "web=mixed.test:" + port, "web=127.0.0.9:" + port + ",check=" + here, "web=127.0.0.8:" + port + ",agent=" + here,
			"sink=sink.test:80", "chain=127.0.0.2:" + here, "udp=sink.test:53",
		},
		Options: []flags.Option{{Name: "health", Value: "tcp:expect=hello,interval=20ms"}, {Name: "agent", Value: "web=1,interval=20ms"}, {Name: "access-log", Value: "true"}},
	})
	log := run(t, c, names)
	log.await(t, `"msg":"serving"`)
	log.await(t, `"service":"chain".*"up":"1 of 1"`)
	// The checked listener saw many checks; this one saw no client.
	for seen, deadline := checks.Load(), time.Now().Add(patience); checks.Load() < seen+20; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not checked:\n%s", log)
		}
	}
	for want, times := range map[string]int{
		`"msg":"backend left out"`: 8, // two addresses each: sink.test in three services, mixed.test in one
		`"error":"sink.test:80 resolves to 0.0.0.0, which cannot be connected to"`:                                                                                               1,
		`"error":"127.0.0.9:` + here + ` is the listener 0.0.0.0:` + here + ` of service web: to ask there would be a client of this process"`:                                   1,
		`"msg":"backend is not checked","service":"chain","error":"127.0.0.2:` + here + ` is the listener`:                                                                       1,
		`"msg":"agent is not asked","service":"web","error":"127.0.0.8:` + here + ` is the listener 0.0.0.0:` + here + ` of service web: to ask there would be a client of this`: 1,
		`all backends of service sink are down","service":"sink","so":"none has an address, clients are refused"`:                                                                1,
		`"msg":"flow"`: 0,
	} {
		if got := strings.Count(log.String(), want); got != times {
			t.Errorf("logged %d times, want %d: %s", got, times, want)
		}
	}
	if t.Failed() {
		t.Logf("%s", log)
	}
	conn, err := net.Dial("tcp", "127.0.0.1:"+here)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
}
