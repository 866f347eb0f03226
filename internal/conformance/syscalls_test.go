//go:build linux

package conformance_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"usher/internal/race"
)

// calls are system calls of one unit of work, by name. All that receive count as "receive",
// all that send as "send", all that wait for events as "wait".
type calls map[string]float64

// budgets are the calls that the epoll engine may make for a unit of work. They are
// measured figures: lower one when the engine saves a call. Each event has a wait, and
// events that come together share one. As many again are allowed: on a busy machine the
// loop's short waits end before there is an event.
var budgets = []struct {
	name    string
	network string
	begin   func(*service) (unit func() error, err error)
	calls   calls
}{
	{"connect, request and close", "tcp", (*service).visit, calls{
		// The second accept, if any, finds nothing. A flow has six events.
		"accept4": 2, "socket": 1, "connect": 1, "getsockname": 1, "setsockopt": 3, "epoll_ctl": 2,
		"receive": 5, "send": 2, "shutdown": 1, "close": 2, "wait": 12,
	}},
	{"64 B there and back", "tcp", (*service).pingPong, calls{"receive": 2, "send": 2, "wait": 4}},
	{"a datagram and its reply", "udp", (*service).datagrams, calls{"receive": 2, "send": 2, "wait": 4}},
}

const (
	budgetUnits = 500
	budgetSlack = 0.5 // a call, for what happens now and then, such as a timer
)

// TestSystemCalls counts the calls of usher with one worker. A unit begins when the one
// before has ended, so the count hardly depends on how busy the machine is.
func TestSystemCalls(t *testing.T) {
	t.Parallel()
	if race.Enabled {
		t.Skip("the race detector makes calls of its own")
	}
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip(err)
	}
	for _, tt := range budgets {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startService(t, tt.network)
			unit, err := tt.begin(s)
			if err != nil {
				t.Fatal(err)
			}
			do := func(times int) {
				for i := range times {
					if err := unit(); err != nil {
						t.Fatalf("unit %d: %v", i, err)
					}
				}
			}
			do(20)
			stop := traceProcess(t, s.pid)
			do(budgetUnits)
			made := stop()
			t.Logf("in %d units: %v", budgetUnits, made)
			for name, n := range made {
				if n /= budgetUnits; n > tt.calls[name]+budgetSlack {
					t.Errorf("%s: %.2f calls a unit, the budget is %v", name, n, tt.calls[name])
				}
			}
			if made["send"] < budgetUnits {
				t.Errorf("%.0f calls that send in %d units: the trace has gaps", made["send"], budgetUnits)
			}
		})
	}
}

// service is a usher with one worker, and the backend, which is this test.
type service struct {
	pid      int
	addr     string
	listener net.Listener   // of the backend, TCP
	packets  net.PacketConn // of the backend, UDP
	b        [64]byte
}

func startService(t *testing.T, network string) *service {
	t.Helper()
	// An address of its own: no other test takes the port.
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, byte(64 + rand.N(64)), byte(rand.N(256)), byte(1 + rand.N(254))}), 20000)
	s := &service{addr: at.String()}
	var backend net.Addr
	var err error
	if network == "udp" {
		if s.packets, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.packets.Close() })
		backend = s.packets.LocalAddr()
	} else {
		if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.listener.Close() })
		backend = s.listener.Addr()
	}
	cmd := exec.Command(usher(t), "--engine", "epoll", "--workers", "1", "--health", "off", "--log-format", "json",
		"--listen", network+"://"+s.addr, "--backend", backend.String())
	startUntil(t, cmd, `"msg":"serving"`)
	s.pid = cmd.Process.Pid
	return s
}

// startUntil starts a process and returns when it has written a text to stderr. The
// channel is closed when the process has ended. The end of the test ends the process.
func startUntil(t *testing.T, cmd *exec.Cmd, text string) (done chan struct{}) {
	t.Helper()
	said := &listener{text: []byte(text), heard: make(chan struct{})}
	cmd.Stderr = said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done = make(chan struct{})
	go func() {
		cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-done
	})
	select {
	case <-said.heard:
	case <-done:
		if bytes.Contains(said.all, []byte("Operation not permitted")) {
			t.Skipf("%s", said.all)
		}
		t.Fatalf("%s ended: %s", cmd, said.all)
	}
	return done
}

// listener waits for a text in the output of a process.
type listener struct {
	text, all []byte // all is kept only until text is found
	heard     chan struct{}
	isOver    bool
}

