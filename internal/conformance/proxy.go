//go:build linux

package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Proxy is a running process under test. Its methods may be called from any
// goroutine.
type Proxy struct {
	c     *C
	cmd   *exec.Cmd
	how   Command
	udp   bool // addrs are UDP's
	addrs []string
	out   output
	done  chan struct{} // closed when the process has been waited for
	ended time.Time     // an upper bound of its end; read it once done is closed
	asked bool          // Drain or Stop was called

	cfg      Config // that the process runs
	reloads  int    // so far, with a good file
	isMisled bool   // ReloadText was called

	beside string
}

// Start runs the proxy of cfg and waits until it listens.
func (c *C) Start(cfg Config) *Proxy { return c.startAs(c.target, cfg) }

// startAs is Start for a target that need not be the one of the case.
func (c *C) startAs(target Target, cfg Config) *Proxy {
	c.Step("the proxy to start")
	if len(cfg.Listen) == 0 {
		cfg.Listen = []Listener{{}}
	}
	if cfg.Scheduler == "" {
		cfg.Scheduler = "rr"
	}
	p := &Proxy{c: c, udp: cfg.isUDP()}
	for i := range cfg.Listen {
		l := &cfg.Listen[i]
		if l.Network == "unix" {
			l.Path = filepath.Join(c.TempDir(), "l")
			p.addrs = append(p.addrs, l.String())
			continue
		}
		if l.Host == "" {
			l.Host = "127.0.0.1"
		}
		if l.Host == "*" {
			if l.Port == 0 {
				l.Port = c.listenerPort(*l)
			}
			port := strconv.Itoa(l.Port)
			p.addrs = append(p.addrs, net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port))
			continue
		}
		if l.Port == 0 {
			l.Port = c.listenerPort(*l)
		}
		for n := range max(1, l.Ports) {
			p.addrs = append(p.addrs, net.JoinHostPort(l.Host, strconv.Itoa(l.Port+n)))
		}
	}
	if cfg.Beside != "" {
		cfg.BesideListen = Listener{Host: "127.0.0.1", Port: c.reserve("127.0.0.1", 0)}
		p.beside = cfg.BesideListen.String()
	}
	p.cfg, p.how = cfg, target.Command(c, cfg)
	if p.how.File != "" {
		c.Must(os.WriteFile(p.how.File, []byte(p.how.Text(cfg)), 0o644))
	}
	p.launch(cfg)
	return p
}

