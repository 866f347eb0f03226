package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// FuzzBackend: a parsed word, formatted and parsed again, has the same value.
func FuzzBackend(f *testing.F) {
	for _, seed := range []string{"9001", "10.0.0.1:80@3,backup,max=5", "unix:///a,max=1@2,upper=4,lower=3", "unix:///a,backup", "unix:///x@1,check=1.2.3.4:5",
		"[fd00::1]:80,check=81", "80,agent=81,check=1.2.3.4:5", "unix:///a,agent=[::1]:81", "[fe80::1%eth0]:80-90@0,max=1", "a.b:1,check=[::1]:2", "unix:///a@1,max=2@3", "unix:a,backup,",
		"unix:@a@3,max=1", "unix:@3", "unix:///a,x=y,z@2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, word string) {
		for _, network := range []string{TCP, UDP} {
			b, err := parseBackend(word, network)
			if err != nil {
				wantOneLine(t, word, err)
				continue
			}
			again, err := parseBackend(b.String(), network)
			if err != nil || again != b {
				t.Errorf("%q gives %q, which gives %+v, %v, want %+v", word, b, again, err, b)
			}
		}
	})
}

// FuzzListener is the same for listeners.
func FuzzListener(f *testing.F) {
	for _, seed := range []string{":80", "unix:///x,mode=660,user=a,group=0", "unix:@a,b", "unix:///a,b,mode=7", "unix:///a,c=d,e", "udp:[::]:53-54", ":443,sni=*.A.b.,alpn=h2", "unix:@a,sni=b", ":1-2,alpn=http/1.1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, word string) { again(t, word, parseListener, Addr.String) })
}

// FuzzHealth is the same for health checks.
func FuzzHealth(f *testing.F) {
	for _, seed := range []string{"tcp:send=PING\\r\\n,expect=^+PONG|\\^x\\|y", "http:/a\\,b?c=d,status=200+300-302,expect=x", "https:/,sni=a,verify=off",
		`exec:/bin/sh -c a\ b\,c`, "grpc:a.B,host=x,port=5", "udp:send=hex:00ff,expect=\\x41", "dns:a.b.,proxy,rise=1", "tcps:expect=hex:ff|a,send=b,expect=c,ca=/x",
		"http:hex:2f", "tcp:expect=^,interval=1s", "tcp:expect=hex:5e", "exec:\\,", "http:/,host=a\\,b,timeout=1s,interval=3s,interval-down=1m"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		h, err := ParseHealth(spec)
		if err != nil {
			wantOneLine(t, spec, err)
			return
		}
		again, err := ParseHealth(h.String())
		if err != nil || again != h {
			t.Errorf("%q gives %q, which gives %+v, %v, want %+v", spec, h, again, err, h)
		}
	})
}

// FuzzCommand: a formatted command yields the same words, whatever options follow it.
func FuzzCommand(f *testing.F) {
	for _, seed := range []string{`/bin/sh -c a\ b\,c`, `a "b\n$" 'c,d'`, "a 'b\nc' $'\\x01'", "{1..3}", "~ #x", `a\`, "\xff,\x01"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, word string) {
		for _, args := range [][]string{{word}, strings.Fields(word), must(splitArgs(word))} {
			joined, err := joinArgs(args)
			if err != nil {
				if !strings.ContainsRune(word, 0) {
					t.Errorf("%q: %v", args, err)
				}
				continue
			}
			command, options, _, err := cutCommand(joined + ",rise=1")
			if err != nil || command != joined || options != "rise=1" {
				t.Errorf("%q is written as %q, which is cut as %q and %q, %v", args, joined, command, options, err)
				continue
			}
			if again, err := splitArgs(command); err != nil || !slices.Equal(again, args) {
				t.Errorf("%q is written as %q, which is read as %q, %v", args, joined, again, err)
			}
		}
	})
}

// must is nil for words that are refused.
func must(args []string, err error) []string {
	if err != nil {
		return nil
	}
	return args
}

// FuzzLife is the same for the options that end flows and eject backends.
func FuzzLife(f *testing.F) {
	for _, seed := range []string{"5,10s", "fin,3s", "1h,jitter=3%", "3,time=1s,share=5", "300s/24/64,quiesced=leave", "addr-port/8", "mh,ipvs,mh-port", "off", "/24", "1m/1,overloaded=leave", "81,send=a\\,\\n,interval=3s"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, word string) {
		again(t, word, parseQueue, Queue.String)
		again(t, word, parseTermination, TerminationPolicy.String)
		again(t, word, parseAge, Age.String)
		again(t, word, parseAgent, Agent.String)
		again(t, word, parseEject, Eject.String)
		again(t, word, parsePersist, Persist.String)
		again(t, word, parseHashKey, FormatHashKey)
		again(t, word, func(w string) (string, error) {
			s, err := parseScheduler(w)
			return s.String(), err
		}, func(s string) string { return s })
	})
}

func again[T comparable](t *testing.T, word string, parse func(string) (T, error), format func(T) string) {
	t.Helper()
	v, err := parse(word)
	if err != nil {
		wantOneLine(t, word, err)
		return
	}
	if w, err := parse(format(v)); err != nil || w != v {
		t.Errorf("%q gives %q, which gives %s, %v", word, format(v), fmt.Sprint(w), err)
	}
}

// wantOneLine allows line breaks of the word itself, which are escaped when printed.
func wantOneLine(t *testing.T, word string, err error) {
	t.Helper()
	for _, bad := range []string{"\n", "\r", "%!"} {
		if strings.Contains(err.Error(), bad) && !strings.Contains(word, bad) {
			t.Errorf("%q: badly formatted error %q", word, err)
		}
	}
}
