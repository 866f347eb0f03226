package health_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"usher/health"
	"usher/proxy/proxyheader"
)

// prefaceListener takes the preface of each connection off.
type prefaceListener struct {
	net.Listener
	t       testing.TB
	preface string
}

func (l prefaceListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	got := make([]byte, len(l.preface))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != l.preface {
		l.t.Errorf("the connection begins with %q, %v", got, err)
	}
	return conn, nil
}

// TestPreface: each kind of check sends it first, and then what it would send without.
func TestPreface(t *testing.T) {
	t.Parallel()
	const preface = "PROXY UNKNOWN\r\n"
	good := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "all is well") })
	identity := newIdentity(t, "127.0.0.1")
	servers := map[string]func(net.Listener){
		"http":             func(ln net.Listener) { serveHTTP(t, ln, &http.Server{Handler: good}) },
		"http tls":         func(ln net.Listener) { serveHTTP(t, identity.over(ln), &http.Server{Handler: good}) },
		"http status only": func(ln net.Listener) { serveHTTP(t, ln, &http.Server{Handler: good}) },
		"send/expect":      func(ln net.Listener) { serveConns(t, ln, redis("+PONG\r\n")) },
		"send/expect tls":  func(ln net.Listener) { serveConns(t, identity.over(ln), redis("+PONG\r\n")) },
		"grpc":             func(ln net.Listener) { serveGRPC(t, ln, answerCall(serving, "0")) },
		"grpc tls":         func(ln net.Listener) { serveGRPC(t, identity.over(ln, "h2"), answerCall(serving, "0")) },
	}
	checks := streamChecks(t)
	for name, start := range servers {
		ln, target := listen(t, "tcp")
		start(prefaceListener{ln, t, preface})
		expectCheck(t, health.WithPreface(checks[name], []byte(preface)), target, false, "")
	}
	for _, network := range []string{"tcp", "unix"} {
		ln, target := listen(t, network)
		result := serve(ln, "")
		expectCheck(t, health.WithPreface(health.TCP{}, []byte(preface)), target, false, "")
		if got := <-result; string(got.data) != preface || got.err != nil {
			t.Errorf("%s: the backend saw %q and %v, want the preface and a clean end", network, got.data, got.err)
		}
	}
	target := answer(t, func(request []byte) [][]byte {
		payload, ok := bytes.CutPrefix(request, []byte(preface))
		if !ok {
			t.Errorf("the datagram begins with %q", request)
		}
		if string(payload) == "ping" {
			return [][]byte{[]byte("pong")}
		}
		return [][]byte{reply(payload, 0x8180, 0, 0, "")}
	})
	expectCheck(t, health.WithPreface(health.UDP{Send: "ping", Expect: "pong"}, []byte(preface)), target, false, "")
	expectCheck(t, health.WithPreface(newDNS(t, "example.com"), []byte(preface)), target, false, "")
}

// TestPrefaceOfHAProxy: HAProxy takes the headers that checks send, and refuses a check
// without one.
func TestPrefaceOfHAProxy(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("haproxy")
	if err != nil {
		t.Skip("haproxy is not installed")
	}
	dir, err := os.MkdirTemp("", "usher")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket, config := filepath.Join(dir, "s"), filepath.Join(dir, "cfg")
	text := fmt.Sprintf("defaults\n mode http\n timeout client 1m\nfrontend f\n bind unix@%s accept-proxy\n http-request return status 200\n", socket)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	run := exec.Command(program, "-f", config, "-db")
	run.Stdout, run.Stderr = &output, &output
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = run.Wait(); close(ended) }()
	t.Cleanup(func() { _ = run.Process.Kill(); <-ended })
	target := health.Target{Name: "b", Network: "unix", Address: socket}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for (health.TCP{}).Check(ctx, target) != nil {
		select {
		case <-ended:
			t.Skipf("haproxy: %s", output.Bytes())
		case <-ctx.Done():
			t.Fatal("haproxy does not listen")
		case <-time.After(10 * time.Millisecond):
		}
	}
	c := newHTTP(t, health.HTTPOptions{})
	local := proxyheader.Header{Local: true}
	for name, preface := range map[string][]byte{"v1": proxyheader.AppendV1(nil, &local), "v2": proxyheader.AppendV2(nil, &local)} {
		if err := health.WithPreface(c, preface).Check(ctx, target); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.Check(ctx, target); err == nil {
		t.Error("haproxy takes a check without a header")
	}
}
