package config

import (
	"strings"
	"testing"
)

func TestParseAddr(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"8080":                      "127.0.0.1:8080",
		"tcp:8080":                  "127.0.0.1:8080",
		"tcp://8080":                "127.0.0.1:8080",
		":8080":                     ":8080",
		"tcp://:8080":               ":8080",
		"[::]:8080":                 "[::]:8080",
		"0.0.0.0:8080":              "0.0.0.0:8080",
		"0":                         "127.0.0.1:0",
		"10.0.0.1:80":               "10.0.0.1:80",
		"10.0.0.1":                  "10.0.0.1",
		"[::1]:80":                  "[::1]:80",
		"[::1]":                     "[::1]",
		"[fe80::1%eth0]:80":         "[fe80::1%eth0]:80",
		"[::ffff:10.0.0.1]:80":      "10.0.0.1:80",
		"[2001:DB8:0::1]:80":        "[2001:db8::1]:80",
		"db.local:5432":             "db.local:5432",
		"db.local.:5432":            "db.local.:5432",
		"_x._tcp.db_1":              "_x._tcp.db_1",
		"localhost":                 "localhost",
		"a1:80":                     "a1:80",
		"10000-10100":               "127.0.0.1:10000-10100",
		":10000-10100":              ":10000-10100",
		"10.0.0.1:1-65535":          "10.0.0.1:1-65535",
		"db:80-80":                  "db:80",
		"unix:///run/x.sock":        "unix:///run/x.sock",
		"unix:/run/x.sock":          "unix:///run/x.sock",
		"unix:///run/a:b@c,d=e [1]": "unix:///run/a:b@c,d=e [1]",
		"00080":                     "127.0.0.1:80",
		"udp:53":                    "udp://127.0.0.1:53",
		"udp::53":                   "udp://:53",
		"udp://[::]:53":             "udp://[::]:53",
		"udp://[fd00::1]:5000-5009": "udp://[fd00::1]:5000-5009",
		"udp:db.local":              "udp://db.local",
		"tcp://sctp:80":             "tcp://sctp:80",
		"tcp://tcp:80":              "tcp://tcp:80",
		"sctp":                      "sctp",
		"udp://sctp:53":             "udp://sctp:53",
		"udp:udp:53":                "udp://udp:53",
		"udp:sctp":                  "udp://sctp",
		"xn--bcher-kva.example:80":  "xn--bcher-kva.example:80",
		"srv:_http._tcp.x.test":     "srv:_http._tcp.x.test",
		"tcp://srv:web":             "srv:web",
		"udp:srv:_dns._udp.x":       "udp://srv:_dns._udp.x",
		"srv:80":                    "srv:80",
		"srv:80-89":                 "srv:80-89",
		"srv":                       "srv",
	} {
		a, err := parseAddr(word, TCP)
		if err != nil {
			t.Errorf("ParseAddr(%q): %v", word, err)
			continue
		}
		if a.String() != want {
			t.Errorf("ParseAddr(%q) = %s, want %s", word, a, want)
		}
	}
}

