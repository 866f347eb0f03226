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

// Nginx runs an installed nginx with its stream module.
type Nginx struct{ path, version, module string }

// FindNginx looks for the binary and its stream module.
func FindNginx() (*Nginx, error) {
	path, err := lookPath("nginx")
	if err != nil {
		return nil, err
	}
	out, err := exec.Command(path, "-V").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("nginx -V: %w", err)
	}
	n := &Nginx{path: path}
	if m := regexp.MustCompile(`nginx/(\S+)`).FindSubmatch(out); m != nil {
		n.version = string(m[1])
	}
	if regexp.MustCompile(`--with-stream(\s|$)`).Match(out) {
		return n, nil // compiled in
	}
	dirs := []string{"/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/libexec/nginx"}
	if m := regexp.MustCompile(`--modules-path=(\S+)`).FindSubmatch(out); m != nil {
		dirs = append([]string{string(m[1])}, dirs...)
	}
	for _, dir := range dirs {
		n.module = filepath.Join(dir, "ngx_stream_module.so")
		if _, err := os.Stat(n.module); err == nil {
			return n, nil
		}
	}
	return nil, fmt.Errorf("nginx %s has no stream module", n.version)
}

func (n *Nginx) Name() string    { return "nginx" }
func (n *Nginx) Version() string { return n.version }
func (n *Nginx) Notes() []string {
	return []string{"`proxy_half_close on`, an upstream `zone` so that the workers share their counters, a `proxy_connect_timeout` of a quarter of the connect budget, `limit_conn` for the limits of connections and flows, `worker_connections` where services share one; `set_real_ip_from` for headers of the PROXY protocol, `ssl_preread` with a `map` and `preread_buffer_size 32k` for server names; for UDP `listen … udp reuseport`, `proxy_buffer_size 64k` (the default cuts datagrams at 16 KiB), `proxy_timeout`, `proxy_responses`, and `proxy_requests 1` where each datagram is to be scheduled anew."}
}

// Command has a configuration file as an operator would write it for cfg.
func (n *Nginx) Command(c *C, cfg Config) Command {
	dir := c.TempDir()
	command := Command{
		Path: n.path, Drain: syscall.SIGQUIT, Stop: syscall.SIGTERM,
		File: filepath.Join(dir, "nginx.conf"), Text: func(cfg Config) string { return n.config(c, cfg, dir) },
		Reload: syscall.SIGHUP,
	}
	command.Args = []string{"-e", "stderr", "-c", command.File}
	return command
}

