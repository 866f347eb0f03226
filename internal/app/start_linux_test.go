package app

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"usher/internal/flags"
)

// mute returns a loopback address where connects get no answer: the backlog of its listener is full.
func mute(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	loopback := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := unix.Bind(fd, loopback); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(client) })
		if err := unix.Connect(client, name); err != nil && err != unix.EINPROGRESS {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
}

func TestStartIsNotHeldUpByChecks(t *testing.T) {
	t.Parallel()
	const services = 10
	words := flags.Words{Options: []flags.Option{{Name: "health", Value: "tcp,interval=1h,timeout=1h"}}}
	for i := range services {
		words.Listen = append(words.Listen, fmt.Sprintf("service%d=127.0.0.1:0", i))
		words.Backend = append(words.Backend, fmt.Sprintf("service%d=%s", i, mute(t)))
	}
	c := parse(t, words)
	began := time.Now()
	log := run(t, c, book{})
	log.await(t, `"msg":"serving"`)
	const firstRound = 2 * time.Second
	if took := time.Since(began); took < firstRound || took > services/2*firstRound {
		t.Errorf("serving after %v, want %v for all services together", took, firstRound)
	}
	if strings.Contains(log.String(), "all backends") {
		t.Errorf("down before any check has ended:\n%s", log)
	}
}

// A terminal without control sequences receives none.
func TestDemoOnADumbTerminal(t *testing.T) {
	for _, kind := range []string{"dumb", "xterm"} {
		t.Setenv("TERM", kind)
		master, slave := pty(t)
		ctx, cancel := context.WithCancel(t.Context())
		c := parse(t, flags.Words{Listen: []string{"demo=8080"}, Backend: []string{"demo=9001"}})
		var seen lines
		var reading sync.WaitGroup
		reading.Go(func() {
			buf := make([]byte, 4096)
			for {
				n, err := master.Read(buf) // fails when the slave is closed
				_, _ = seen.Write(buf[:n])
				if err != nil {
					return
				}
			}
		})
		result := make(chan error, 1)
		go func() { result <- Demo(ctx, c, Env{Stdout: slave, Stderr: slave}) }()
		seen.await(t, "Ctrl-C ends it")
		if kind == "xterm" {
			seen.await(t, "\x1b")
		}
		cancel()
		if err := <-result; err != nil {
			t.Error(err)
		}
		slave.Close()
		reading.Wait()
		seen.await(t, "backend-1 ") // the last frame, or the summary
		if got := strings.Contains(seen.String(), "\x1b"); got != (kind != "dumb") {
			t.Errorf("TERM=%s: control sequences %v:\n%q", kind, got, &seen)
		}
	}
}

// pty returns both ends of a new pseudo terminal.
func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}
