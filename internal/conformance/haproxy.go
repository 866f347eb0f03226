//go:build linux

package conformance

import (
	"cmp"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// HAProxy runs an installed HAProxy in TCP mode.
type HAProxy struct{ path, version string }

// FindHAProxy looks for the binary.
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
	return []string{"`option splice-auto`, `option redispatch 1`, `retries 3`, a `timeout connect` of a quarter of the connect budget, and `tcp-request connection reject` in place of `maxconn` (which queues); `tcp-request` rules with stick tables for limits of clients, `tune.bufsize 32768` and an `inspect-delay` for server names."}
}

// Command has a configuration file as an operator would write it for cfg.
func (h *HAProxy) Command(c *C, cfg Config) Command {
	command := Command{
		Path: h.path, Args: []string{"-db", "-f"},
		Drain: syscall.SIGUSR1, Stop: syscall.SIGTERM,
		File: filepath.Join(c.TempDir(), "haproxy.cfg"), Text: func(cfg Config) string { return h.config(c, cfg) },
		Reload: syscall.SIGUSR2,
	}
	if cfg.Reloads {
		command.Args, command.Loaded = []string{"-W", "-db", "-f"}, "Loading success"
	}
	command.Args = append(command.Args, command.File)
	return command
}

// config is what is in the file.
func (h *HAProxy) config(c *C, cfg Config) string {
	if cfg.isUDP() {
		c.Skipf("carries no UDP")
	}
	if cfg.OnRemove != "" {
		c.Skipf("has its old process serve the flows of a backend that is removed")
	}
	if cfg.ReclaimIdle > 0 {
		c.Skipf("ends no idle connection for a new one")
	}
	if cfg.Wait > 0 {
		c.Skipf("cannot hold a client until a backend answers")
	}
	if cfg.AccessLog {
		c.Skipf("the words of the access log are usher's")
	}
	balance := map[string]string{
		"rr": "roundrobin", "wrr": "roundrobin", "lc": "leastconn", "wlc": "leastconn", "p2c": "random(2)",
		"mh": "source", "sh": "source", "ring": "source",
	}[cfg.Scheduler]
	switch {
	case balance == "":
		c.Skipf("has no scheduler like %s", cfg.Scheduler)
	case cfg.HashBits > 0:
		c.Skipf("cannot balance by a part of the client's address")
	case cfg.MaxAge > 0:
		c.Skipf("has no limit for the age of a flow")
	case cfg.Eject > 0:
		c.Skipf("does not see that a backend resets connections that it has accepted")
	case len(cfg.Access.Sources) > 0:
		c.Skipf("the services are written in usher's words")
	case cfg.OnEmpty != "":
		c.Skipf("does not choose what clients get where there is no backend")
	case cfg.Panic > 0:
		c.Skipf("never uses backends that are down")
	case cfg.OnDown == "fin":
		c.Skipf("has one way only of ending the flows of a backend that is down")
	case cfg.Probe != "" && !strings.HasPrefix(cfg.Probe, "http:/"):
		c.Skipf("the check is written in usher's words")
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
	if len(cfg.Access.Names) > 0 {
		line("    tune.bufsize 32768") // else no ClientHello of 16 KiB fits
	}
	ms("hard-stop-after", cfg.DrainTimeout)
	line("listen service")
	line("    mode tcp")
	line("    option splice-auto")
	line("    option redispatch 1")
	line("    retries 3")
	line("    option clitcpka")
	line("    option srvtcpka")
	if cfg.AbortOnClose {
		line("    option abortonclose")
	}
	ms("timeout connect", cmp.Or(cfg.ConnectTimeout, 20*time.Second)/4)
	for _, side := range []string{"client", "server", "tunnel"} {
		ms("timeout "+side, cmp.Or(cfg.IdleTimeout, 10*time.Minute))
	}
	ms("timeout client-fin", cfg.HalfCloseTimeout)
	ms("timeout server-fin", cfg.HalfCloseTimeout)
	line("    balance %s", balance)
	if cfg.Scheduler == "ring" || cfg.HashBalance > 0 {
		line("    hash-type consistent")
	}
	if cfg.HashBalance > 0 {
		line("    hash-balance-factor %d", cfg.HashBalance)
	}
	ms("timeout queue", cfg.QueueTimeout)
	h.access(c, cfg, line)
	if cfg.Persist > 0 {
		line("    stick-table type ip size 10k expire %dms", cfg.Persist.Milliseconds())
		line("    stick on src,ipmask(%d)", cmp.Or(cfg.PersistBits, 32))
	}
	if path, ok := strings.CutPrefix(cfg.Probe, "http:"); ok && cfg.Health {
		line("    option httpchk GET %s", path)
	}
	options := ""
	if cfg.Access.AcceptProxy != "" && cfg.Access.ProxyOnly {
		options = " accept-proxy"
	}
	for _, l := range cfg.Listen {
		switch {
		case l.Network == "unix":
			line("    bind %s mode 777%s", l.Path, options)
		case l.Host == "*":
			line("    bind :::%d v4v6%s", l.Port, options)
		case l.Host == "::":
			line("    bind :::%d v6only%s", l.Port, options)
		default:
			line("    bind %s%s", l, options)
		}
	}
	if cfg.MaxConns > 0 {
		line("    tcp-request connection reject if { fe_conn gt %d }", cfg.MaxConns)
	}
	for i, word := range cfg.Backends {
		b := ParseBackend(word)
		addr := b.Addr
		if path, ok := unixPath(addr); ok {
			addr = "unix@" + path
		} else if isRange(addr) {
			addr, _, _ = net.SplitHostPort(addr) // without a port: the client's
		}
		options := fmt.Sprintf(" weight %d", b.Weight)
		if cfg.Health {
			options += fmt.Sprintf(" check inter 200ms rise %d fall 2", cmp.Or(cfg.Rise, 1))
		}
		switch {
		case b.Upper > 0:
			c.Skipf("has no thresholds for the flows of a backend")
		case b.Check > 0:
			options += fmt.Sprintf(" port %d", b.Check)
		}
		if b.Agent > 0 {
			options += fmt.Sprintf(" agent-check agent-port %d agent-inter 500ms", b.Agent)
		}
		if b.Backup {
			options += " backup"
		}
		if b.Max > 0 {
			options += fmt.Sprintf(" maxconn %d", b.Max)
		}
		if cfg.SlowStart > 0 {
			options += fmt.Sprintf(" slowstart %dms", cfg.SlowStart.Milliseconds())
		}
		if cfg.OnDown == "reset" {
			options += " on-marked-down shutdown-sessions"
		}
		line("    server s%d %s%s%s", i, addr, options, cfg.Access.haproxyServer())
	}
	cfg.Access.haproxyNames(line)
	return b.String()
}
