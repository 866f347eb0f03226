//go:build linux

package conformance

import (
	"cmp"
	"fmt"
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

// Command needs no file: all of it is flags.
func (u *Usher) Command(_ *C, cfg Config) Command {
	args := []string{"--engine", u.Engine, "--log-format", "json", "--scheduler", cfg.Scheduler}
	for _, l := range cfg.Listen {
		args = append(args, "--listen", l.String())
	}
	for _, b := range cfg.Backends {
		args = append(args, "--backend", b)
		if port := ParseBackend(b).Agent; port > 0 {
			args = append(args, "--agent", fmt.Sprintf("%d,interval=500ms", port)) // all have their own
		}
	}
	check := "off"
	if cfg.Health {
		check = cmp.Or(cfg.Probe, "tcp") + ",interval=500ms,timeout=500ms,rise=1,fall=2,interval-down=200ms"
	}
	args = append(args, "--health", check)
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
	if cfg.OnDown != "" {
		word("--on-down", "%s", cfg.OnDown)
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
	if cfg.udp() {
		duration("--udp-idle-timeout", cfg.IdleTimeout)
		duration("--udp-unreplied-timeout", cfg.UnrepliedTimeout)
	} else {
		duration("--idle-timeout", cfg.IdleTimeout)
	}
	duration("--half-close-timeout", cfg.HalfCloseTimeout)
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
	if cfg.OnePacket {
		args = append(args, "--ops")
	}
	if cfg.AccessLog {
		args = append(args, "--access-log")
	}
	return Command{
		Path: u.Path, Args: args, Env: u.Env, Drain: syscall.SIGTERM, Stop: syscall.SIGTERM,
		// A port has a socket of each worker, and there is no telling from outside
		// which is the last.
		Ready: `"msg":"serving"`,
	}
}
