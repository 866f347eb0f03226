package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func start(t *testing.T, ports ...int) Backends {
	t.Helper()
	b, err := Start(ports)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		b.Close(ctx)
	})
	return b
}

// get requests path from addr, and returns the reply, after which the connection must end.
func get(t *testing.T, addr netip.AddrPort, path, accept string) (*http.Response, string) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr.String(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: %s\r\n\r\n", path, addr, accept)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("after the reply came %q and %v, want the end of the connection", rest, err)
	}
	if !resp.Close {
		t.Error("the reply does not say Connection: close")
	}
	return resp, string(body)
}

func TestBackendsSayWhoTheyAre(t *testing.T) {
	t.Parallel()
	b := start(t, 0, 0, 0)
	if len(b.Addrs()) != 3 {
		t.Fatalf("%d backends, want 3", len(b.Addrs()))
	}
	for i, addr := range b.Addrs() {
		want := fmt.Sprintf("hello from backend-%d (%s)\n", i+1, addr)
		if _, got := get(t, addr, "/", "*/*"); got != want {
			t.Errorf("curl gets %q, want %q", got, want)
		}
	}
}

const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

func TestBackendsShowBrowsersAPage(t *testing.T) {
	t.Parallel()
	addr := start(t, 0).Addrs()[0]
	visit := func(nth int) {
		t.Helper()
		resp, got := get(t, addr, "/", browser)
		for _, part := range []string{
			"<!doctype html>", "<h1>backend-1</h1>", "<code>" + addr.String() + "</code>",
			fmt.Sprintf("its number %d.", nth), "hsl(137 60% 45%)",
		} {
			if !strings.Contains(got, part) {
				t.Errorf("page without %q:\n%s", part, got)
			}
		}
		for _, word := range []string{"name", "addr", "served", "hue"} {
			if strings.Contains(got, "{"+word+"}") {
				t.Errorf("{%s} was not filled in", word)
			}
		}
		if c := resp.Header.Get("Cache-Control"); c != "no-store" {
			t.Errorf("Cache-Control %q: a reload must come back to the service", c)
		}
	}
	visit(1)
	visit(2)
	if resp, _ := get(t, addr, "/favicon.ico", "image/*"); resp.StatusCode != http.StatusNoContent {
		t.Errorf("favicon: status %s", resp.Status)
	}
	visit(3) // the icon did not count
}

func TestBackendsMoveAwayFromTakenPorts(t *testing.T) {
	t.Parallel()
	taken := map[int]bool{}
	for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::]:0"} {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			t.Logf("not tried: %v", err)
			continue
		}
		defer ln.Close()
		taken[ln.Addr().(*net.TCPAddr).Port] = true
	}
	for port := range taken {
		b := start(t, port, port)
		for i, addr := range b.Addrs() {
			if taken[int(addr.Port())] {
				t.Errorf("backend %d is on port %d, which was taken", i+1, port)
			}
			if _, got := get(t, addr, "/", "*/*"); !strings.HasPrefix(got, "hello from backend-") {
				t.Errorf("backend %d says %q", i+1, got)
			}
		}
	}
}

// A killed backend ends its connections and refuses new ones, and it comes back at the
// same address.
func TestBackendsDieAndReturn(t *testing.T) {
	t.Parallel()
	all := start(t, 0)
	b, addr := all[0], all.Addrs()[0].String()
	for life := range 3 {
		quiet, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer quiet.Close()
		long, err := dialEcho(t.Context(), addr)
		if err != nil {
			t.Fatal(err)
		}
		defer long.Close()
		if want := fmt.Sprintf("backend-1/%d", life); long.backend != want || !all.lives(want) || long.ask() != nil || long.ask() != nil {
			t.Errorf("the connection is %+v, want %s", long, want)
		}
		b.Kill()
		b.Kill()
		for name, conn := range map[string]net.Conn{"quiet": quiet, "long": long} {
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := conn.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
				t.Errorf("the %s client read %v, want the end", name, err)
			}
		}
		if b.IsAlive() || all.lives(long.backend) {
			t.Error("it lives")
		}
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			t.Error("it accepts while it is dead")
		}
		if err := b.Return(); err != nil {
			t.Fatal(err)
		}
		if _, got := get(t, b.addr, "/", "*/*"); !strings.HasPrefix(got, "hello from backend-1") {
			t.Errorf("it says %q", got)
		}
	}
}

func TestBackendsClose(t *testing.T) {
	t.Parallel()
	b, err := Start([]int{0, 0})
	if err != nil {
		t.Fatal(err)
	}
	// The end of the context closes the connection of a silent client.
	conn, err := net.Dial("tcp", b.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	long, err := dialEcho(t.Context(), b.Addrs()[1].String())
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	b.Close(ctx)
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the silent client read %v, want the end", err)
	}
	if long.ask() == nil {
		t.Error("the long connection goes on")
	}
	for _, addr := range b.Addrs() {
		if conn, err := net.Dial("tcp", addr.String()); err == nil {
			conn.Close()
			t.Errorf("%s still listens after Close", addr)
		}
	}
}