// launch starts the process and waits until it listens.
func (p *Proxy) launch(cfg Config) {
	c := p.c
	p.done = make(chan struct{})
	p.cmd = exec.Command(p.how.Path, p.how.Args...)
	if cfg.Nofile > 0 {
		args := append([]string{"-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, cfg.Nofile), p.how.Path}, p.how.Args...)
		p.cmd = exec.Command("/bin/sh", args...)
	}
	p.cmd.Dir = "/"
	p.cmd.Env = append(os.Environ(), p.how.Env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if cfg.AsNobody && os.Geteuid() == 0 {
		p.cmd.SysProcAttr.Credential = c.nobody()
	}
	if err := p.cmd.Start(); err != nil {
		c.Fatalf("start: %v", err)
	}
	go func() {
		p.cmd.Wait()
		p.ended = time.Now()
		close(p.done)
	}()
	c.Cleanup(p.kill)
	c.mu.Lock()
	c.proxies = append(c.proxies, p)
	c.mu.Unlock()

	c.Wait(c.within(10*time.Second), "the proxy to listen", func() bool {
		select {
		case <-p.done:
			c.Fatalf("the proxy ended at start: %v: %s", p.cmd.ProcessState, lastLine(p.Tail(4000)))
		default:
		}
		return p.isListening() && strings.Contains(p.out.String(), p.how.Ready)
	})
}

// listenerPort finds a free port and reserves it for the proxy until the case ends.
func (c *C) listenerPort(l Listener) int {
	switch {
	case l.Network == "udp":
		return c.udpPorts(max(1, l.Ports))
	case l.Host == "*":
		return c.reserve("::", 0)
	}
	return c.reserve(l.Host, 0)
}

func (c *C) nobody() *syscall.Credential {
	u, err := user.Lookup("nobody")
	if err != nil {
		c.Skipf("no user nobody to run as")
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (p *Proxy) kill() {
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// Addr is the first address to connect to, Addrs all of them.
func (p *Proxy) Addr() string    { return p.addrs[0] }
func (p *Proxy) Addrs() []string { return p.addrs }

// Beside is the address of the service of Config.Beside.
func (p *Proxy) Beside() string { return p.beside }

// Drain asks the process to stop accepting and to exit when its flows have
// finished.
func (p *Proxy) Drain() { p.signal(p.how.Drain) }

// Stop asks a draining process to end at once.
func (p *Proxy) Stop() { p.signal(p.how.Stop) }

// Reload has the process take up other backends, without waiting for that. Config.Reloads
// must be set. It belongs to the goroutine of the case.
func (p *Proxy) Reload(backends ...string) {
	p.cfg.Backends = backends
	p.reload()
}

// ReloadAccess is Reload for who may come in.
func (p *Proxy) ReloadAccess(a Access) {
	p.cfg.Access = a
	p.reload()
}

func (p *Proxy) reload() {
	p.awaitLoaded()
	p.reloads++
	p.c.Must(os.WriteFile(p.how.File, []byte(p.how.Text(p.cfg)), 0o644))
	p.c.Must(p.cmd.Process.Signal(p.how.Reload))
}

// awaitLoaded waits until the process has loaded what it was told to, as far as it says so.
// A signal that comes before can be lost.
func (p *Proxy) awaitLoaded() {
	if p.how.Loaded == "" {
		return
	}
	pid := p.cmd.Process.Pid
	p.c.Wait(p.c.patience(), "the proxy to be ready for a reload", func() bool {
		return strings.Count(p.out.String(), p.how.Loaded) > p.reloads && (isResting(pid) || isStopped(pid))
	})
}

// ReloadText has the process read a file that is none, and waits until it complains.
func (p *Proxy) ReloadText(text string) {
	p.awaitLoaded()
	p.c.mu.Lock()
	p.isMisled = true
	p.c.mu.Unlock()
	before := len(p.out.String())
	p.c.Must(os.WriteFile(p.how.File, []byte(text), 0o644))
	p.c.Must(p.cmd.Process.Signal(p.how.Reload))
	p.c.Wait(p.c.patience(), "the proxy to say that a file is bad", func() bool {
		return p.hasEnded() || len(p.out.String()) > before
	})
}

func (p *Proxy) signal(s syscall.Signal) {
	p.c.mu.Lock()
	p.asked = true
	p.c.mu.Unlock()
	p.c.Must(p.cmd.Process.Signal(s))
}

// Pause stops the process and its children. Data waits in the kernel until Resume.
func (p *Proxy) Pause() {
	p.c.Must(syscall.Kill(-p.cmd.Process.Pid, syscall.SIGSTOP))
	p.c.Wait(p.c.patience(), "the proxy to be stopped", func() bool {
		return !slices.ContainsFunc(p.PIDs(), func(pid int) bool { return !isStopped(pid) })
	})
}

func (p *Proxy) Resume() { p.c.Must(syscall.Kill(-p.cmd.Process.Pid, syscall.SIGCONT)) }

// Exit waits for the end of the process and returns its status.
func (p *Proxy) Exit(within time.Duration) (int, error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-time.After(within):
		return 0, fmt.Errorf("the proxy still runs %v later", within)
	}
}

// hasEnded is whether the process has exited.
func (p *Proxy) hasEnded() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Tail returns the last n bytes that the process wrote to stdout and stderr.
func (p *Proxy) Tail(n int) string {
	text := p.out.String()
	return text[max(0, len(text)-n):]
}

// AccessLog returns the lines about flows that the process has written so far
// (Config.AccessLog). They are JSON objects that have all of these fields.
func (p *Proxy) AccessLog(fields ...string) []map[string]any {
	var lines []map[string]any
next:
	for line := range strings.Lines(p.out.String()) {
		var m map[string]any
		if json.Unmarshal([]byte(line), &m) != nil {
			continue
		}
		for _, f := range fields {
			if _, ok := m[f]; !ok {
				continue next
			}
		}
		lines = append(lines, m)
	}
	return lines
}

// inspect runs at the end of each case, while the proxies still run. A proxy must not
// have died or crashed, whatever the case tests.
func (c *C) inspect() {
	c.mu.Lock()
	proxies := c.proxies
	c.mu.Unlock()
	for _, p := range proxies {
		text := p.out.String()
		for _, sign := range []string{"panic: ", "fatal error: ", "WARNING: DATA RACE", "SIGSEGV", "[emerg]"} {
			if at := strings.Index(text, sign); at >= 0 && !(p.isMisled && sign == "[emerg]") {
				c.Errorf("the proxy crashed: %.200s", text[at:])
			}
		}
		c.mu.Lock()
		asked := p.asked
		c.mu.Unlock()
		select {
		case <-p.done:
			if !asked {
				c.Errorf("the proxy died: %v", p.cmd.ProcessState)
			}
		default:
		}
	}
}

// output keeps what a process writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// maxOutput bounds the memory for a process that writes without end.
const maxOutput = 32 << 20

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.buf.Len() > maxOutput {
		o.buf.Reset()
	}
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// lookPath finds a server's binary, also in the directories of root's PATH.
func lookPath(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/sbin"} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", errors.New(name + " is not installed")
}
