//go:build linux

package conformance

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Access is who may come in, how often, and as whom.
type Access struct {
	Rules []Rule   // the first that matches decides; who matches none is let in
	Words []string // rules in iptables' words, for usher alone; they follow Rules

	DropTimeout time.Duration // how long a client that is dropped is held
	MaxDropped  int           // how many are held at once

	ClientConns int // that a client may have at once
	ClientRate  int // that a client may begin in an hour, all of them at once
	Rate        int // that all clients together may
	ClientBits  int // of an IPv4 address, which are one client; zero: all

	AcceptProxy   string        // prefix of the peers that send headers of the PROXY protocol
	ProxyOnly     bool          // all others are refused
	HeaderTimeout time.Duration // zero: long enough for a machine that is slow

	SendProxy string // v1, v2; of UDP "v2,every" too
	SendID    bool   // with an id of the flow

	Names        []ServerName  // services that share the listeners; the first for whom a client asks has it
	NamesOnly    bool          // who asks for none of those is refused
	HelloTimeout time.Duration // likewise

	Sources []Source // services that share the listeners by the address of the client, in place of Config.Backends
}

// slow is how long a client may take where no case is about that.
const slow = time.Minute

// Rule says what becomes of clients of a prefix, at a port.
type Rule struct {
	Target string // ACCEPT, REJECT or DROP
	Source string // empty: all
	Port   int    // of the listener; zero: all
}

// ServerName is a service for clients that name it in their ClientHello.
type ServerName struct {
	Name     string // or "*.example.com"; empty: any
	Protocol string // that the client offers (ALPN); empty: any
	Backend  string
}

// Source is a service for clients of some addresses.
type Source struct {
	From    string // prefixes, with + between them; empty: all others
	Backend string
}

// usherRule is r in iptables' words.
func (r Rule) usherRule(protocol string) string {
	var words []string
	if r.Source != "" {
		words = append(words, "-s", r.Source)
	}
	if r.Port > 0 {
		words = append(words, "-p", protocol, "--dport", fmt.Sprint(r.Port))
	}
	return strings.Join(append(words, "-j", r.Target), " ")
}

// accessArgs are the flags of Config.Access.
func (u *Usher) accessArgs(cfg Config) (args []string) {
	a := cfg.Access
	word := func(isOn bool, flag, format string, values ...any) {
		if isOn {
			args = append(args, flag, fmt.Sprintf(format, values...))
		}
	}
	protocol, bits := "tcp", ""
	if cfg.isUDP() {
		protocol = "udp"
	}
	if a.ClientBits > 0 {
		bits = fmt.Sprintf("/%d", a.ClientBits)
	}
	for _, r := range a.Rules {
		word(true, "--rule", "%s", r.usherRule(protocol))
	}
	for _, r := range a.Words {
		word(true, "--rule", "%s", r)
	}
	word(a.DropTimeout > 0, "--drop-timeout", "%v", a.DropTimeout)
	word(a.MaxDropped > 0, "--max-dropped", "%d", a.MaxDropped)
	word(a.ClientConns > 0, "--max-client-conns", "%d%s", a.ClientConns, bits)
	word(a.ClientRate > 0, "--client-rate", "%d/h,burst=%[1]d%s", a.ClientRate, bits)
	word(a.Rate > 0, "--rate", "%d/h,burst=%[1]d", a.Rate)
	word(a.AcceptProxy != "", "--accept-proxy", "%s", a.AcceptProxy)
	word(a.AcceptProxy != "" && !cfg.isUDP(), "--accept-proxy-timeout", "%v", cmp.Or(a.HeaderTimeout, slow))
	word(a.SendProxy != "", "--send-proxy", "%s", a.SendProxy)
	word(len(a.Names) > 0, "--sni-timeout", "%v", cmp.Or(a.HelloTimeout, slow))
	if a.ProxyOnly {
		args = append(args, "--accept-proxy-only")
	}
	if a.SendID {
		args = append(args, "--send-proxy-id")
	}
	return args
}

// nameArgs are the listeners and backends of the services with names.
func (a Access) nameArgs(listeners []Listener) (args []string) {
	for i, n := range a.Names {
		for _, l := range listeners {
			at := fmt.Sprintf("name%d=%s", i, l)
			if n.Name != "" {
				at += ",sni=" + n.Name
			}
			if n.Protocol != "" {
				at += ",alpn=" + n.Protocol
			}
			args = append(args, "--listen", at)
		}
		args = append(args, "--backend", fmt.Sprintf("name%d=%s", i, n.Backend))
	}
	return args
}
