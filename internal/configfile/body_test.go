package configfile

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/internal/config"
)

// TestDecodeService: a body is a service's mapping with its name, in YAML or JSON.
func TestDecodeService(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"name: a\nlisten: 8001\nbackends: 9001\n":                                     "",
		`{"name": "a", "listen": [8001], "backends": ["9001"], "idle-timeout": "1h"}`: "",
		"listen: 8001\nbackends: 9001\n":                                              "line 1, column 1: a service lacks its name",
		"name: -a\nlisten: 8001\nbackends: 9001\n":                                    `line 1, column 7: "-a" is not a name: letters, digits, dots, underscores and dashes, a letter or digit first`,
		"name: a\nbackends: 9001\n":                                                   `line 1, column 7: service "a" has no listener (add listen: ADDRESS)`,
		"name: a\nlisten: 8001\n":                                                     `line 1, column 7: service "a" listens on 127.0.0.1:8001 but has no backend`,
		"name: a\nlistn: 8001\n":                                                      `line 2, column 1: unknown key "listn" (did you mean "listen"?)`,
		`{"name": "a", "listen": [8001], "backends": ["9001"], "idle-timeout": 3}`:    `line 1, column 71: "3" lacks a unit (did you mean "3s"?)`,
		"":     "the body is empty",
		"null": "the body is empty",
		"[a]":  "line 1, column 1: a service must be a mapping, not a list",
		"\xff": "line 1, column 1: this line is not UTF-8 text",
		"{":    "line 1, column 1: could not find flow mapping end token '}'",
	} {
		s, err := DecodeService("", []byte(body))
		if want != "" {
			if s != nil || err == nil || err.Error() != want {
				t.Errorf("%q: %v, want %s", body, err, want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", body, err)
			continue
		}
		again, err := DecodeService("a", EncodeService(s))
		if diff := cmp.Diff(s, again, equate); err != nil || diff != "" {
			t.Errorf("%q: %v, %s", body, err, diff)
		}
	}
	const other = `line 1, column 7: the name is "a" here, and "b" in the request`
	if _, err := DecodeService("b", []byte("name: a\nlisten: 1\nbackends: 2\n")); err == nil || err.Error() != other {
		t.Errorf("%v, want %s", err, other)
	}
}

// TestDecodeChange: a change sets what it names, and replaces addresses.
func TestDecodeChange(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"scheduler": "lc"}`:                     "name: a\nlisten: 127.0.0.1:8001\nbackends:\n  - 127.0.0.1:9001\n  - 127.0.0.1:9002\nscheduler: lc\n",
		`{"backends": [9003], "listen": ":8002"}`: "name: a\nlisten: \":8002\"\nbackends: 127.0.0.1:9003\n",
		`{"listen": "udp::1"}`:                    `line 1, column 12: service "a" cannot become udp: remove it and add it`,
		`{"backends": ["udp:9003"]}`:              `line 1, column 15: service "a" is tcp and cannot have the backend udp://127.0.0.1:9003`,
		`{"queue": "1,1s"}`:                       `line 1, column 11: service "a": queue has nothing to wait for: no backend has a limit (backends ADDR,max=N)`,
		`{"backends": []}`:                        `line 1, column 1: service "a" listens on 127.0.0.1:8001 but has no backend`,
		`{"listen": []}`:                          `line 1, column 1: service "a" has no listener`,
		`{"backends": [{"address": "9001@2,max=1", "weight": 1}]}`: "line 1, column 43: weight is given with the address already",
		`{"backends": [{"weight": 1}]}`:                            "line 1, column 15: a backend lacks its address",
		`{"backends": [{"address": "1", "wait": 1}]}`:              `line 1, column 32: unknown key "wait": it is of a service and stands below its name`,
		`{"max": 3}`:    `line 1, column 2: unknown key "max": it is of a backend`,
		`{"ops": null}`: "line 1, column 2: ops has no value",
	} {
		base, err := DecodeService("a", []byte("listen: 8001\nbackends: [9001, 9002]\n"))
		if err != nil {
			t.Fatal(err)
		}
		clone := *base
		got := ""
		if edit, err := DecodeChange([]byte(body)); err != nil {
			got = err.Error()
		} else if err := edit(&clone); err != nil {
			got = err.Error()
		} else {
			got = string(EncodeService(&clone))
		}
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", body, got, want)
		}
		if text := string(EncodeService(base)); text != "name: a\nlisten: 127.0.0.1:8001\nbackends:\n  - 127.0.0.1:9001\n  - 127.0.0.1:9002\n" {
			t.Errorf("%s changed the service that was cloned: %s", body, text)
		}
	}
}

// TestDecodeBackend: a backend is a word or a mapping; a change of one names options.
func TestDecodeBackend(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`"9001@3,max=2"`: "udp://127.0.0.1:9001@3,max=2",
		`{"address": "9001", "weight": 3, "max": 2, "backup": true, "check": 81}`: "udp://127.0.0.1:9001@3,backup,max=2,check=81",
		`{"address": "9001", "backup": false}`:                                    "udp://127.0.0.1:9001",
		`{"address": "unix:///a@3"}`:                                              "unix:///a@3",
		`{"address": "9001", "weight": -1}`:                                       "line 1, column 31: -1 is out of range (0 to 2147483647)",
		`{"addres": "9001"}`:                                                      `line 1, column 2: unknown key "addres" (did you mean "address"?)`,
		`[9001]`:                                                                  "line 1, column 1: a backend must be a value, not a list",
	} {
		all, err := DecodeBackend([]byte(body), config.UDP)
		got := ""
		if err != nil {
			got = err.Error()
		} else if len(all) == 1 {
			got = all[0].String()
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", body, got, want)
		}
	}
	for body, want := range map[string]string{
		`{"weight": 0, "max": 5}`: "127.0.0.1:9001@0,max=5",
		`{"weigth": 0}`:           `line 1, column 2: unknown key "weigth" (did you mean "weight"?)`,
		`{"address": "9002"}`:     "line 1, column 2: the address of a backend cannot change: remove it and add another",
		`{"max": 0}`:              "line 1, column 9: 0 is out of range (1 to 1000000000)",
	} {
		b, err := config.ParseBackend("9001", config.TCP)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if edit, err := DecodeBackendChange([]byte(body)); err != nil {
			got = err.Error()
		} else if err := edit(&b); err != nil {
			got = err.Error()
		} else {
			got = b.String()
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", body, got, want)
		}
	}
}
