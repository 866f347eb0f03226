package configfile

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"usher/internal/config"
)

// words has values of every option of package config.
var words = map[config.Field][]string{
	"scheduler": {"rr", "wrr", "lc", "mh,mh-port", "sh", "ring", "hrw", "p2c"},
	"hash-key":  {"addr", "addr-port", "dst/24", "dst-port/24/64"}, "hash-balance": {"125", "off"},
	"persist": {"300s", "1h/24,quiesced=leave", "10s/8/48", "off"},
	"health": {"off", "tcp", "tcp,interval=3s,rise=2", `tcp:send=PING\r\n,expect=^+PONG`, "http:/ready?a=1&b=*,status=200+204,host=a b",
		`http:/#x,expect="ü: 'y'`, "exec:/bin/sh -c 'exit 0',timeout=1s", "udp:send=hex:00ff", "dns:a.example,rise=3", "auto", "tcps:sni=a,verify=off"},
	"fail": {"open", "closed"}, "slow-start": {"10s", "off"}, "max-age": {"1h,jitter=20%", "1m", "off"},
	"on-empty": {"close", "drop", "refuse", "off"}, "on-deny": {"refuse", "drop"}, "log-access": {"true", "false"},
	"on-down": {"keep", "fin,10s", "reset"}, "on-drain": {"keep", "reset,1m"}, "on-remove": {"fin", "reset", "keep"},
	"eject": {"3,time=1m,share=10%", "5"}, "agent": {`81,send=a: #\,b\n`, "82,interval=5s", "off"}, "panic": {"50%", "off"},
	"reserve": {"100"}, "connect-timeout": {"1s", "1m30s"}, "wait": {"5s", "off"}, "queue": {"100,5s", "off"},
	"abort-on-close": {"true", "false"}, "idle-timeout": {"1h", "off"}, "half-close-timeout": {"90s"}, "reclaim-idle": {"5m", "off"},
	"udp-idle-timeout": {"10s", "2m"}, "udp-unreplied-timeout": {"5s"}, "udp-replies": {"1", "0"}, "ops": {"true", "false"},
	"max-flows": {"1000"}, "max-client-flows": {"10", "off"},
	"allow": {"10.0.0.0/8,::1", "off"}, "deny": {"10.1.0.0/16,fd00::/8", "0.0.0.0/0"}, "max-client-conns": {"10", "3/24/64", "off"},
	"client-rate": {"10/s", "100/m,burst=5/24", "1/d/24/64", "off"}, "rate": {"1000/s,burst=2000", "off"},
	"accept-proxy": {"127.0.0.1,::1", "10.0.0.0/8"}, "accept-proxy-only": {"true", "false"}, "accept-proxy-timeout": {"3s"},
	"send-proxy": {"v1", "v2", "v2,every", "off"}, "send-proxy-id": {"true", "false"}, "sni-timeout": {"3s", "1m"},
	"source":      {"10.0.0.8", "10.0.0.8+fd00::8", "off"},
	"max-dropped": {"0", "10"}, "drop-timeout": {"1m"},
	"drain-timeout": {"0s", "20s"}, "max-conns": {"1000"}, "workers": {"3"}, "engine": {"portable", "auto"}, "log-format": {"json"},
	"log-level": {"debug", "info"}, "access-log": {"true", "false"}, "name": {"edge-1", "3.14", "null"}, "control": {"off", "/run/a b/#x"},
	"admin": {"9090", "[::1]:9090", "off"}, "admin-token-file": {"/run/token"}, "watch-config": {"true"},
	"proc": {"/run/usher/proc"},
}

var (
	listenerForms = map[string][]string{
		config.TCP: {"%d", ":%d", "127.0.0.1:%d", "[::1]:%d", "localhost:%d", "unix:///run/a,b %d.sock,mode=660,user=u", "unix:@a#%d", "unix:///run/ü: %d",
			":%d,sni=a.example.com", "127.0.0.1:%d,from=10.0.0.0/8+::1/128", "127.0.0.1:%d,sni=*.example.com,alpn=h2", "[::1]:%d,alpn=http/1.1", "unix:///run/s %d.sock,mode=660,sni=a-b_c"},
		config.UDP: {"udp:%d", "udp://:%d", "udp:[fe80::1%%eth0]:%d", "udp://127.0.0.1:%d", "udp://:%d,from=10.1.2.3/32"},
	}
	backendForms = map[string][]string{
		config.TCP: {"10.0.0.1:%d", "[fd00::1]:%d", "a.example:%d", "srv:_http._tcp.s%d.example", "unix:///b/%d@3@1", "unix:///b,backup,%d,max=1@5", "tcp://http:%d"},
		config.UDP: {"10.0.0.1:%d", "[fd00::1]:%d", "udp://a.example:%d"},
	}
	backendOptionForms = []string{"@3", "@0", "@7,max=5", ",backup", ",max=3,upper=3,lower=1", ",check=81", ",agent=1.2.3.4:82,check=[::1]:1",
		",source=10.0.0.9", ",source=fd00::9"}
)

