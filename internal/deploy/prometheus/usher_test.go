package prometheus

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"usher/internal/api"
	"usher/internal/command"
)

// asUsher has the test binary be usher, in place of running tests.
const asUsher = "USHER_OF_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(asUsher) == "" {
		os.Exit(m.Run())
	}
	os.Exit(command.Main(context.Background(), os.Args, os.Stdout, os.Stderr))
}

// config has a service of each kind that queries are about. Its backends are filled in.
const config = `services:
  web: {listen: ["127.0.0.1:0"], backends: ["%[1]s"]}
  full: {listen: ["127.0.0.1:0"], backends: [{address: "%[1]s", max: 1}]}
  gone: {listen: ["127.0.0.1:0"], backends: ["%[2]s"], connect-timeout: 1s, health: "off"}
  shut: {listen: ["127.0.0.1:0"], backends: ["%[1]s"], deny: 127.0.0.0/8, on-deny: refuse}
  dns: {listen: ["udp://127.0.0.1:0"], backends: ["udp://%[3]s"], health: "off"}
rules: ["-p tcp --dport 1 -m comment --comment nobody -j DROP"]
`

// usher is one that runs, with an API and its metrics.
type usher struct {
	client *api.Client
	admin  string // HOST:PORT
}

// startUsher runs usher until the test ends, and has it serve and refuse clients of each service.
func startUsher(t *testing.T) *usher {
	t.Helper()
	folder := t.TempDir()
	file, socket := filepath.Join(folder, "usher.yaml"), filepath.Join(folder, "u.sock")
	if err := os.WriteFile(file, fmt.Appendf(nil, config, echoTCP(t), closedPort(t), echoUDP(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self, "-c", file, "--admin", "127.0.0.1:0", "--control", socket, "--log-format", "json", "--workers", "1")
	c.Env = append(os.Environ(), asUsher+"=1", "XDG_RUNTIME_DIR="+folder)
	u := &usher{client: api.NewClient(socket)}
	u.admin = awaitLog(t, c, regexp.MustCompile(`"msg":"admin address","listen":"([^"]+)"`), regexp.MustCompile(`"msg":"serving"`))
	u.serve(t)
	return u
}

// awaitLog starts a command and returns what the group of the first pattern matched in its log, once all have matched.
// The process ends before the test does.
func awaitLog(t *testing.T, c *exec.Cmd, patterns ...*regexp.Regexp) string {
	t.Helper()
	log, err := c.StderrPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	read, ready, text := make(chan struct{}), make(chan string, 1), new(strings.Builder)
	t.Cleanup(func() {
		_ = c.Process.Kill()
		<-read
		_ = c.Wait()
	})
	go func() { // ends with the process
		defer close(read)
		defer close(ready)
		matched := make([]string, len(patterns))
		for in := bufio.NewScanner(log); slices.Contains(matched, "") && in.Scan(); {
			fmt.Fprintln(text, in.Text())
			for i, p := range patterns {
				if m := p.FindStringSubmatch(in.Text()); m != nil {
					matched[i] = m[len(m)-1]
				}
			}
		}
		if !slices.Contains(matched, "") {
			ready <- matched[0]
			_, _ = io.Copy(io.Discard, log)
		}
	}()
	found, isReady := <-ready
	if !isReady {
		t.Fatalf("%s has ended:\n%s", c.Path, text)
	}
	return found
}

// serve has each service do what it is there for.
func (u *usher) serve(t *testing.T) {
	t.Helper()
	all, err := u.client.Services(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all.Services {
		at := strings.TrimPrefix(s.Listen[0], "udp://")
		for range 2 {
			isServed := s.Name == "web" || s.Name == "dns"
			c, err := net.Dial(s.Network, at)
			if err != nil && isServed {
				t.Fatal(err)
			} else if err != nil {
				continue // who is refused at once may find it here
			}
			t.Cleanup(func() { _ = c.Close() }) // the second client of full finds no place
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			_, _ = c.Write([]byte("hello"))
			if _, err := c.Read(make([]byte, 5)); err != nil && isServed {
				t.Fatalf("%s: %v", s.Name, err)
			}
			if s.Name != "full" {
				_ = c.Close()
			}
		}
	}
}

// labels returns the names of the labels of each metric.
func (u *usher) labels(t *testing.T) map[string][]string {
	t.Helper()
	answer, err := http.Get("http://" + u.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	series, label := regexp.MustCompile(`^([a-z0-9_]+)(\{.*\})? `), regexp.MustCompile(`([a-z_]+)="`)
	all := make(map[string][]string)
	for in := bufio.NewScanner(answer.Body); in.Scan(); {
		m := series.FindStringSubmatch(in.Text())
		if m == nil {
			continue
		}
		names := []string{}
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			names = append(names, l[1])
		}
		all[m[1]] = names
	}
	return all
}

// echoTCP returns the address of a server that sends back what it gets, until the test ends.
func echoTCP(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the client, which usher closes
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

// echoUDP is echoTCP for datagrams.
func echoUDP(t *testing.T) string {
	t.Helper()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the socket
		b := make([]byte, 1500)
		for {
			n, from, err := l.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = l.WriteTo(b[:n], from)
		}
	}()
	return l.LocalAddr().String()
}

// closedPort returns an address on which nobody listens: of a socket that is bound alone.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.LocalAddr().String()
}
