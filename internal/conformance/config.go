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

// Config is the proxy that a case wants: one service, of TCP and unix listeners
// or of UDP ones. Zero means the target's default, except where a field says
// more.
type Config struct {
	Listen   []Listener // none: one port of 127.0.0.1
	Backends []string   // "127.0.0.1:9001", "[::1]:9001@3,max=2", "unix:///run/x.sock", "127.0.0.2:10000-11999"; see ParseBackend

	Scheduler   string // in usher's words; empty: rr
	HashBits    int    // of an IPv4 address, which a hash looks at; zero: all
	HashBalance int    // no backend gets more than this percentage of its fair share

	ConnectTimeout   time.Duration // the whole budget of a client, over all backends
	IdleTimeout      time.Duration // no byte in either direction; zero: never for TCP
	HalfCloseTimeout time.Duration // one side has ended and the other is silent
	DrainTimeout     time.Duration
	Wait             time.Duration // how long a client waits when no backend answers; zero: not at all

	QueueLength  int // clients that wait while every backend has its max
	QueueTimeout time.Duration
	AbortOnClose bool          // a client that closes while it waits is not served
	Persist      time.Duration // a client keeps its backend until it has been away this long
	PersistBits  int           // of an IPv4 address, which are one client; zero: all
	MaxAge       time.Duration // of a flow, without jitter

	OnEmpty   string        // what clients get while there is no backend: close, drop, refuse
	OnDown    string        // what happens to the flows of a backend that checks take down: keep, fin, reset
	Eject     int           // failures in a row that take a backend out
	EjectTime time.Duration // for how long
	Panic     int           // percent of backends up, below which those that are down are used too
	SlowStart time.Duration // how long a backend that has come up takes to get its whole share

	MaxConns    int           // of the whole service; the next client is ended
	ReclaimIdle time.Duration // a connection idle for so long makes room for a client beyond MaxConns
	Workers     int
	Nofile      int // descriptor limit of the process, soft and hard

	Health    bool   // active checks, a few a second
	Probe     string // the check to run in place of a TCP connect, in usher's words
	Rise      int    // good checks in a row that bring a backend up again, of which five are made a second; zero: 1
	AsNobody  bool   // never as root
	AccessLog bool   // one JSON line a flow, see Proxy.AccessLog

	Reloads  bool   // the case changes the configuration while the process runs, see Proxy.Reload
	OnRemove string // what happens to the flows of a backend that a reload removes: fin, reset; empty: the default

	// Beside is the TCP backend of another service in the same process, see Proxy.Beside.
	// MaxConns is then of both services together. It is for UDP services alone.
	Beside       string
	BesideListen Listener // filled in by C.Start

	Access  Access
	Control string // socket of usher's API; empty: none

	// For UDP alone.
	UnrepliedTimeout time.Duration // silence that ends a flow which never got a reply
	Replies          int           // a flow ends after so many replies to each datagram; zero: not
	OnePacket        bool          // each datagram is scheduled anew
	MaxFlows         int           // of the service
	MaxClientFlows   int           // of one client address
}

// Listener is an address to accept on. C.Start fills in a Port or Path that is
// not set.
type Listener struct {
	Network string // "tcp" (also when empty), "udp" or "unix"
	Host    string // empty: 127.0.0.1; "*": every address of both families; "::": of IPv6
	Port    int
	Ports   int // consecutive ports from Port; 0 and 1: one
	Path    string
}

// String gives "127.0.0.1:8080", "127.0.0.1:8080-8099", ":8080",
// "udp://127.0.0.1:53" or "unix:///run/x.sock".
func (l Listener) String() string {
	switch l.Network {
	case "unix":
		return "unix://" + l.Path
	case "udp":
		return "udp://" + l.hostPort()
	}
	return l.hostPort()
}

func (l Listener) hostPort() string {
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

// isUDP reports whether the service carries datagrams.
func (cfg Config) isUDP() bool { return len(cfg.Listen) > 0 && cfg.Listen[0].Network == "udp" }

// isRange reports whether a backend stands for many ports.
func isRange(backend string) bool {
	if _, ok := unixPath(backend); ok {
		return false
	}
	_, port, err := net.SplitHostPort(backend)
	return err == nil && strings.Contains(port, "-")
}

// Command is how a target runs the proxy of a Config. It is one process in the
// foreground, which may have children in its own process group.
type Command struct {
	Path string
	Args []string
	Env  []string // added to the environment

	// Ready is what the process writes when it serves. If empty, it serves as soon as
	// its listeners exist.
	Ready string

	File   string              // what C.Start writes and the process reads; empty: none
	Text   func(Config) string // what File holds for a Config
	Reload syscall.Signal      // take up what File holds now
	Loaded string              // what the process writes when it has, and at start; empty: it can always do so again

	Drain syscall.Signal // stop accepting, let flows finish, exit 0
	Stop  syscall.Signal // during a drain: end at once
}

// Target is a proxy under test.
type Target interface {
	Name() string
	Version() string
	// Notes are sentences about the target's setup that help to read the table.
	Notes() []string
	// Command says how to run cfg, whose listeners have their addresses. It
	// calls c.Skipf for what the target cannot express.
	Command(c *C, cfg Config) Command
}
