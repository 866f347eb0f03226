package app

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
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
	const services = 30
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

// An address of a name that is our own listener is left out, with one warning. So is a loop through two services.
func TestNamesThatLeadBack(t *testing.T) {
	t.Parallel()
	// Nobody else listens on this address, and no kernel gives its ports to anybody.
	v4 := netip.AddrFrom4([4]byte{127, 230, byte(os.Getpid() >> 8), byte(os.Getpid())})
	names := book{"here.test": {v4, netip.IPv6Loopback()}, "lone.test": {v4}}
	host := v4.String() + ":"
	cfg := parse(t, flags.Words{
		Listen:  []string{"self=" + host + "8001", "one=" + host + "8002", "two=" + host + "8003", "lone=" + host + "8004", "dns=udp://" + host + "5353"},
		Backend: []string{"self=here.test:8001", "self=" + greeter(t), "one=here.test:8003", "two=here.test:8002", "lone=lone.test", "dns=lone.test", "dns=here.test:8004"},
		Options: []flags.Option{{Name: "health", Value: "off"}},
	})
	log := run(t, cfg, names)
	log.await(t, `"msg":"serving"`)
	for want, times := range map[string]int{
		"backend " + host + "8001 of service self is its own listener":                                1,
		" leads back to its listener " + host:                                                         1, // of the one that came last
		`"msg":"backend left out"`:                                                                    4,
		`"so":"none is left, clients are refused"`:                                                    1,
		"backend udp://" + v4.String() + " of service dns is its own listener udp://" + host + "5353": 1,
	} {
		if got := strings.Count(log.String(), want); got != times {
			t.Errorf("logged %d times %s:\n%s", got, want, log)
		}
	}
	conn, err := net.Dial("tcp", host+"8001")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
}
