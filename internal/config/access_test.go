package config

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"usher/proxy/limit"
)

func TestClientRate(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]ClientRate{
		"off":                     {},
		"10/s":                    {Rate: limit.Rate{Events: 10, Per: time.Second, Burst: 10}},
		"10/m/24":                 {Rate: limit.Rate{Events: 10, Per: time.Minute, Burst: 10}, Bits4: 24},
		"10/h,burst=3":            {Rate: limit.Rate{Events: 10, Per: time.Hour, Burst: 3}},
		"10/d,burst=3/24/64":      {Rate: limit.Rate{Events: 10, Per: 24 * time.Hour, Burst: 3}, Bits4: 24, Bits6: 64},
		"10/s/24/64,burst=3":      {Rate: limit.Rate{Events: 10, Per: time.Second, Burst: 3}, Bits4: 24, Bits6: 64},
		"1000000000/s,burst=1000": {Rate: limit.Rate{Events: 1e9, Per: time.Second, Burst: 1000}},
	} {
		got, err := parseClientRate(word)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", word, got, err)
		}
		if again, err := parseClientRate(got.String()); err != nil || again != got {
			t.Errorf("%s is written as %s: %v", word, got, err)
		}
	}
	for word, want := range map[string]string{
		"10":                 `"10" is not a rate such as 10/s`,
		"10/24":              `unknown period "24" of a rate (have s, m, h, d)`,
		"10/sec":             `unknown period "sec"`,
		"0/s":                "0 is out of range (1 to 1000000000)",
		"ten/s":              `"ten" is not a whole number`,
		"10/s,burst=0":       "option burst: 0 is out of range",
		"10/s,brust=5":       `unknown option "brust" (did you mean "burst"?`,
		"10/s,5":             `option "5" lacks its =VALUE`,
		"10/s,":              `option "" lacks its =VALUE`,
		"10/s/33":            "prefix /33: 33 is out of range (1 to 32)",
		"10/s/24/64/1":       "prefix /24/64/1",
		"10/s/24,burst=3/24": "",
		"off/24":             "",
	} {
		if got, err := parseClientRate(word); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v, want %s", word, got, err, want)
		}
	}
	if _, err := parseRate("10/s/24"); err == nil {
		t.Error("a rate of all clients has a prefix")
	}
}

func TestPrefixes(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"10.0.0.0/8, ::1":           "10.0.0.0/8,::1",
		"10.1.2.3/32":               "10.1.2.3",
		"0.0.0.0/0,::/0":            "0.0.0.0/0,::/0",
		"::ffff:10.0.0.0/104":       "10.0.0.0/8",
		"::ffff:10.0.0.1":           "10.0.0.1",
		"2001:DB8:0::/32,fd00::1":   "2001:db8::/32,fd00::1",
		"off":                       "off",
		"10.0.0.1,10.0.0.0/31,::/1": "10.0.0.1,10.0.0.0/31,::/1",
	} {
		got, err := parsePrefixes(word)
		if err != nil || got.String() != want {
			t.Errorf("%s: %s, %v, want %s", word, got, err, want)
		}
	}
	for word, want := range map[string]string{
		"":                     "an address of the list is empty",
		"10.0.0.0/8,":          "an address of the list is empty",
		"10.1.0.0/8":           `"10.1.0.0/8" has bits beyond its length (did you mean "10.0.0.0/8"?)`,
		"10.0.0.0/33":          `"10.0.0.0/33" is not an address or a prefix`,
		"example.com":          `"example.com" is not an address or a prefix`,
		"fe80::1%eth0":         "has a zone",
		"10.0.0.1,10.0.0.1":    "10.0.0.1 is there twice",
		"10.0.0.1/32,10.0.0.1": "10.0.0.1 is there twice",
		"off,10.0.0.1":         `"off" is not an address`,
	} {
		if got, err := parsePrefixes(word); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v, want %s", word, got, err, want)
		}
	}
}

