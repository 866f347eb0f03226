package config

import (
	"strings"
	"testing"
)

func TestRefused(t *testing.T) {
	t.Parallel()
	mapping := func(words ...string) Words { return Words{Mappings: words} }
	option := func(name, value string) Words {
		return Words{Mappings: []string{"8080=9001", "8081=9001"}, Options: []Option{{name, value}}}
	}
	for _, tt := range []struct {
		words Words
		want  string
	}{
		{Words{}, "nothing to listen on: give LISTEN=BACKEND, as in 8080=9001,9002, or --listen and --backend"},
		{mapping("8080"), `"8080" is not LISTEN=BACKEND[,BACKEND...], as in 8080=9001,9002`},
		{mapping("=9001"), `"=9001" lacks the address to listen on before =`},
		{mapping("8080="), `"8080=" lacks a backend address`},
		{mapping("8080=9001,,9002"), `"8080=9001,,9002" lacks a backend address`},
		{mapping("8080=99999"), "8080=99999: port 99999 is out of range (1 to 65535)"},
		{mapping("10.0.0.1=9001"), `10.0.0.1=9001: "10.0.0.1" needs a port to listen on`},
		{mapping("udp:53=9001"), "udp:53=9001: this version serves tcp and unix addresses, udp is not there yet"},
		{mapping("8080=9001,9001"), `8080=9001,9001: service "8080" has the backend 127.0.0.1:9001 twice`},
		{mapping("8080=9001", ":8080=9001"),
			`:8080=9001: there is a service "8080" already: give this one its own name with --listen NAME=:8080`},
		{mapping("8080=9001", "127.0.0.1:8080=9001"), `services "8080" and "127.0.0.1-8080" both listen on 127.0.0.1:8080`},
		{mapping("8080-8089=9001", "8085=9001"),
			`services "8080-8089" and "8085" listen on 127.0.0.1:8080-8089 and 127.0.0.1:8085, which overlap`},
		{mapping(":8080=9001", "0.0.0.0:8080=9001"), `services "8080" and "0.0.0.0-8080" listen on :8080 and 0.0.0.0:8080, which overlap`},
		{mapping("10.0.0.1:80=9001", ":80=9001"), `services "10.0.0.1-80" and "80" listen on 10.0.0.1:80 and :80, which overlap`},
		{mapping("[::1]:80=9001", ":80=9001"), `services "0-1-80" and "80" listen on [::1]:80 and :80, which overlap`},
		{mapping("0.0.0.0:80=9001", "10.0.0.1:80=9001"), `services "0.0.0.0-80" and "10.0.0.1-80" listen on 0.0.0.0:80 and 10.0.0.1:80, which overlap`},
		{mapping("db.local:80=9001", ":70-80=9001"), `services "db.local-80" and "70-80" listen on db.local:80 and :70-80, which overlap`},
		{Words{Listen: []string{"unix:///x/y", "unix:///x//y"}, Backend: []string{"9001"}}, `listens on both unix:///x/y and unix:///x//y, which overlap`},
		{Words{Listen: []string{":80", ":80"}, Backend: []string{"1"}}, `service "default" listens on :80 twice`},
		{Words{Listen: []string{":80", ":79-81"}, Backend: []string{"1"}}, `service "default" listens on both :80 and :79-81, which overlap`},
		{mapping("1000-1009=2000-2010"),
			`service "1000-1009": backend 127.0.0.1:2000-2010 has 11 ports but listener 127.0.0.1:1000-1009 has 10: give as many, one, or none`},
		{mapping("1000=2000-2010"), `service "1000": backend 127.0.0.1:2000-2010 has 11 ports but listener 127.0.0.1:1000 has 1: give as many, one, or none`},
		{mapping("unix:///x=10.0.0.1"), `service "x": backend 10.0.0.1 needs a port: the listener unix:///x has none to pass on`},
		{mapping("0=10.0.0.1"), `service "0": backend 10.0.0.1 needs a port: the one of the listener 127.0.0.1:0 is not known yet`},
		{mapping("{{ GetPublicIP }}:80=9001"), "{{ GetPublicIP }}:80=9001: template {{ GetPublicIP }} yields no address on this machine"},
		{mapping("8080={{ GetPublicIP }}:{{ x }}"), "8080={{ GetPublicIP }}:{{ x }}: template {{ GetPublicIP }}:{{ x }} yields no address on this machine"},
		{mapping("8080={{ Foo }}:80"), `8080={{ Foo }}:80: template {{ Foo }}: function "Foo" not defined`},
		{mapping("{{ GetPrivateIP:80=9001"), `"{{ GetPrivateIP:80=9001" lacks the closing }} of its template`},
		{mapping("8080={{ GetPrivateIP:80,9001"), `lacks the closing }} of its template`},
		{Words{Listen: []string{":80"}, Backend: []string{"19001,19002"}}, `--backend 19001,19002: one address at a time: repeat --backend for each`},
		{Words{Listen: []string{"web=:80,:81"}}, `--listen web=:80,:81: one address at a time: repeat --listen for each`},
		{Words{Listen: []string{"{{ Foo"}}, `--listen {{ Foo: "{{ Foo" lacks the closing }} of its template`},
		{Words{Listen: []string{":80"}}, `service "default" listens on :80 but has no backend (add --backend ADDR)`},
		{Words{Listen: []string{"web=:80"}}, `service "web" listens on :80 but has no backend (add --backend web=ADDR)`},
		{Words{Backend: []string{"9001"}}, `--backend 9001: service "default" has no listener (add --listen)`},
		{Words{Listen: []string{"web=:80"}, Backend: []string{"wbe=9001"}},
			`--backend wbe=9001: service "wbe" has no listener (did you mean "web"? have web)`},
		{Words{Mappings: []string{"8080=9001"}, Backend: []string{"9002"}}, `--backend 9002: service "default" has no listener (have 8080)`},
		{Words{Listen: []string{"web=tcp://:80000"}}, "--listen web=tcp://:80000: port 80000 is out of range (1 to 65535)"},
		{Words{Listen: []string{":80"}, Backend: []string{"9001@x"}}, `--backend 9001@x: "x" is not a weight (0 to 2147483647)`},
		{option("scheduler", "leastcon"), `--scheduler leastcon: unknown scheduler "leastcon" (did you mean "lc"? have `},
		{option("scheduler", "8080=wlc"), `--scheduler 8080=wlc: unknown scheduler "wlc" (did you mean "lc"? have `},
		{option("scheduler", "Maglev"), `did you mean "mh"?`},
		{option("scheduler", "round_robin"), `did you mean "rr"?`},
		{option("scheduler", "banana"), `--scheduler banana: unknown scheduler "banana" (have `},
		{option("scheduler", "808=lc"), `--scheduler 808=lc: no service "808" (did you mean "8080"? have 8080, 8081)`},
		{option("health", "http:/x"), `--health http:/x: unknown health check "http:/x" (have off, tcp)`},
		{option("health", "tpc"), `unknown health check "tpc" (did you mean "tcp"? have off, tcp)`},
		{option("health", "off,rise=1"), `health check off takes no options, not "rise=1"`},
		{option("health", "tcp,interva=1s"), `unknown health option "interva" (did you mean "interval"? have interval, timeout, rise, fall)`},
		{option("health", "tcp,rise"), `health option "rise" lacks its =VALUE`},
		{option("health", "tcp,rise=0"), "health option rise: 0 is out of range (1 to 1000000000)"},
		{option("health", "tcp,rise=9999999999"), "health option rise: 9999999999 is out of range (1 to 1000000000)"},
		{option("health", "tcp,rise=1,fall=2,rise=1"), "health option rise is there twice"},
		{option("health", "tcp,interval=1s,timeout=5s"), "health option timeout: 5s is longer than the interval of 1s"},
		{option("health", "tcp,timeout=3s"), "health option timeout: 3s is longer than the interval of 2s"},
		{option("health", "tcp,timeout=off"), "health option timeout: this cannot be off"},
		{option("health", "tcp,fall=x"), `health option fall: "x" is not a whole number`},
		{option("health", "tcp,interval=2"), `health option interval: "2" lacks a unit (did you mean "2s"?)`},
		{option("health", "tcp,interval=1us"), "health option interval: 1us is too short (at least 10ms)"},
		{option("health", "interval=1s"), `--health interval=1s: a health check begins with its kind, as in tcp,interval=1s`},
		{option("fail", "opne"), `--fail opne: unknown value "opne" (did you mean "open"? have open, closed)`},
		{option("connect-timeout", "5"), `--connect-timeout 5: "5" lacks a unit (did you mean "5s"?)`},
		{option("connect-timeout", "0s"), `--connect-timeout 0s: 0s is too short (at least 1ms)`},
		{option("idle-timeout", "-1s"), `--idle-timeout -1s: -1s is too short (at least 1ms)`},
		{option("idle-timeout", "1ns"), `--idle-timeout 1ns: 1ns is too short (at least 1ms)`},
		{option("wait", "5us"), `5us is too short (at least 1ms)`},
		{option("drain-timeout", "5us"), `5us is too short (at least 1ms)`},
		{option("drain-timeout", "off"), `--drain-timeout off: this cannot be off, it takes a duration`},
		{option("connect-timeout", "off"), `--connect-timeout off: this cannot be off, it takes a duration`},
		{option("connect-timeout", "99999999999999h"), `99999999999999h is too long (at most 8760h)`},
		{option("connect-timeout", "99999999999999.5h1x"), `is not a duration`},
		{option("wait", "soon"), `--wait soon: "soon" is not a duration such as 500ms, 30s or 5m`},
		{option("half-close-timeout", "9000h"), `9000h is too long (at most 8760h)`},
		{option("half-close-timeout", ""), `"" is not a duration`},
		{option("workers", "0"), `--workers 0: 0 is out of range (1 to 1024)`},
		{option("workers", "99999999999999999999"), `99999999999999999999 is out of range (1 to 1024)`},
		{option("workers", "100000"), `--workers 100000: 100000 is out of range (1 to 1024)`},
		{option("max-conns", "many"), `--max-conns many: "many" is not a whole number`},
		{option("engine", "epol"), `--engine epol: unknown value "epol" (did you mean "epoll"? have auto, epoll, portable)`},
		{option("log-format", "text"), `unknown value "text" (have console, json)`},
		{option("log-level", "warning"), `unknown value "warning" (did you mean "warn"? have debug, info, warn, error)`},
		{Words{Mappings: []string{"8080=9001"}, Options: []Option{{"access-log", "true"}, {"log-level", "warn"}}},
			"--access-log writes nothing with --log-level warn: its lines are of level info"},
		{option("access-log", "maybe"), `--access-log maybe: "maybe" is neither true nor false`},
	} {
		t.Run(tt.want, func(t *testing.T) {
			t.Parallel()
			c, err := parse(tt.words, machine)
			if err == nil {
				t.Fatalf("got %s, want an error", brief(c))
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("\ngot  %s\nwant %s", err, tt.want)
			}
		})
	}
}