// randomService is a valid service; i keeps it apart from others.
func randomService(t *testing.T, r *rand.Rand, i int) *config.Service {
	t.Helper()
	network := []string{config.TCP, config.UDP}[r.IntN(2)]
	s := config.NewService(fmt.Sprintf([]string{"s%d", "%d", "a.b-c_%d", "0x%d", "1e%d", "n/s:p%d/ipv6", "1:%d"}[r.IntN(7)], i), network)
	pick := func(of []string) string { return of[r.IntN(len(of))] }
	for j := range 1 + r.IntN(3) {
		a, err := config.ParseListener(fmt.Sprintf(pick(listenerForms[network]), 1000+10*i+j))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.AddListener(a); err != nil {
			t.Fatal(err)
		}
	}
	// Those that do not agree with the rest are left out.
	try := func(edit func(*config.Service) error) {
		changed := *s
		if edit(&changed) == nil && (len(s.Backends) == 0 || changed.Complete() == nil) {
			*s = changed
		}
	}
	for j := range 1 + r.IntN(4) {
		word := fmt.Sprintf(pick(backendForms[network]), 2000+j)
		if j == 0 {
			word = network + ":10.0.0.2:2000"
		}
		if j > 0 && r.IntN(2) == 0 {
			word += pick(backendOptionForms)
		}
		try(func(s *config.Service) error {
			b, err := config.ParseBackend(word, network)
			if err != nil {
				return err
			}
			return s.AddBackend(b)
		})
	}
	for _, o := range config.ServiceOptions() {
		if r.IntN(2) == 0 {
			try(func(s *config.Service) error { return s.Set(o.Name, pick(words[o.Name])) })
		}
	}
	if err := s.Complete(); err != nil {
		t.Fatalf("%v\n%s", err, EncodeService(s))
	}
	return s
}

// ruleForms has lines of rules, of which any choice is a list.
var ruleForms = []string{
	"-j DROP", "-s 10.0.0.0/8,::1 -p tcp --dport 80 -j ACCEPT", "! -d 10.0.0.1 -i eth+ -j REJECT", `-m comment --comment "it's # \"a\": b" -j LOG`,
	"-I INPUT 1 -m hashlimit --hashlimit-upto 10/sec --hashlimit-name a-web -j ACCEPT", "-m statistic --mode random --probability 0.3",
	"-N web", "-N a.b", "-m recent --name ssh --update --seconds 60 -j DROP", "-p udp -m multiport ! --sports 1,2:3 -j RETURN",
}

// randomRules are valid rules, or none.
func randomRules(t *testing.T, r *rand.Rand) *config.Rules {
	t.Helper()
	var lines []string
	for _, line := range ruleForms {
		if r.IntN(3) == 0 {
			lines = append(lines, line)
		}
	}
	if slices.Contains(lines, "-N web") {
		lines = append(lines, "-j web", "-A web -j RETURN")
	}
	rules, err := config.ParseRules([]string{"", "ACCEPT", "DROP"}[r.IntN(3)], lines)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func randomPlan(t *testing.T, r *rand.Rand) *config.Config {
	t.Helper()
	c := &config.Config{Process: config.DefaultProcess(), Rules: randomRules(t, r)}
	for i := range r.IntN(5) {
		c.Services = append(c.Services, randomService(t, r, i))
	}
	for _, o := range config.ProcessOptions() {
		if all := words[o.Name]; r.IntN(2) == 0 {
			if err := c.Process.Set(o.Name, all[r.IntN(len(all))]); err != nil {
				t.Fatal(err)
			}
		}
	}
	return c
}

// TestEncode: a plan that is written loads as the same plan, part by part and as a whole, and each of its services does.
func TestEncode(t *testing.T) {
	t.Parallel()
	const seed = 1 // another one tests other cases
	r := rand.New(rand.NewPCG(seed, 0))
	covered := make(map[config.Field]bool)
	for range 100 {
		want := randomPlan(t, r)
		text := Encode(want)
		f, err := Parse("usher.yaml", text, nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		got := plan(t, f)
		if diff := cmp.Diff(want, got, equate); diff != "" {
			t.Fatalf("%s\n%s", diff, text)
		}
		if again := Encode(got); !bytes.Equal(again, text) {
			t.Fatalf("written as\n%s, and again as\n%s", text, again)
		}
		if whole := mustParseWhole(t, text); !cmp.Equal(plan(t, whole), got, equate) || f.parts == nil && len(f.Services) > 0 {
			t.Fatalf("part by part it is another plan than as a whole:\n%s", text)
		}
		for _, s := range want.Services {
			again, err := DecodeService("", EncodeService(s))
			if diff := cmp.Diff(s, again, equate); err != nil || diff != "" {
				t.Fatalf("%v\n%s\n%s", err, diff, EncodeService(s))
			}
			for _, o := range config.ServiceOptions() {
				covered[o.Name] = covered[o.Name] || o.Text(s) != o.Text(s.Defaults())
			}
		}
	}
	for _, o := range config.ServiceOptions() {
		if !covered[o.Name] {
			t.Errorf("no plan had the option %s: add values of it", o.Name)
		}
	}
	for _, o := range config.ProcessOptions() {
		if len(words[o.Name]) == 0 {
			t.Errorf("add values of the option %s", o.Name)
		}
	}
}

var equate = cmp.Options{cmpopts.EquateComparable(config.Addr{}, netip.AddrPort{}, netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}

// mustParseWhole reads a text in one piece, as YAML also if it is JSON.
func mustParseWhole(t *testing.T, text []byte) *File {
	t.Helper()
	f := &File{decoder: newDecoder(source{file: "usher.yaml", text: text}), given: make(map[string]position)}
	root, err := f.yamlTree()
	if err == nil {
		err = f.decode(f.decoder, root, newEarlier(nil))
	}
	if err == nil {
		err = f.parseRules(nil)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return f
}
