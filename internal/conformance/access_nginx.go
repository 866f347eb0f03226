//go:build linux

package conformance

import (
	"cmp"
	"strings"
)

// refuses skips what nginx cannot express of Config.Access.
func (n *Nginx) refuses(c *C, cfg Config) {
	a := cfg.Access
	for _, r := range a.Rules {
		switch {
		case r.Target == "DROP":
			c.Skipf("ends those whom it denies, and never leaves them unanswered")
		case r.Port > 0:
			c.Skipf("has its rules by server, not by port")
		}
	}
	switch {
	case len(a.Words) > 0:
		c.Skipf("the rules are written in the words of iptables")
	case a.DropTimeout > 0 || a.MaxDropped > 0:
		c.Skipf("never leaves clients unanswered")
	case a.ClientRate > 0 || a.Rate > 0:
		c.Skipf("limits no rate of connections")
	case a.ClientBits > 0:
		c.Skipf("counts each address by itself")
	case a.AcceptProxy != "" && !a.ProxyOnly:
		c.Skipf("wants a header from all peers or from none")
	case a.SendProxy != "" && a.SendProxy != "v1":
		c.Skipf("sends headers of version 1 alone")
	case a.SendID:
		c.Skipf("sends no id")
	case cfg.isUDP() && (a.SendProxy != "" || a.AcceptProxy != ""):
		c.Skipf("has no headers of datagrams")
	case len(a.Names) > 0 && isRange(cfg.Backends[0]):
		c.Skipf("cannot choose between names and ports")
	}
	for _, x := range a.Names {
		if x.Name != "" && x.Protocol != "" {
			c.Skipf("cannot choose by name and protocol in one map")
		}
	}
}

// nginxServer writes what is in the server block.
func (a Access) nginxServer(line func(string, ...any)) {
	for _, r := range a.Rules {
		action := map[string]string{"ACCEPT": "allow", "REJECT": "deny"}[r.Target]
		line("    %s %s;", action, cmp.Or(r.Source, "all"))
	}
	if a.AcceptProxy != "" {
		line("    set_real_ip_from %s;", a.AcceptProxy)
		line("    proxy_protocol_timeout %dms;", cmp.Or(a.HeaderTimeout, slow).Milliseconds())
	}
	if a.SendProxy != "" {
		line("    proxy_protocol on;")
	}
	if len(a.Names) > 0 {
		line("    ssl_preread on;")
		line("    preread_buffer_size 32k;")
		line("    preread_timeout %dms;", cmp.Or(a.HelloTimeout, slow).Milliseconds())
	}
}

// nginxNames writes maps from what a client asks for to its service. An address without a
// server refuses those that ask for none.
func (a Access) nginxNames(line func(string, ...any)) {
	rest := "service"
	if a.NamesOnly {
		rest = "127.0.0.1:1"
	}
	line("  map $ssl_preread_alpn_protocols $by_protocol {")
	for _, n := range a.Names {
		if n.Name == "" {
			line(`    "~(^|,)%s(,|$)" %s;`, n.Protocol, n.Backend)
		}
	}
	line("    default %s;", rest)
	line("  }")
	line("  map $ssl_preread_server_name $service {")
	line("    hostnames;")
	for _, n := range a.Names {
		if n.Name != "" {
			line("    %s %s;", strings.ToLower(n.Name), n.Backend)
		}
	}
	line("    default $by_protocol;")
	line("  }")
}
