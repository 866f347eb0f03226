package config

import (
	"testing"

	"usher/health"
)

// Defaults have one source, package health.
func TestHealthDefaults(t *testing.T) {
	t.Parallel()
	d := health.DefaultPolicy()
	want := Health{Kind: "tcp", Interval: d.Interval, Timeout: d.Timeout, Rise: d.Rise, Fall: d.Fall}
	if got, err := ParseHealth("tcp"); err != nil || got != want {
		t.Errorf("tcp: %+v, %v, want %+v", got, err, want)
	}
	e := health.DefaultOutlierPolicy()
	for word, want := range map[string]Eject{
		"3":                   {Failures: 3, Time: e.Base, Share: e.MaxShare},
		"3,time=1h":           {Failures: 3, Time: 60 * 60e9, Share: e.MaxShare},
		"3,share=7%":          {Failures: 3, Time: e.Base, Share: 7},
		"3,share=7,time=90s":  {Failures: 3, Time: 90e9, Share: 7},
		"off":                 {},
		"1000000000,share=1%": {Failures: 1e9, Time: e.Base, Share: 1},
	} {
		got, err := parseEject(word)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", word, got, err, want)
			continue
		}
		// Every accepted value is a valid policy.
		if _, err := health.NewOutlierDetector[int](health.OutlierPolicy{Threshold: got.Failures, Base: got.Time, MaxShare: got.Share}); err != nil {
			t.Errorf("%s: %v", word, err)
		}
	}
}

// An error that would occur at each check is refused at the start.
func TestHealthAuthority(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"web.example", "web.example:8080", "10.0.0.1", "[::1]", "[::1]:80", "a_b"} {
		for _, kind := range []string{"http", "grpc"} {
			if _, err := ParseHealth(kind + ",host=" + host); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		}
	}
	for _, host := range []string{"a:b", "a:", ":80", "a:70000", "a:0", "::1", "[::1", "::1]", "[a]", "[10.0.0.1]", "[::1]80", "a:1:2", "[]"} {
		for _, kind := range []string{"http", "grpc"} {
			if h, err := ParseHealth(kind + ",host=" + host); err == nil {
				t.Errorf("%s: taken for %+v", host, h)
			}
		}
	}
}

// A handshake is a check without a script.
func TestHealthTLSHandshake(t *testing.T) {
	t.Parallel()
	h, err := ParseHealth("tcps,sni=db.example")
	if err != nil || h.Script != "" || h.ServerName != "db.example" {
		t.Fatalf("%+v, %v", h, err)
	}
	if again, err := ParseHealth(h.String()); err != nil || again != h {
		t.Errorf("%s: %+v, %v", h, again, err)
	}
	if h, err := ParseHealth("tcps:send=x"); err != nil {
		t.Errorf("%+v, %v", h, err)
	}
	if h, err := ParseHealth("tcp:send=x"); err == nil {
		t.Errorf("%s: a script that expects nothing is no more than tcp", h)
	}
}

// The form of a health check in the startup summary.
func TestHealthString(t *testing.T) {
	t.Parallel()
	const rest = ",interval=2s,timeout=1s,rise=2,fall=3"
	for spec, want := range map[string]string{
		"tcp":                                   "tcp" + rest,
		"udp":                                   "udp" + rest,
		"udp:rise=3":                            "udp,interval=2s,timeout=1s,rise=3,fall=3",
		"udp,send=a":                            "udp:send=a" + rest,
		"udp:rise=2,expect=a b=c":               "udp:expect=a b=c" + rest,
		`udp:send=\\\,\x41,expect=\r\n\t\x0A`:   `udp:send=\\\,A,expect=\r\n\t\n` + rest,
		"udp:send=hex:68656c6c6f,expect=hex:00": "udp:send=hello,expect=hex:00" + rest,
		`udp:send=\x68ex:00,expect=é`:           `udp:send=\x68ex:00,expect=hex:c3a9` + rest,
		"dns:.":                                 "dns:." + rest,
		"http":                                  "http" + rest,
		"http:/a\\,b?c=d,status=204+300-302":    "http:/a\\,b?c=d,status=204+300-302" + rest,
		"https:/,sni=a.b,verify=off,expect=ok":  "https:/,expect=ok,sni=a.b,verify=off" + rest,
		"http:/x,method=HEAD,host=h:1,port=81":  "http:/x,method=HEAD,host=h:1,port=81" + rest,
		"grpc":                                  "grpc" + rest,
		"grpcs:my.Service,host=x":               "grpcs:my.Service,host=x" + rest,
		`exec:/bin/sh  -c exit\ 0`:              `exec:/bin/sh -c 'exit 0'` + rest,
		`exec:/bin/sh -c "exit 0" 'a,b' c\,d "e'f",rise=1`: `exec:/bin/sh -c 'exit 0' 'a,b' 'c,d' "e'f",interval=2s,timeout=1s,rise=1,fall=3`,
		`exec:/bin/sh "$'\n"`:                              `exec:/bin/sh "\$'\\n"` + rest,
		`exec:/bin/sh "a\n\"b" ''`:                         `exec:/bin/sh 'a\n"b' ''` + rest,
		`tcp:send=PING\r\n,expect=^+PONG`:                  `tcp:send=PING\r\n,expect=^+PONG` + rest,
		`tcp,expect=220,send=QUIT\r\n,expect=2\|1|3`:       `tcp:expect=220,send=QUIT\r\n,expect=2\|1|3` + rest,
		`tcps:expect=\^x,sni=a`:                            `tcps:expect=\^x,sni=a` + rest,
		"tcp,interval-down=5s,interval-change=100ms":       "tcp,interval=2s,interval-down=5s,interval-change=100ms,timeout=1s,rise=2,fall=3",
		"tcp,proxy":                   "tcp,proxy" + rest,
		"udp:proxy,send=a":            "udp:send=a,proxy" + rest,
		"https:/,proxy,sni=a,port=81": "https:/,sni=a,port=81,proxy" + rest,
		"dns:example.com.,fall=1":     "dns:example.com.,interval=2s,timeout=1s,rise=2,fall=1",
	} {
		h, err := ParseHealth(spec)
		if err != nil || h.String() != want {
			t.Errorf("%s is %s, %v, want %s", spec, h, err, want)
		}
		if again, err := ParseHealth(want); err != nil || again != h {
			t.Errorf("%s read again: %+v, %v, want %+v", want, again, err, h)
		}
	}
}
