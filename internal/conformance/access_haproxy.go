//go:build linux

package conformance

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// access writes what a HAProxy's section says about who may come in.
func (h *HAProxy) access(c *C, cfg Config, line func(string, ...any)) {
	a := cfg.Access
	switch {
	case len(a.Words) > 0:
		c.Skipf("the rules are written in the words of iptables")
	case a.DropTimeout > 0 || a.MaxDropped > 0:
		c.Skipf("forgets clients that it drops, and holds none")
	case a.HeaderTimeout > 0:
		c.Skipf("waits for a header as long as for a client that is idle")
	case a.SendProxy == "v1" && a.SendID:
		c.Skipf("has ids in v2 alone")
	}
	scope := "connection"
	if a.AcceptProxy != "" {
		scope = "session" // which sees the address in the header
	}
	if a.AcceptProxy != "" && !a.ProxyOnly {
		line("    tcp-request connection expect-proxy layer4 if { src %s }", a.AcceptProxy)
	} else if a.AcceptProxy != "" && cfg.Listen[0].Network != "unix" {
		line("    tcp-request connection reject unless { src %s }", a.AcceptProxy)
	}
	for _, r := range a.Rules {
		var tests []string
		if r.Source != "" {
			tests = append(tests, fmt.Sprintf("{ src %s }", r.Source))
		}
		if r.Port > 0 {
			tests = append(tests, fmt.Sprintf("{ dst_port %d }", r.Port))
		}
		action := map[string]string{"ACCEPT": "accept", "REJECT": "reject", "DROP": "silent-drop"}[r.Target]
		if action == "silent-drop" && scope == "session" {
			c.Skipf("drops nobody whom a header names before the first byte")
		}
		if len(tests) > 0 {
			action += " if " + strings.Join(tests, " ")
		}
		line("    tcp-request %s %s", scope, action)
	}
	a.haproxyLimits(c, scope, line)
	if len(a.Names) == 0 {
		return
	}
	// It waits so long for the ClientHello of a client that says something else, too.
	line("    tcp-request inspect-delay %dms", cmp.Or(a.HelloTimeout, 2*time.Second).Milliseconds())
	line("    tcp-request content accept if { req.ssl_hello_type 1 }")
	if a.NamesOnly {
		line("    tcp-request content reject")
	}
	for i, n := range a.Names {
		line("    use_backend name%d if %s", i, n.haproxyTest())
	}
	if a.NamesOnly {
		line("    use_backend nobody")
	}
}

// haproxyLimits writes stick tables. A table that counts all clients together has one row.
func (a Access) haproxyLimits(c *C, scope string, line func(string, ...any)) {
	key, kind := "src", "ip"
	if a.ClientBits > 0 {
		key = fmt.Sprintf("src,ipmask(%d)", a.ClientBits)
	}
	switch {
	case a.ClientConns > 0:
		line("    stick-table type %s size 10k store conn_cur", kind)
		line("    tcp-request %s track-sc0 %s", scope, key)
		line("    tcp-request %s reject if { sc0_conn_cur gt %d }", scope, a.ClientConns)
	case a.ClientRate > 0:
		line("    stick-table type %s size 10k store conn_rate(1h)", kind)
		line("    tcp-request %s track-sc0 %s", scope, key)
		line("    tcp-request %s reject if { sc0_conn_rate gt %d }", scope, a.ClientRate)
	case a.Rate > 0:
		line("    stick-table type integer size 10 store conn_rate(1h)")
		line("    tcp-request %s track-sc0 int(1)", scope)
		line("    tcp-request %s reject if { sc0_conn_rate gt %d }", scope, a.Rate)
	}
}

// haproxyTest is the condition that a client asks for the service.
func (n ServerName) haproxyTest() string {
	var tests []string
	if name, isBelow := strings.CutPrefix(n.Name, "*"); isBelow {
		tests = append(tests, fmt.Sprintf("{ req.ssl_sni -i -m end %s }", name))
	} else if n.Name != "" {
		tests = append(tests, fmt.Sprintf("{ req.ssl_sni -i -m str %s }", n.Name))
	}
	if n.Protocol != "" {
		tests = append(tests, fmt.Sprintf("{ req.ssl_alpn %s }", n.Protocol))
	}
	return strings.Join(tests, " ")
}

// haproxyServer is what a server line says about headers.
func (a Access) haproxyServer() (options string) {
	switch a.SendProxy {
	case "v1":
		options = " send-proxy"
	case "v2":
		options = " send-proxy-v2"
	}
	if a.SendID {
		options += " proxy-v2-options unique-id"
	}
	return options
}

// haproxyNames writes the sections of the services with names.
func (a Access) haproxyNames(line func(string, ...any)) {
	if a.SendID {
		line("    unique-id-format %%ci-%%cp-%%Ts-%%rt")
	}
	if len(a.Names) == 0 {
		return
	}
	times := func() {
		line("    mode tcp")
		line("    timeout connect 5s")
		line("    timeout server 10m")
	}
	for i, n := range a.Names {
		line("backend name%d", i)
		times()
		line("    server s %s%s", n.Backend, a.haproxyServer())
	}
	if a.NamesOnly {
		line("backend nobody")
		times()
		line("    tcp-request content reject")
	}
}
