package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"usher/internal/revision"
)

// proxy is one contender.
type proxy struct {
	name    string
	version string
	// perFlow is how many descriptors it holds for an idle flow at most, by
	// network. It has none for a network that it does not serve.
	perFlow map[string]int
	// command returns the command that runs it in the foreground. It writes its files
	// to dir. The proxy itself may write to dir/runDir.
	command func(dir string, s service) (*exec.Cmd, error)
}

// canServe reports whether the proxy can do w.
func (p *proxy) canServe(w *workload) bool { return p.perFlow[w.network()] > 0 }

// service is the configuration of a proxy.
type service struct {
	network  string // "tcp" or "udp"
	listen   netip.AddrPort
	backends []netip.AddrPort
	more     []string // arguments of usher, or lines of HAProxy's section
}

const runDir = "run"

// finder finds a proxy by name.
type finder struct {
	name string
	find func(ctx context.Context, f findOptions) (proxy, error)
}

var finders = []finder{
	{"usher", func(ctx context.Context, f findOptions) (proxy, error) { return findUsher(ctx, f, "epoll") }},
	{"usher-portable", func(ctx context.Context, f findOptions) (proxy, error) { return findUsher(ctx, f, "portable") }},
	{"haproxy", func(ctx context.Context, f findOptions) (proxy, error) { return findHAProxy(ctx, f, "splice-auto") }},
	{"haproxy-splice", func(ctx context.Context, f findOptions) (proxy, error) {
		return findHAProxy(ctx, f, "splice-request", "splice-response")
	}},
	{"nginx", findNginx},
}

// findOptions are what the setup of a proxy depends on.
type findOptions struct {
	usher string // usher's binary
	root  string // of the module that it was built from; empty if it was given
	conns int    // connections that a peer must have room for
	flows int    // of UDP, likewise
}

// connsWithin is how many flows fit into a limit of descriptors, with some left for
// other uses.
func connsWithin(limit uint64, perFlow int) int {
	return int(limit-min(limit, 500)) / perFlow
}

// maxPeerConns bounds the room of peers: nginx allocates it at once.
const maxPeerConns = 20000

// buildUsher builds the module's root into dir and returns the binary.
func buildUsher(ctx context.Context, dir string) (binary, root string, err error) {
	if root, err = revision.Root(ctx); err != nil {
		return "", "", err
	}
	binary = filepath.Join(dir, "usher")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, ".")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("build usher: %w\n%s", err, bytes.TrimSpace(out))
	}
	return binary, root, nil
}

func findUsher(ctx context.Context, f findOptions, engine string) (proxy, error) {
	info, err := buildinfo.ReadFile(f.usher)
	if err != nil {
		return proxy{}, err
	}
	// A UDP flow holds one. But usher derives its limit of flows from that of
	// descriptors with two for each flow.
	perFlow := map[string]int{"tcp": 2, "udp": 2}
	version, err := revision.Of(ctx, f.usher, f.root)
	if err != nil {
		return proxy{}, err
	}
	return proxy{
		version: fmt.Sprintf("%s, engine %s, %s", version, engine, info.GoVersion),
		perFlow: perFlow,
		command: func(_ string, s service) (*exec.Cmd, error) {
			args := []string{
				"--engine", engine, "--control", "off", "--workers", "1", "--scheduler", "rr",
				"--health", "off", "--log-level", "error", "--listen", s.network + "://" + s.listen.String(),
			}
			if s.network == "udp" {
				// The end of the load ends no flow of UDP: nothing to drain.
				args = append(args, "--udp-idle-timeout", "10m", "--drain-timeout", "0s", "--max-client-flows", "off")
			}
			for _, b := range s.backends {
				args = append(args, "--backend", b.String())
			}
			return exec.Command(f.usher, append(args, s.more...)...), nil
		},
	}, nil
}

// haproxyConfig turns splicing on and costly features off, both against the defaults.
// splice-auto leaves the choice to HAProxy. It looks at a stream only on wake-up: some
// versions never splice one that flows smoothly. The other two options always splice,
// which is expensive for small messages. So there are two contenders.
const haproxyConfig = `global
    nbthread 1
    maxconn %[1]d
defaults
    mode tcp
    timeout connect 5s
    timeout client 10m
    timeout server 10m
%[4]slisten bench
    bind %[2]s
    balance roundrobin
%[3]s`

