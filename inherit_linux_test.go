package main

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// activated starts usher as systemd does, with sockets that listen already.
func activated(t *testing.T, runtime, names string, sockets []*os.File, words ...string) *exec.Cmd {
	t.Helper()
	program, err := exec.LookPath("usher")
	if err != nil {
		t.Fatal(err)
	}
	script := `LISTEN_PID=$$ LISTEN_FDS=` + strconv.Itoa(len(sockets)) + ` LISTEN_FDNAMES=` + names + ` exec "$@"`
	cmd := exec.Command("sh", append([]string{"-c", script, "sh", program}, words...)...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+runtime, "LISTEN_FDS=9") // of no consequence
	cmd.ExtraFiles = sockets
	return cmd
}

// listening returns a socket and its address.
func listening(t *testing.T, network, address string) (*os.File, string) {
	t.Helper()
	var f *os.File
	var at net.Addr
	var err error
	switch network {
	case "udp":
		c, failed := net.ListenPacket(network, address)
		if err = failed; err == nil {
			at = c.LocalAddr()
			f, err = c.(*net.UDPConn).File()
			c.Close()
		}
	default:
		var config net.ListenConfig
		config.SetMultipathTCP(false)
		l, failed := config.Listen(t.Context(), network, address)
		if err = failed; err == nil {
			at = l.Addr()
			if l, ok := l.(*net.UnixListener); ok {
				l.SetUnlinkOnClose(false)
			}
			f, err = l.(interface{ File() (*os.File, error) }).File()
			l.Close()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, at.String()
}

// TestSocketActivation: usher serves by the sockets that systemd has passed, also after an upgrade, and leaves them whole
// for the next start. Programs that check health do not get to know.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	runtime, err := os.MkdirTemp("", "usher")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(runtime) })
	web, webAt := listening(t, "tcp", "127.0.0.1:0")
	app, appAt := listening(t, "unix", filepath.Join(runtime, "app"))
	dns, dnsAt := listening(t, "udp", "127.0.0.1:0")
	backend, datagrams := echoBackend(t, false), udpBackend(t)
	seen := filepath.Join(runtime, "seen")
	words := []string{
		"--name", "act", "--engine", "epoll", "--workers", "2", "-l", "web=" + webAt, "-b", "web=" + backend, "-l", "app=unix://" + appAt, "-b", "app=" + backend,
		"-l", "dns=udp://" + dnsAt, "-b", "dns=" + datagrams,
		"--health", `web=exec:sh -c 'env > ` + seen + `.part; mv ` + seen + `.part ` + seen + `'`,
	}
	check := func() {
		t.Helper()
		for _, to := range [][2]string{{"tcp", webAt}, {"unix", appAt}, {"udp", dnsAt}} {
			if !eventually(func() bool {
				c, err := net.Dial(to[0], to[1])
				if err != nil {
					return false
				}
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience / 10))
				_, _ = io.WriteString(c, "hello\n")
				n, err := c.Read(make([]byte, 64))
				return n > 0 && err == nil
			}) {
				t.Fatalf("nobody answers at %v", to)
			}
		}
	}
	for range 2 { // a service manager keeps the sockets between two starts
		cmd := activated(t, runtime, "web:app:any", []*os.File{web, app, dns}, words...)
		var log strings.Builder
		cmd.Stderr = &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		fail := func(what string) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Fatalf("%s:\n%s", what, &log)
		}
		check()
		for range 2 {
			up := exec.Command(cmd.Args[4], "upgrade", "--name", "act")
			up.Env = cmd.Env
			if out, err := up.CombinedOutput(); err != nil {
				fail(string(out))
			}
			check()
		}
		if text, err := os.ReadFile(seen); err != nil || strings.Contains(string(text), "LISTEN_") {
			t.Errorf("a program of a health check has read %s, %v", text, err)
		}
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v:\n%s", err, &log)
		}
	}
	if _, err := os.Lstat(appAt); err != nil {
		t.Errorf("the file of the service manager: %v", err)
	}
	_, elsewhere := listening(t, "tcp", "127.0.0.1:0")
	for _, tt := range []struct{ names, listen, want string }{
		{"web", "127.0.0.1:0", "systemd passed web (" + webAt + "), but service web listens on 127.0.0.1:"},
		{"web", elsewhere, "systemd passed web (" + webAt + "), but service web listens on " + elsewhere},
		{"web", strings.Replace(webAt, "127.0.0.1", "0.0.0.0", 1), "systemd passed web (" + webAt + "), but service web listens on 0.0.0.0:"},
		{"x.socket", "127.0.0.1:0", "systemd passed x.socket (" + webAt + "), where no service listens"},
		{"", "127.0.0.1:0", "systemd passed unknown (" + webAt + "), where no service listens"},
		{"a:b", "127.0.0.1:0", "LISTEN_FDNAMES has 2 names for 1 sockets"},
	} {
		out, err := activated(t, runtime, tt.names, []*os.File{web}, "-l", "web="+tt.listen, "-b", "web="+backend, "--name", "no").CombinedOutput()
		if err == nil || !strings.Contains(string(out), tt.want) {
			t.Errorf("%v: %v, %s", tt, err, out)
		}
	}
}
