package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Target is what a check is aimed at. It is comparable and identifies itself in a
// [Monitor]: targets that differ in any field are checked separately.
type Target struct {
	Name    string     // the owner's label; no check reads it
	Network string     // "tcp", "unix" or "udp"
	Address string     // "127.0.0.1:9001", "[::1]:9001" or the path of a socket
	Source  netip.Addr // the local address to ask from; not valid: the kernel chooses

	preface string // see WithPreface; only for the time of a check
}

// Checker checks a target once. Nil means healthy; an error says why not, unless it
// wraps [ErrInconclusive].
//
// Check is called concurrently for different targets. It returns soon after ctx ends,
// and leaves nothing running.
type Checker interface {
	Check(ctx context.Context, t Target) error
}

// ErrInconclusive is wrapped by the error of a check that could not be made, for
// example without a free file descriptor. It counts neither for nor against the
// target: a balancer without descriptors must not declare its backends dead.
var ErrInconclusive = errors.New("check not possible")

// dialer returns one that connects from the source.
func (t Target) dialer() net.Dialer {
	// Keepalive would cost system calls on a connection that lives for one request.
	d := net.Dialer{KeepAlive: -1}
	if from := netip.AddrPortFrom(t.Source, 0); t.Source.IsValid() && t.Network == "udp" {
		d.LocalAddr = net.UDPAddrFromAddrPort(from)
	} else if t.Source.IsValid() && t.Network == "tcp" {
		d.LocalAddr, d.Control = net.TCPAddrFromAddrPort(from), leavePortToConnect
	}
	return d
}

// host returns the host of the address, "localhost" for a unix socket. It drops a
// zone, which means something on this host only.
func (t Target) host() string {
	host, _, err := net.SplitHostPort(t.Address)
	if t.Network == "unix" || err != nil {
		return "localhost"
	}
	host, _, _ = strings.Cut(host, "%")
	return host
}

// authority returns the target's name in a request: its address without a zone,
// "localhost" for a unix socket.
func (t Target) authority() string {
	_, port, err := net.SplitHostPort(t.Address)
	if t.Network == "unix" || err != nil {
		return "localhost"
	}
	return net.JoinHostPort(t.host(), port)
}

// validateAuthority returns why a host, with or without a port, cannot be part of a
// request.
func validateAuthority(authority string) error {
	const others = "-._:[]"
	for _, c := range []byte(authority) {
		isLetter := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
		if !isLetter && strings.IndexByte(others, c) < 0 {
			return fmt.Errorf("%.80q is not a host name or address", authority)
		}
	}
	host, port, hasPort := strings.Cut(authority, ":")
	if inside, ok := strings.CutPrefix(authority, "["); ok {
		var isClosed bool
		host, port, isClosed = strings.Cut(inside, "]")
		if ip, err := netip.ParseAddr(host); !isClosed || err != nil || !ip.Is6() {
			return fmt.Errorf("%.80q is not a host name or address: brackets are for addresses of IPv6", authority)
		}
		if port, hasPort = strings.CutPrefix(port, ":"); !hasPort && port != "" {
			return fmt.Errorf("%.80q is not a host name or address", authority)
		}
	} else if strings.ContainsAny(host, "[]") || host == "" && hasPort {
		return fmt.Errorf("%.80q is not a host name or address", authority)
	}
	if n, err := strconv.ParseUint(port, 10, 16); hasPort && (err != nil || n == 0) {
		return fmt.Errorf("%.80q is not a host name or address: %.20q is no port (IPv6 needs brackets)", authority, port)
	}
	return nil
}

// hostname returns an authority without its port and brackets.
func hostname(authority string) string {
	if host, _, err := net.SplitHostPort(authority); err == nil {
		return host
	}
	return strings.Trim(authority, "[]")
}
