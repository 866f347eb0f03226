//go:build linux

package conformance

import (
	"cmp"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Usher runs a binary of this module.
type Usher struct {
	Path    string
	Engine  string // epoll or portable
	Release string // what Version says
	Env     []string
}

func (u *Usher) Name() string    { return "usher " + u.Engine }
func (u *Usher) Version() string { return u.Release }
func (u *Usher) Notes() []string { return nil }

// Command needs no file: all of it is flags. For reloads usher makes a file of them.
func (u *Usher) Command(c *C, cfg Config) Command {
	command := Command{
		Path: u.Path, Args: u.args(cfg), Env: u.Env, Drain: syscall.SIGTERM, Stop: syscall.SIGTERM,
		// A port has a socket of each worker, and only the process knows which is the
		// last.
		Ready: `"msg":"serving"`,
	}
	if cfg.Reloads {
		command.File, command.Reload = filepath.Join(c.TempDir(), "usher.yaml"), syscall.SIGHUP
		command.Text = func(cfg Config) string {
			text, err := exec.CommandContext(c.ctx, u.Path, append([]string{"config"}, u.args(cfg)...)...).Output()
			c.Must(err)
			return string(text)
		}
		command.Args = []string{"--config", command.File}
	}
	return command
}

func (u *Usher) args(cfg Config) []string {
	args := []string{"--engine", u.Engine, "--control", cmp.Or(cfg.Control, "off"), "--log-format", "json", "--scheduler", cfg.Scheduler}
	args = append(args, cfg.Access.nameArgs(cfg.Listen)...)
	for i, s := range cfg.Access.Sources {
		for _, l := range cfg.Listen {
			at := fmt.Sprintf("source%d=%s", i, l)
			if s.From != "" {
				at += ",from=" + s.From
			}
			args = append(args, "--listen", at)
		}
		args = append(args, "--backend", fmt.Sprintf("source%d=%s", i, s.Backend))
	}
	if cfg.Access.NamesOnly || len(cfg.Access.Sources) > 0 {
		cfg.Listen, cfg.Backends = nil, nil
	}
	for _, l := range cfg.Listen {
		args = append(args, "--listen", l.String())
	}
	for _, b := range cfg.Backends {
		args = append(args, "--backend", b)
		if port := ParseBackend(b).Agent; port > 0 {
			args = append(args, "--agent", fmt.Sprintf("%d,interval=500ms", port)) // all have their own
		}
	}
	if cfg.Beside != "" {
		args = append(args, "--listen", "beside="+cfg.BesideListen.String(), "--backend", "beside="+cfg.Beside)
	}
	check := "off"
	if cfg.Health {
		check = fmt.Sprintf("%s,interval=500ms,timeout=500ms,rise=%d,fall=2,interval-down=200ms", cmp.Or(cfg.Probe, "tcp"), cmp.Or(cfg.Rise, 1))
	}
	args = append(args, "--health", check)
	args = append(args, u.accessArgs(cfg)...)
	word := func(flag, format string, values ...any) { args = append(args, flag, fmt.Sprintf(format, values...)) }
	if cfg.HashBits > 0 {
		word("--hash-key", "addr/%d", cfg.HashBits)
	}
	if cfg.QueueLength > 0 {
		word("--queue", "%d,%v", cfg.QueueLength, cfg.QueueTimeout)
	}
	if cfg.Persist > 0 {
		word("--persist", "%v/%d", cfg.Persist, cmp.Or(cfg.PersistBits, 32))
	}
	if cfg.MaxAge > 0 {
		word("--max-age", "%v,jitter=0", cfg.MaxAge)
	}
	if cfg.OnEmpty != "" {
		word("--on-empty", "%s", cfg.OnEmpty)
	}
	if cfg.OnDown != "" {
		word("--on-down", "%s", cfg.OnDown)
	}
	if cfg.OnRemove != "" {
		word("--on-remove", "%s", cfg.OnRemove)
	}
	if cfg.Eject > 0 {
		word("--eject", "%d,time=%v", cfg.Eject, cfg.EjectTime)
	}
	duration := func(flag string, d time.Duration) {
		if d > 0 {
			args = append(args, flag, d.String())
		}
	}
	duration("--connect-timeout", cfg.ConnectTimeout)
	if cfg.isUDP() {
		duration("--udp-idle-timeout", cfg.IdleTimeout)
		duration("--udp-unreplied-timeout", cfg.UnrepliedTimeout)
	} else {
		duration("--idle-timeout", cfg.IdleTimeout)
	}
	duration("--half-close-timeout", cfg.HalfCloseTimeout)
	duration("--reclaim-idle", cfg.ReclaimIdle)
	duration("--drain-timeout", cfg.DrainTimeout)
	duration("--wait", cfg.Wait)
	duration("--slow-start", cfg.SlowStart)
	number := func(flag string, n int) {
		if n > 0 {
			args = append(args, flag, strconv.Itoa(n))
		}
	}
	number("--max-conns", cfg.MaxConns)
	number("--hash-balance", cfg.HashBalance)
	number("--panic", cfg.Panic)
	number("--workers", cfg.Workers)
	number("--udp-replies", cfg.Replies)
	number("--max-flows", cfg.MaxFlows)
	number("--max-client-flows", cfg.MaxClientFlows)
	if cfg.AbortOnClose {
		args = append(args, "--abort-on-close")
	}
	if cfg.OnePacket {
		args = append(args, "--ops")
	}
	if cfg.AccessLog {
		args = append(args, "--access-log")
	}
	return args
}
