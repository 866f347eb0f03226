package health_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"usher/health"
)

// answer starts a UDP server that sends what replies returns for each datagram.
func answer(t *testing.T, replies func(request []byte) [][]byte) health.Target {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		conn.Close()
		serving.Wait()
	})
	serving.Go(func() {
		buffer := make([]byte, 64<<10)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			for _, reply := range replies(bytes.Clone(buffer[:n])) {
				_, _ = conn.WriteToUDPAddrPort(reply, from)
			}
		}
	})
	return health.Target{Name: "b", Network: "udp", Address: conn.LocalAddr().String()}
}

// say answers each datagram with texts.
func say(texts ...string) func([]byte) [][]byte {
	return func([]byte) [][]byte {
		var replies [][]byte
		for _, text := range texts {
			replies = append(replies, []byte(text))
		}
		return replies
	}
}

// often answers each datagram with so many texts that a check ends.
func often(texts ...string) func([]byte) [][]byte {
	return say(slices.Repeat(texts, health.MaxReplies/len(texts))...)
}

// dead returns a target where nobody listens, and nobody else can: its socket is
// connected to an address that nothing comes from.
func dead(t *testing.T) health.Target {
	t.Helper()
	ip := net.IPv4(127, 0, 0, 1)
	conn, err := net.DialUDP("udp", &net.UDPAddr{IP: ip}, &net.UDPAddr{IP: ip, Port: 2}) // isBoundHere asks as port 1
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return health.Target{Name: "b", Network: "udp", Address: conn.LocalAddr().String()}
}

// check makes a check with ample time, or with a short timeout if it waits for that.
func check(t *testing.T, c health.Checker, target health.Target, waits bool) error {
	t.Helper()
	timeout := time.Minute
	if waits {
		timeout = 30 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	err := c.Check(ctx, target)
	if !waits && ctx.Err() != nil {
		t.Errorf("the check waited for its timeout: %v", err)
	}
	return err
}

// expectCheck is check and expectError. On a busy machine a check that waits may time
// out too early, so it is repeated with more time.
func expectCheck(t *testing.T, c health.Checker, target health.Target, waits bool, want string) {
	t.Helper()
	err := check(t, c, target, waits)
	for timeout := 200 * time.Millisecond; waits && timeout < 10*time.Second && !matches(err, want); timeout *= 4 {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		err = c.Check(ctx, target)
		cancel()
	}
	expectError(t, err, want)
}

// matches reports whether an error contains want; an empty want means no error.
func matches(err error, want string) bool {
	if err == nil || want == "" {
		return err == nil && want == ""
	}
	return strings.Contains(err.Error(), want)
}

func expectError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("check: %v", err)
	case !matches(err, want):
		t.Errorf("check: %v, want an error with %q", err, want)
	case err != nil && (strings.Contains(err.Error(), "\n") || len(err.Error()) > 400):
		t.Errorf("check: not a line of a log: %q", err)
	case errors.Is(err, health.ErrInconclusive):
		t.Errorf("check: %v is taken for a shortage", err)
	}
}

func TestUDP(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 60_000)
	for _, tt := range []struct {
		name    string
		check   health.Checker
		replies func([]byte) [][]byte
		waits   bool
		want    string
	}{
		{name: "as expected", check: health.UDP{Send: "ping", Expect: "pong"}, replies: say("pong")},
		{name: "expected in the middle", check: health.UDP{Send: "ping", Expect: "\x00po\xff"}, replies: say("ok \x00po\xff!")},
		{name: "expected at the end of a giant", check: health.UDP{Send: "ping", Expect: "end"}, replies: say(long + "end")},
		{name: "expected after noise", check: health.UDP{Send: "ping", Expect: "pong"}, replies: say("", "hello", "pong")},
		{name: "any reply", check: health.UDP{Send: "ping"}, replies: say("what?")},
		{name: "an empty reply", check: health.UDP{Send: "ping"}, replies: say("")},
		{name: "expect alone", check: health.UDP{Expect: "hi"}, replies: func(request []byte) [][]byte {
			return [][]byte{fmt.Appendf(nil, "hi%d", len(request))}
		}},
		{name: "echo", check: health.UDP{Send: "\x00\r\n", Expect: "\x00\r\n"}, replies: func(request []byte) [][]byte { return [][]byte{request} }},
		{name: "wrong", check: health.UDP{Send: "ping", Expect: "pong"}, replies: often("pon\n"), want: `unexpected reply "pon\n"`},
		{name: "wrong giant", check: health.UDP{Send: "ping", Expect: "pong"}, replies: often(long[:1400]), want: `xxx"… of 1400 bytes`},
		{name: "cut short", check: health.UDP{Send: "ping", Expect: "pong"}, replies: often("pon", "g"), want: `unexpected reply "g"`},
		{name: "silent", check: health.UDP{Send: "ping", Expect: "pong"}, replies: say(), waits: true, want: "no reply in time"},
		{name: "silent without expect", check: health.UDP{Send: "ping"}, replies: say(), waits: true, want: "no reply in time"},
		{name: "too late", check: health.UDP{Send: "ping", Expect: "pong"}, replies: say(append(make([]string, health.MaxReplies), "pong")...), want: "32 replies, none as expected"},
		{name: "probe, silent", check: health.UDPByDatagram{}, replies: say(), waits: true},
		{name: "probe, any reply", check: health.UDPByDatagram{}, replies: say("who are you?")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			expectCheck(t, tt.check, answer(t, tt.replies), tt.waits, tt.want)
		})
	}
}

func TestUDPDead(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Go does not let ICMP errors through to UDP sockets there")
	}
	query, err := health.NewDNS("example.com")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []health.Checker{health.UDP{}, health.UDP{Send: "ping"}, health.UDP{Expect: "pong"}, query} {
		t.Run(fmt.Sprintf("%T%[1]v", c), func(t *testing.T) {
			t.Parallel()
			target := dead(t)
			err := check(t, c, target, false)
			expectError(t, err, target.Address)
			if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("check: %v, want a refusal", err)
			}
		})
	}
}

func TestUDPEndsWithItsContext(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 1)
	target := answer(t, func([]byte) [][]byte {
		asked <- struct{}{}
		return nil
	})
	for _, c := range []health.Checker{health.UDPByDatagram{}, health.UDP{Send: "ping"}} {
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() { result <- c.Check(ctx, target) }()
		<-asked
		cancel()
		select {
		case err := <-result:
			// Silence is good only at the timeout.
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%+v: %v", c, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%+v: the check outlives its context", c)
		}
	}
}