func TestParseAddrRefuses(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"":                              "empty address",
		"tcp://":                        "empty address",
		"99999":                         "port 99999 is out of range (1 to 65535)",
		":65536":                        "port 65536 is out of range",
		"10.0.0.1:http":                 `"http" is not a port`,
		"10.0.0.1:":                     `"" is not a port`,
		":":                             `"" is not a port`,
		"80-":                           `"" is not a port`,
		"-80":                           `neither an IP address nor a host name`,
		"80-90-100":                     `"90-100" is not a port`,
		"90-80":                         `the port range "90-80" runs backwards`,
		"0-80":                          `must not begin with 0`,
		"sctp://:80":                    `unknown protocol "sctp" (have tcp, udp, unix)`,
		"sctp:80":                       `unknown protocol "sctp" (have tcp, udp, unix); a host of that name is tcp://sctp:80`,
		"https:443":                     `unknown protocol "https" (have tcp, udp, unix); a host of that name is tcp://https:443`,
		"*:8080":                        `"*:8080": all addresses are written without a host (did you mean ":8080"?)`,
		"tpc://:80":                     `unknown protocol "tpc" (did you mean "tcp"? have`,
		"udp://":                        "empty address",
		"udp:99999":                     "port 99999 is out of range (1 to 65535)",
		"upd://:53":                     `unknown protocol "upd" (did you mean "udp"? have tcp, udp, unix)`,
		"::1":                           `in brackets, as in [::1]:80`,
		"fd00::1:80":                    "in brackets",
		"1:2:3:4:5:6:7:8":               "in brackets",
		"::ffff:10.0.0.1":               "in brackets",
		"fe80::1%eth0":                  "in brackets",
		"10.0.0.1:80:9":                 `"10.0.0.1:80:9" has too many colons: write HOST:PORT`,
		"10.0.0.1::80":                  "too many colons",
		"db:80:90":                      "too many colons",
		"[::1":                          "closing bracket",
		"[::1]80":                       "only :PORT may follow",
		"[10.0.0.1]:80":                 `"10.0.0.1" is not an IPv6 address`,
		"[fe80::1%a/b]:80":              "is not an IPv6 address",
		"256.0.0.1:80":                  `"256.0.0.1" is not an IP address`,
		"10.0.1:80":                     `"10.0.1" is not an IP address`,
		"db..local:80":                  "neither an IP address nor a host name",
		"db local:80":                   "neither an IP address nor a host name",
		"-db:80":                        "neither an IP address nor a host name",
		"unix://x.sock":                 "must be absolute",
		"unix:":                         "must be absolute",
		"unix:///a\nb":                  "control character",
		"http://10.0.0.1":               `unknown protocol "http"`,
		"10.0.0.1:80\n":                 "is not a port",
		"srv:_http._tcp.x:80":           `"srv:_http._tcp.x:80" does not name SRV records, as srv:_http._tcp.example.com does: they say the port too`,
		"srv:10.0.0.1":                  "does not name SRV records",
		"srv:":                          `"" is not a port`,
		"10.0.0.1:18446744073709551617": "out of range",
	} {
		a, err := parseAddr(word, TCP)
		if err == nil {
			t.Errorf("ParseAddr(%q) = %s, want an error about %q", word, a, want)
		} else if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("ParseAddr(%q): %v, want one line with %q", word, err, want)
		}
	}
}

func TestParseBackend(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"9001":                  "127.0.0.1:9001",
		"9001@3":                "127.0.0.1:9001@3",
		"9001@1":                "127.0.0.1:9001",
		"10.0.0.1@0":            "10.0.0.1@0",
		"[::1]:80@2147483647":   "[::1]:80@2147483647",
		"unix:///run/a@b":       "unix:///run/a@b",
		"unix:///run/a@7":       "unix:///run/a@7",
		"unix:///run/a@7@1":     "unix:///run/a@7@1",
		"9000-9009@2":           "127.0.0.1:9000-9009@2",
		"tcp://db.local:5432@5": "db.local:5432@5",
		"udp:1.1.1.1:53@2":      "udp://1.1.1.1:53@2",
	} {
		b, err := ParseBackend(word, TCP)
		if err != nil {
			t.Errorf("ParseBackend(%q): %v", word, err)
		} else if b.String() != want {
			t.Errorf("ParseBackend(%q) = %s, want %s", word, b, want)
		}
	}
	for word, want := range map[string]string{
		"9001@":                     "weight",
		"9001@-1":                   "weight",
		"9001@x":                    "weight",
		"9001@2147483648":           "weight 2147483648 is out of range (0 to 2147483647)",
		"9001@99999999999999999999": "out of range",
		":9001":                     `a backend needs a host: ":9001" names a port alone (did you mean "9001"?)`,
		"[::]:80":                   `:: cannot be connected to: give the backend's own address`,
		"tcp://:80-81@2":            `(did you mean "80-81"?)`,
		"0.0.0.0:80":                "0.0.0.0 cannot be connected to",
		"0":                         "port 0 is out of range",
		"a@b:80":                    "weight",
	} {
		b, err := ParseBackend(word, TCP)
		if err == nil {
			t.Errorf("ParseBackend(%q) = %s, want an error about %q", word, b, want)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("ParseBackend(%q): %v, want %q", word, err, want)
		}
	}
}

func FuzzParseAddr(f *testing.F) {
	for _, seed := range []string{"8080", ":8080", "[fe80::1%eth0]:1-9", "unix:///a@1", "db.local:80@3", "10.0.0.1", "tcp:9", "udp:5"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, word string) {
		if a, err := parseAddr(word, TCP); err == nil {
			again, err := parseAddr(a.String(), TCP)
			if err != nil || again != a {
				t.Errorf("%q gives %q, which gives %q, %v", word, a, again, err)
			}
		}
		if b, err := ParseBackend(word, TCP); err == nil {
			again, err := ParseBackend(b.String(), TCP)
			if err != nil || again != b {
				t.Errorf("%q gives %q, which gives %q, %v", word, b, again, err)
			}
		}
	})
}
