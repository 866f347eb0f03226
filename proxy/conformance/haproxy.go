//go:build linux

package conformance

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// HAProxy runs an installed HAProxy in TCP mode.
type HAProxy struct{ path, version string }

// FindHAProxy looks for the binary; the error says that there is none.
func FindHAProxy() (*HAProxy, error) {
	path, err := lookPath("haproxy")
	if err != nil {
		return nil, err
	}
	out, err := exec.Command(path, "-v").Output()
	if err != nil {
		return nil, fmt.Errorf("haproxy -v: %w", err)
	}
	h := &HAProxy{path: path}
	if m := regexp.MustCompile(`version (\d+(\.\d+)+)`).FindSubmatch(out); m != nil {
		h.version = string(m[1])
	}
	return h, nil
}

func (h *HAProxy) Name() string    { return "HAProxy" }
func (h *HAProxy) Version() string { return h.version }
func (h *HAProxy) Notes() []string {
	return []string{"`option splice-auto`, `option redispatch 1`, `retries 3`, a `timeout connect` of a quarter of the connect budget, and `tcp-request connection reject` in place of `maxconn` (which queues)."}
}

// Command writes a configuration file as an operator would who wants what cfg
// says.
func (h *HAProxy) Command(c *C, cfg Config) Command {
	if cfg.udp() {
		c.Skipf("carries no UDP")
	}
	if cfg.Wait > 0 {
		c.Skipf("cannot hold a client until a backend answers")
	}
	if cfg.AccessLog {
		c.Skipf("the words of the access log are usher's")
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	ms := func(word string, d time.Duration) {
		if d > 0 {
			line("    %s %dms", word, d.Milliseconds())
		}
	}
	line("global")
	if cfg.Workers > 0 {
		line("    nbthread %d", cfg.Workers)
	}
	ms("hard-stop-after", cfg.DrainTimeout)
	line("listen service")
	line("    mode tcp")
	line("    option splice-auto")
	line("    option redispatch 1")
	line("    retries 3")
	line("    option clitcpka")
	line("    option srvtcpka")
	ms("timeout connect", cmp.Or(cfg.ConnectTimeout, 20*time.Second)/4)
	for _, side := range []string{"client", "server", "tunnel"} {
		ms("timeout "+side, cmp.Or(cfg.IdleTimeout, 10*time.Minute))
	}
	ms("timeout client-fin", cfg.HalfCloseTimeout)
	ms("timeout server-fin", cfg.HalfCloseTimeout)
	line("    balance %s", map[string]string{"rr": "roundrobin", "lc": "leastconn", "mh": "source"}[cfg.Scheduler])
	for _, l := range cfg.Listen {
		switch {
		case l.Network == "unix":
			line("    bind %s mode 777", l.Path)
		case l.Host == "*":
			line("    bind :::%d v4v6", l.Port)
		default:
			line("    bind %s", l)
		}
	}
	if cfg.MaxConns > 0 {
		line("    tcp-request connection reject if { fe_conn gt %d }", cfg.MaxConns)
	}
	for i, addr := range cfg.Backends {
		if path, ok := unixPath(addr); ok {
			addr = "unix@" + path
		} else if isRange(addr) {
			addr, _, _ = net.SplitHostPort(addr) // without a port: the client's
		}
		check := ""
		if cfg.Health {
			check = " check inter 200ms rise 1 fall 2"
		}
		line("    server s%d %s%s", i, addr, check)
	}
	file := filepath.Join(c.TempDir(), "haproxy.cfg")
	c.Must(os.WriteFile(file, []byte(b.String()), 0o644))
	return Command{
		Path: h.path, Args: []string{"-db", "-f", file},
		Drain: syscall.SIGUSR1, Stop: syscall.SIGTERM,
	}
}
