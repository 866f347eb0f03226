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
	e := health.DefaultEjectPolicy()
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
		// Whatever can be written is a policy.
		if _, err := health.NewEjector[int](health.EjectPolicy{Threshold: got.Failures, Base: got.Time, MaxShare: got.Share}); err != nil {
			t.Errorf("%s: %v", word, err)
		}
	}
}

// What could fail at each check is refused at the start.
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