func findHAProxy(ctx context.Context, f findOptions, splice ...string) (proxy, error) {
	binary, err := exec.LookPath("haproxy")
	if err != nil {
		return proxy{}, err
	}
	out, err := exec.CommandContext(ctx, binary, "-v").CombinedOutput()
	if err != nil {
		return proxy{}, fmt.Errorf("ask HAProxy for its version: %w", err)
	}
	return proxy{
		version: match(out, `HAProxy version (\S+)`) + ", " + strings.Join(splice, ", "),
		perFlow: map[string]int{"tcp": 3}, // it sets pipes aside for a quarter of its connections
		command: func(dir string, s service) (*exec.Cmd, error) {
			var servers strings.Builder
			for _, line := range s.more {
				fmt.Fprintf(&servers, "    %s\n", line)
			}
			for i, b := range s.backends {
				fmt.Fprintf(&servers, "    server b%d %s\n", i, b)
			}
			var options strings.Builder
			for _, option := range splice {
				fmt.Fprintf(&options, "    option %s\n", option)
			}
			file, err := writeConfig(dir, "haproxy.cfg", fmt.Sprintf(haproxyConfig, f.conns, s.listen, &servers, &options))
			if err != nil {
				return nil, err
			}
			return exec.Command(binary, "-db", "-f", file), nil
		},
	}, nil
}

// nginxConfig keeps the defaults that affect the cost of a stream. max_fails=0 turns
// passive health checks off. The backlog is the same as the others'. UDP flows end
// after proxy_timeout, 10 minutes by default, and have no limit of replies.
const nginxConfig = `%[1]s
daemon off;
worker_processes 1;
pid %[2]s/nginx.pid;
error_log stderr crit;
events {
    worker_connections %[3]d;
}
stream {
    upstream backends {
%[4]s    }
    server {
        listen %[5]s;
        proxy_pass backends;
    }
}
`

func findNginx(ctx context.Context, f findOptions) (proxy, error) {
	binary, err := exec.LookPath("nginx")
	if err != nil {
		return proxy{}, err
	}
	out, err := exec.CommandContext(ctx, binary, "-V").CombinedOutput()
	if err != nil {
		return proxy{}, fmt.Errorf("ask nginx for its version: %w", err)
	}
	module, err := nginxModule(string(out))
	if err != nil {
		return proxy{}, err
	}
	return proxy{
		version: match(out, `nginx version: nginx/(\S+)`),
		perFlow: map[string]int{"tcp": 2, "udp": 1},
		command: func(dir string, s service) (*exec.Cmd, error) {
			listen, conns := s.listen.String()+" backlog=4096", f.conns
			if s.network == "udp" {
				listen, conns = s.listen.String()+" udp reuseport", f.flows
			}
			var servers strings.Builder
			for _, b := range s.backends {
				fmt.Fprintf(&servers, "        server %s max_fails=0;\n", b)
			}
			// A worker's connections are those of both sides, of UDP too.
			file, err := writeConfig(dir, "nginx.conf",
				fmt.Sprintf(nginxConfig, module, filepath.Join(dir, runDir), 2*conns+100, &servers, listen))
			if err != nil {
				return nil, err
			}
			return exec.Command(binary, "-e", "stderr", "-p", dir, "-c", file), nil
		},
	}, nil
}

// nginxModule returns the line that loads the stream module, empty where it is
// built in, given what nginx -V says.
func nginxModule(configured string) (string, error) {
	words := strings.Fields(configured)
	var dirs []string
	for _, word := range words {
		if word == "--with-stream" {
			return "", nil
		}
		if dir, ok := strings.CutPrefix(word, "--modules-path="); ok {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range append(dirs, "/usr/lib/nginx/modules", "/usr/lib64/nginx/modules") {
		file := filepath.Join(dir, "ngx_stream_module.so")
		if _, err := os.Stat(file); err == nil {
			return "load_module " + file + ";", nil
		}
	}
	return "", fmt.Errorf("nginx has no stream module (Debian: libnginx-mod-stream)")
}

// writeConfig writes a file that any user may read.
func writeConfig(dir, name, text string) (string, error) {
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return "", err
	}
	return file, nil
}

// match returns the first group of pattern in text, "unknown" if it is not there.
func match(text []byte, pattern string) string {
	if m := regexp.MustCompile(pattern).FindSubmatch(text); m != nil {
		return string(m[1])
	}
	return "unknown"
}