// Options that contradict others, or have no effect, are refused.
func TestAccessOptionsAgree(t *testing.T) {
	t.Parallel()
	tests := []struct{ listen, options, want string }{
		{"80", "accept-proxy-only=true", "accept-proxy-only refuses everybody without accept-proxy"},
		{"80", "accept-proxy-timeout=1s", "accept-proxy-timeout has no effect without accept-proxy"},
		{"80", "accept-proxy=::1 accept-proxy-only=true accept-proxy-timeout=1s", ""},
		{"80", "send-proxy-id=true", "send-proxy-id has no effect without send-proxy v2"},
		{"80", "send-proxy=v1 send-proxy-id=true", "send-proxy-id has no effect without send-proxy v2"},
		{"80", "send-proxy=v2 send-proxy-id=true", ""},
		{"80", "send-proxy=v2,every", "send-proxy every is for udp services"},
		{"80", "send-proxy=v1,every", `v1 takes no "every"`},
		{"80", "send-proxy=v2,evry", `unknown option "evry" (did you mean "every"?`},
		{"80", "send-proxy=v3", `unknown value "v3"`},
		{"80", "max-client-flows=3", "only udp services have this option (did you mean max-client-conns?)"},
		{"80", "allow=10.0.0.0/8,10.1.0.0/16 deny=10.1.0.0/16", "allow 10.1.0.0/16 is in deny, too"},
		{"80", "allow=10.0.0.0/8 deny=10.1.0.0/16", ""},
		{"udp:80", "send-proxy=v1", "send-proxy v1 has no header for datagrams (v2 has)"},
		{"udp:80", "send-proxy=v2,every accept-proxy=::1 client-rate=1/s rate=1/s allow=::1 deny=::2", ""},
		{"udp:80", "max-client-conns=3", "only tcp services have this option (did you mean max-client-flows?)"},
		{"udp:80", "sni-timeout=3s", "only tcp services have this option"},
		{"unix:///x", "deny=::1", "deny has no effect: clients of a unix socket have no address"},
		{"unix:///x", "max-client-conns=3/24", "max-client-conns has no effect"},
		{"unix:///x", "rate=3/s", "rate has no effect"},
		{"unix:///x", "accept-proxy=::1", "accept-proxy has no effect"},
		{"unix:///x", "send-proxy=v2 sni-timeout=3s", ""},
	}
	for _, tt := range tests {
		backend := "127.0.0.1:81"
		if strings.HasPrefix(tt.listen, "udp") {
			backend = "udp:" + backend
		}
		s := serving(t, "web", tt.listen, backend)
		var err error
		for option := range strings.FieldsSeq(tt.options) {
			name, value, _ := strings.Cut(option, "=")
			if err == nil {
				err = s.Set(Field(name), value)
			}
		}
		if err == nil {
			err = s.Complete()
		}
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s %s: %v, want %q", tt.listen, tt.options, err, tt.want)
		}
	}
}

// FuzzAccess: a parsed word, formatted and parsed again, has the same value.
func FuzzAccess(f *testing.F) {
	for _, seed := range []string{"10/s,burst=3/24/64", "10/d/8,burst=3", "5/24", "10.0.0.0/8,::1", "::ffff:1.2.3.4/100", "v2,every", "off"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, word string) {
		again(t, word, parseClientRate, ClientRate.String)
		again(t, word, parseClientLimit, ClientLimit.String)
		again(t, word, parseSendProxy, SendProxy.String)
		again(t, word, func(w string) (string, error) {
			p, err := parsePrefixes(w)
			return p.String(), err
		}, func(s string) string { return s })
	})
}

// Every prefix that is read is one that the data path can look up.
func TestPrefixesAreMasked(t *testing.T) {
	t.Parallel()
	all, err := parsePrefixes("::ffff:10.1.2.3,::ffff:0:0/96,fd00::/7,1.2.3.4")
	if err == nil {
		t.Fatalf("fd00::/7 has a bit beyond its length: %s", all)
	}
	all, err = parsePrefixes("::ffff:10.1.2.3,::ffff:0:0/96,fc00::/7,1.2.3.4")
	for _, p := range all {
		if p != p.Masked() || p.Addr().Is4In6() {
			t.Errorf("%v", p)
		}
	}
	if want := netip.MustParsePrefix("0.0.0.0/0"); err != nil || all[1] != want {
		t.Errorf("%s, %v", all, err)
	}
}