// config is what is in the file.
func (n *Nginx) config(c *C, cfg Config, dir string) string {
	switch {
	case len(cfg.Access.Sources) > 0:
		c.Skipf("the services are written in usher's words")
	case cfg.OnEmpty != "":
		c.Skipf("wants a backend")
	case cfg.OnRemove != "":
		c.Skipf("has its old workers serve the flows of a backend that is removed")
	case cfg.AccessLog:
		c.Skipf("the words of the access log are usher's")
	case cfg.Wait > 0:
		c.Skipf("cannot hold a client until a backend answers")
	case cfg.Health:
		c.Skipf("has no active checks")
	case cfg.UnrepliedTimeout > 0:
		c.Skipf("has no timeout of its own for flows without a reply")
	case cfg.HalfCloseTimeout > 0:
		c.Skipf("has no timeout for half-closed flows")
	case cfg.ReclaimIdle > 0:
		c.Skipf("ends no idle connection for a new one, but those kept alive of http")
	case cfg.Persist > 0:
		c.Skipf("remembers no client's backend")
	case cfg.MaxAge > 0:
		c.Skipf("has no limit for the age of a flow")
	case cfg.Eject > 0:
		c.Skipf("does not see that a backend resets connections that it has accepted")
	case cfg.QueueLength > 0:
		c.Skipf("has no queue for clients of full backends")
	case cfg.HashBits > 0 || cfg.HashBalance > 0:
		c.Skipf("has no such hash")
	}
	n.refuses(c, cfg)
	scheduler, ok := map[string]string{
		"rr": "", "wrr": "", "lc": "least_conn;", "wlc": "least_conn;", "p2c": "random two least_conn;",
		"mh": "hash $remote_addr consistent;", "ring": "hash $remote_addr consistent;", "sh": "hash $remote_addr;",
	}[cfg.Scheduler]
	if !ok {
		c.Skipf("has no scheduler like %s", cfg.Scheduler)
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	ms := func(word string, d time.Duration) {
		if d > 0 {
			line("    %s %dms;", word, d.Milliseconds())
		}
	}
	if n.module != "" {
		line("load_module %s;", n.module)
	}
	line("daemon off;")
	line("pid %s/pid;", dir)
	line("error_log stderr error;")
	if cfg.Workers > 0 {
		line("worker_processes %d;", cfg.Workers)
	} else {
		line("worker_processes auto;")
	}
	ms("worker_shutdown_timeout", cfg.DrainTimeout)
	connections, limit := 8192, cmp.Or(cfg.MaxFlows, cfg.MaxConns)
	if cfg.Beside != "" && cfg.MaxConns > 0 { // what all services share: two of them a flow
		connections, limit = 2*cfg.MaxConns, cfg.MaxFlows
	}
	line("events { worker_connections %d; }", connections)
	line("stream {")
	if limit > 0 {
		line("  limit_conn_zone $server_addr zone=conns:1m;")
	}
	if cmp.Or(cfg.MaxClientFlows, cfg.Access.ClientConns) > 0 {
		line("  limit_conn_zone $binary_remote_addr zone=client:1m;")
	}
	pass := "service"
	if isRange(cfg.Backends[0]) {
		host, _, _ := net.SplitHostPort(cfg.Backends[0])
		pass = host + ":$server_port"
	} else {
		line("  upstream service {")
		line("    zone service 256k;")
		if scheduler != "" {
			line("    %s", scheduler)
		}
		for _, word := range cfg.Backends {
			b := ParseBackend(word)
			addr, options := b.Addr, fmt.Sprintf(" weight=%d", b.Weight)
			if b.Backup {
				options += " backup"
			}
			switch {
			case b.Upper > 0:
				c.Skipf("has no thresholds for the flows of a backend")
			case b.Agent > 0:
				c.Skipf("asks no agents of backends")
			}
			if b.Max > 0 {
				options += fmt.Sprintf(" max_conns=%d", b.Max)
			}
			if path, ok := unixPath(addr); ok {
				addr = "unix:" + path
			}
			line("    server %s%s;", addr, options)
		}
		line("  }")
	}
	if len(cfg.Access.Names) > 0 {
		cfg.Access.nginxNames(line)
		pass = "$service"
	}
	line("  server {")
	cfg.Access.nginxServer(line)
	for _, l := range cfg.Listen {
		options := "so_keepalive=on"
		if l.Network == "udp" {
			options = "udp reuseport"
		}
		if cfg.Access.AcceptProxy != "" {
			options += " proxy_protocol"
		}
		switch {
		case l.Network == "unix":
			line("    listen unix:%s %s;", l.Path, options)
		case l.Host == "*":
			line("    listen [::]:%d ipv6only=off %s;", l.Port, options)
		default:
			line("    listen %s %s;", l.hostPort(), options)
		}
	}
	line("    proxy_pass %s;", pass)
	if cfg.isUDP() {
		line("    proxy_buffer_size 64k;") // else it cuts datagrams at 16 KiB
		if cfg.Replies > 0 {
			line("    proxy_responses %d;", cfg.Replies)
		}
		if cfg.OnePacket {
			line("    proxy_requests 1;")
		}
	} else {
		line("    proxy_half_close on;")
		line("    proxy_socket_keepalive on;")
	}
	ms("proxy_connect_timeout", cfg.ConnectTimeout/4)
	ms("proxy_timeout", cfg.IdleTimeout)
	if limit > 0 {
		line("    limit_conn conns %d;", limit)
	}
	if limit := cmp.Or(cfg.MaxClientFlows, cfg.Access.ClientConns); limit > 0 {
		line("    limit_conn client %d;", limit)
	}
	line("  }")
	if cfg.Beside != "" {
		line("  server { listen %s; proxy_pass %s; }", cfg.BesideListen, cfg.Beside)
	}
	line("}")
	return b.String()
}
