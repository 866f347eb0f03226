//go:build linux

package conformance

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Config is the proxy that a case wants: one TCP service. Zero means the
// target's default, except where a field says more.
type Config struct {
	Listen   []Listener // none: one port of 127.0.0.1
	Backends []string   // "127.0.0.1:9001", "[::1]:9001", "unix:///run/x.sock", "127.0.0.2:10000-11999"

	Scheduler string // rr, lc; empty: rr

	ConnectTimeout   time.Duration // the whole budget of a client, over all backends
	IdleTimeout      time.Duration // no byte in either direction; zero: never
	HalfCloseTimeout time.Duration // one side has ended and the other is silent
	DrainTimeout     time.Duration
	Wait             time.Duration // how long a client is held when no backend answers; zero: not

	MaxConns int // of the whole service; the next client is ended
	Workers  int
	Nofile   int // descriptor limit of the process, soft and hard

	Health    bool // active checks, a few a second
	AsNobody  bool // never as root
	AccessLog bool // one JSON line a flow, see Proxy.AccessLog
}

// Listener is an address to accept on. C.Start fills in a Port or Path that is
// not set.
type Listener struct {
	Network string // "tcp" (also when empty) or "unix"
	Host    string // empty: 127.0.0.1; "*": every address of both families
	Port    int
	Ports   int // consecutive ports from Port; 0 and 1: one
	Path    string
}

// String gives "127.0.0.1:8080", "127.0.0.1:8080-8099", ":8080" or
// "unix:///run/x.sock".
func (l Listener) String() string {
	if l.Network == "unix" {
		return "unix://" + l.Path
	}
	port := strconv.Itoa(l.Port)
	if l.Ports > 1 {
		port = fmt.Sprintf("%d-%d", l.Port, l.Port+l.Ports-1)
	}
	if l.Host == "*" {
		return ":" + port
	}
	return net.JoinHostPort(l.Host, port)
}

// unixPath returns the path of a unix:// address.
func unixPath(addr string) (path string, ok bool) {
	return strings.CutPrefix(addr, "unix://")
}

// isRange reports whether a backend stands for many ports.
func isRange(backend string) bool {
	if _, ok := unixPath(backend); ok {
		return false
	}
	_, port, err := net.SplitHostPort(backend)
	return err == nil && strings.Contains(port, "-")
}

// Command is how a target runs the proxy of a Config: one process in the
// foreground, which may have children in its own process group.
type Command struct {
	Path string
	Args []string
	Env  []string // added to the environment

	Drain syscall.Signal // stop accepting, let flows finish, exit 0
	Stop  syscall.Signal // during a drain: end at once
}

// Target is a proxy under test.
type Target interface {
	Name() string
	Version() string
	// Notes are sentences on how the target was set up where that matters for
	// reading the table.
	Notes() []string
	// Command says how to run cfg, whose listeners have their addresses. It
	// calls c.Skipf for what the target cannot express.
	Command(c *C, cfg Config) Command
}