func (l *listener) Write(b []byte) (int, error) {
	if !l.isOver {
		l.all = append(l.all, b...)
		if l.isOver = bytes.Contains(l.all, l.text); l.isOver {
			close(l.heard)
		}
	}
	return len(b), nil
}

// dial connects through usher, and returns the backend's end as well.
func (s *service) dial() (client, server net.Conn, err error) {
	if client, err = net.Dial("tcp", s.addr); err != nil {
		return nil, nil, err
	}
	if server, err = s.listener.Accept(); err != nil {
		client.Close()
		return nil, nil, err
	}
	deadline := time.Now().Add(10 * time.Minute) // for all units
	client.SetDeadline(deadline)
	server.SetDeadline(deadline)
	return client, server, nil
}

func (s *service) visit() (func() error, error) {
	return func() error {
		client, server, err := s.dial()
		if err != nil {
			return err
		}
		defer server.Close()
		err = s.exchange(client, server)
		client.Close()
		if err != nil {
			return err
		}
		if n, err := server.Read(s.b[:]); err != io.EOF {
			return fmt.Errorf("the backend reads %d bytes, %v, want the end", n, err)
		}
		return nil
	}, nil
}

// exchange sends 64 bytes there and back.
func (s *service) exchange(client, server net.Conn) error {
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		if _, err := way[0].Write(s.b[:]); err != nil {
			return err
		}
		if _, err := io.ReadFull(way[1], s.b[:]); err != nil {
			return err
		}
	}
	return nil
}

// pingPong is a round trip on one connection, which ends with its processes.
func (s *service) pingPong() (func() error, error) {
	client, server, err := s.dial()
	return func() error { return s.exchange(client, server) }, err
}

func (s *service) datagrams() (func() error, error) {
	client, err := net.Dial("udp", s.addr)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(10 * time.Minute) // for all units
	client.SetDeadline(deadline)
	s.packets.SetDeadline(deadline)
	return func() error {
		if _, err := client.Write(s.b[:]); err != nil {
			return err
		}
		_, from, err := s.packets.ReadFrom(s.b[:])
		if err != nil {
			return err
		}
		if _, err := s.packets.WriteTo(s.b[:], from); err != nil {
			return err
		}
		_, err = client.Read(s.b[:])
		return err
	}, nil
}

// kinds maps calls to the names that they count as.
var kinds = map[string][]string{
	"receive": {"read", "readv", "recvfrom", "recvmsg", "recvmmsg"},
	"send":    {"write", "writev", "sendto", "sendmsg", "sendmmsg"},
	"wait":    {"epoll_wait", "epoll_pwait", "epoll_pwait2"},
	// The Go runtime's own, for threads, memory and the clock.
	"": {"futex", "nanosleep", "clock_nanosleep", "sched_yield", "restart_syscall", "tgkill", "getpid", "gettid",
		"rt_sigreturn", "rt_sigprocmask", "rt_sigaction", "sigaltstack", "clone", "clone3", "rseq", "set_robust_list",
		"mmap", "munmap", "mprotect", "madvise", "exit", "timer_settime", "timer_create", "timer_delete"},
}

// traceProcess has strace count the calls of all threads of a process until stop, which
// returns them.
func traceProcess(t *testing.T, pid int) (stop func() calls) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "calls")
	cmd := exec.Command("strace", "-f", "-c", "-o", out, "-p", strconv.Itoa(pid))
	done := startUntil(t, cmd, "attached")
	return func() calls {
		cmd.Process.Signal(syscall.SIGINT) // it detaches, and writes the table
		<-done
		table, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return parseCalls(table)
	}
}

// parseCalls reads the table of strace -c: share, seconds, µs a call, calls, errors if any,
// and the name. A wait that a signal of the Go scheduler has interrupted does not count.
func parseCalls(table []byte) calls {
	made := make(calls)
	for line := range bytes.Lines(table) {
		words := strings.Fields(string(line))
		if len(words) < 5 || words[len(words)-1] == "total" {
			continue
		}
		n, err := strconv.ParseFloat(words[3], 64)
		if err != nil {
			continue // the head, or a ruler
		}
		name := words[len(words)-1]
		for kind, names := range kinds {
			if slices.Contains(names, name) {
				name = kind
			}
		}
		if errors, err := strconv.ParseFloat(words[4], 64); name == "wait" && err == nil {
			n -= errors
		}
		if name != "" {
			made[name] += n
		}
	}
	return made
}
