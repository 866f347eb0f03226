package config

import (
	"fmt"
	"net/netip"
	"testing"
)

// TestOwnHeaders: a listener of this process may refuse the clients and the checks of another service.
func TestOwnHeaders(t *testing.T) {
	t.Parallel()
	type plan struct{ front, back *Service }
	loopback := Prefixes{netip.MustParsePrefix("127.0.0.1/32")}
	sends := func(p plan) { p.front.SendProxy.Version = 1 }
	accepts := func(prefixes ...string) func(plan) {
		return func(p plan) {
			p.back.Access.AcceptProxy = nil
			for _, x := range prefixes {
				p.back.Access.AcceptProxy = append(p.back.Access.AcceptProxy, netip.MustParsePrefix(x))
			}
		}
	}
	only := func(p plan) { p.back.Access.ProxyOnly = true }
	health := func(spec string, backends ...string) func(plan) {
		return func(p plan) {
			p.front.Health, _ = ParseHealth(spec)
			p.front.Backends = nil
			for _, b := range backends {
				p.front.Backends = append(p.front.Backends, backend(t, b))
			}
		}
	}
	const (
		refused = `service "front": backend %s is the listener :81 of service "back", which refuses %s without a header of the PROXY protocol: set send-proxy of service "front"`
		lacking = `service "front": backend 127.0.0.1:81 is the listener :81 of service "back", which refuses 127.0.0.1 with accept-proxy-only: its accept-proxy lacks that address`
		checked = `service "front": health: its checks of %s would be refused there: service "back" requires a PROXY header from 127.0.0.1 (add ",proxy" to health)`
	)
	for _, c := range []struct {
		name   string
		change []func(plan)
		want   string
	}{
		{"no header is sent", nil, fmt.Sprintf(refused, "127.0.0.1:81", "127.0.0.1")},
		{"one is sent", []func(plan){sends}, ""},
		{"from elsewhere", []func(plan){accepts("10.0.0.0/8", "127.0.0.2/32")}, ""},
		{"only from elsewhere", []func(plan){sends, accepts("10.0.0.0/8"), only}, lacking},
		{"another loopback address", []func(plan){health("off", "127.0.0.9:81")}, fmt.Sprintf(refused, "127.0.0.9:81", "127.0.0.1")},
		{"IPv6", []func(plan){health("off", "[::1]:81"), accepts("::/0")}, fmt.Sprintf(refused, "[::1]:81", "::1")},
		{"own address", []func(plan){health("off", "10.0.0.7:81"), accepts("10.0.0.0/8")}, fmt.Sprintf(refused, "10.0.0.7:81", "10.0.0.7")},
		{"another machine", []func(plan){health("tcp", "10.0.0.8:81"), accepts("10.0.0.0/8")}, ""},
		{"the client's port", []func(plan){health("off", "10.0.0.7"), accepts("10.0.0.0/8")}, ""},
		{"a name", []func(plan){health("tcp,port=81", "db.test:81")}, ""},
		{"check of a port", []func(plan){health("tcp,port=81", "127.0.0.1:9001")}, fmt.Sprintf(checked, "127.0.0.1:81")},
		{"with proxy", []func(plan){health("tcp,port=81,proxy", "127.0.0.1:9001")}, ""},
		{"check of an address", []func(plan){health("http:/", "10.0.0.8:9001,check=127.0.0.1:81")}, fmt.Sprintf(checked, "127.0.0.1:81")},
		{"a program asks", []func(plan){health("exec:/bin/true", "127.0.0.1:9001,check=81")}, ""},
		{"check of another port", []func(plan){health("tcp,port=81", "127.0.0.1:9001,check=82")}, ""},
		{"only, check", []func(plan){accepts("10.0.0.0/8"), only, health("tcp,port=81", "127.0.0.1:9001")}, fmt.Sprintf(checked, "127.0.0.1:81")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := plan{serving(t, "front", "80", "127.0.0.1:81"), serving(t, "back", ":81", "9002")}
			p.back.Access.AcceptProxy = loopback
			for _, change := range c.change {
				change(p)
			}
			local := func(ip netip.Addr) bool { return ip.String() == "10.0.0.7" }
			got := NewChecker(local).Check([]*Service{p.front, p.back})
			if text := fmt.Sprint(got); text != c.want && !(got == nil && c.want == "") {
				t.Errorf("\ngot  %s\nwant %s", text, c.want)
			}
		})
	}
}
