package app

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestNotify: a service manager reads when clients are served, when a reload begins and ends, and when the end begins. It is
// not parallel: the environment and the signal are the whole process's.
func TestNotify(t *testing.T) {
	folder, err := os.MkdirTemp("", "usher")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(folder)
	for _, name := range []string{filepath.Join(folder, "notify"), "@usher-" + filepath.Base(folder)} {
		socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("NOTIFY_SOCKET", name)
		expect := func(pattern string) {
			t.Helper()
			text := make([]byte, 4096)
			_ = socket.SetReadDeadline(time.Now().Add(patience))
			n, err := socket.Read(text)
			if err != nil || !regexp.MustCompile("^"+pattern+"$").Match(text[:n]) {
				t.Fatalf("%q, %v, want %s", text[:n], err, pattern)
			}
		}
		file := filepath.Join(folder, "usher.yaml")
		write := func(text string) {
			t.Helper()
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(`services: {web: {listen: "127.0.0.1:0", backends: "127.0.0.1:1", health: off}}`)
		ctx, cancel := context.WithCancel(t.Context())
		log, result := new(lines), make(chan error, 1)
		go func() { result <- Run(ctx, Start{File: file}, Env{Stdout: log, Stderr: log, Version: "v1"}) }()
		expect("READY=1\nSTATUS=serving 1 service, version v1")
		reload := func() {
			t.Helper()
			if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			expect(`RELOADING=1\nMONOTONIC_USEC=[1-9]\d*\nSTATUS=reloading`)
		}
		reload()
		expect("READY=1\nSTATUS=serving 1 service, version v1")
		write("services: {}\n")
		reload()
		expect("READY=1\nSTATUS=serving 0 services, version v1")
		write("bad")
		reload()
		expect("READY=1\nSTATUS=serving 0 services, version v1")
		cancel()
		expect("STOPPING=1\nSTATUS=draining")
		if err := <-result; err != nil {
			t.Error(err)
		}
		socket.Close()
	}
	// Without anybody there it goes on.
	t.Setenv("NOTIFY_SOCKET", filepath.Join(folder, "none"))
	if err := notify("READY=1"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
}
