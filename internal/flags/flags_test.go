package flags

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"usher/internal/config"
)

// machine is a template evaluator with fixed answers for a few templates.
func machine(input string) (string, error) {
	switch input {
	case "{{ GetPrivateIP }}":
		return "10.9.8.7", nil
	case "{{ GetPrivateIPs }}":
		return "10.9.8.7 fd00::7", nil
	case "{{ GetPublicIP }}":
		return "", nil
	case `{{ GetInterfaceIP "a=b,c" }}`:
		return "10.0.0.1", nil
	case "{{ GetPublicIP }}:{{ x }}":
		return ":80", nil
	case "{{ Foo }}":
		return "", errors.New(`function "Foo" not defined`)
	}
	return "", fmt.Errorf("unexpected template %q", input)
}

// brief formats a config's addresses as one line: name: listeners -> backends; ...
func brief(c *config.Config) string {
	var services []string
	for _, s := range c.Services {
		services = append(services, fmt.Sprintf("%s: %v -> %v", s.Name, s.Listeners, s.Backends))
	}
	return strings.Join(services, "; ")
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		words Words
		want  string
	}{
		{"one mapping", Words{Mappings: []string{"8080=9001,9002"}},
			"8080: [127.0.0.1:8080] -> [127.0.0.1:9001 127.0.0.1:9002]"},
		{"options in a mapping", Words{Mappings: []string{"8080=9001@3,max=5,9002,backup,unix:///x,upper=7,lower=3"}},
			"8080: [127.0.0.1:8080] -> [127.0.0.1:9001@3,max=5 127.0.0.1:9002,backup unix:///x,upper=7,lower=3]"},
		{"server names", Words{Mappings: []string{":443,sni=*.A.test.,alpn=h2=10.0.0.1:443,max=5", "unix:///x,mode=600,sni=a=9001"}, Listen: []string{"x=:443,alpn=http/1.1", ":443,sni=b.test"}, Backend: []string{"x=1", "2"}},
			"443-sni-.A.test.-alpn-h2: [:443,sni=*.a.test,alpn=h2] -> [10.0.0.1:443,max=5]; x-a: [unix:///x,mode=600,sni=a] -> [127.0.0.1:9001]; " +
				"x: [:443,alpn=http/1.1] -> [127.0.0.1:1]; default: [:443,sni=b.test] -> [127.0.0.1:2]"},
		{"a unix listener's file", Words{Mappings: []string{"unix:///run/a,b.sock,mode=0660,group=www-data=9001,max=5"}, Listen: []string{"x=unix:/y,user=1"}, Backend: []string{"x=1"}},
			"run-a-b.sock: [unix:///run/a,b.sock,mode=660,group=www-data] -> [127.0.0.1:9001,max=5]; x: [unix:///y,user=1] -> [127.0.0.1:1]"},
		{"hosts named as options", Words{Mappings: []string{"8080=backup:81,max:80,tcp://check"}},
			"8080: [127.0.0.1:8080] -> [backup:81 max:80 check]"},
		{"two mappings", Words{Mappings: []string{":8080=10.0.0.1", "10.0.0.2:80=db:5432@0"}},
			"8080: [:8080] -> [10.0.0.1]; 10.0.0.2-80: [10.0.0.2:80] -> [db:5432@0]"},
		{"flags", Words{Listen: []string{":80", "[::1]:81"}, Backend: []string{"9001@3", "unix:///run/x.sock"}},
			"default: [:80 [::1]:81] -> [127.0.0.1:9001@3 unix:///run/x.sock]"},
		{"named flags", Words{Listen: []string{"web=:80", "db=:5432"}, Backend: []string{"db=10.0.0.1", "web=9001"}},
			"web: [:80] -> [127.0.0.1:9001]; db: [:5432] -> [10.0.0.1]"},
		{"mapping and flags", Words{Mappings: []string{"8080=9001"}, Listen: []string{":80"}, Backend: []string{"9001", "8080=9002"}},
			"8080: [127.0.0.1:8080] -> [127.0.0.1:9001 127.0.0.1:9002]; default: [:80] -> [127.0.0.1:9001]"},
		{"range to range", Words{Mappings: []string{"1000-1099=10.0.0.1:2000-2099"}},
			"1000-1099: [127.0.0.1:1000-1099] -> [10.0.0.1:2000-2099]"},
		{"range to no port and one port", Words{Mappings: []string{"1000-1099=10.0.0.1,10.0.0.1:80"}},
			"1000-1099: [127.0.0.1:1000-1099] -> [10.0.0.1 10.0.0.1:80]"},
		{"same port, two hosts", Words{Mappings: []string{"10.0.0.1:80=9001", "0.0.0.0:81=9001", "[::1]:81=9001", "10.0.0.2:80=9001"}},
			"10.0.0.1-80: [10.0.0.1:80] -> [127.0.0.1:9001]; 0.0.0.0-81: [0.0.0.0:81] -> [127.0.0.1:9001]; " +
				"0-1-81: [[::1]:81] -> [127.0.0.1:9001]; 10.0.0.2-80: [10.0.0.2:80] -> [127.0.0.1:9001]"},
		{"names from words with a protocol", Words{Mappings: []string{"tcp:8080=9001", "tcp://8081=9001", "unix:/x=9001"}},
			"8080: [127.0.0.1:8080] -> [127.0.0.1:9001]; 8081: [127.0.0.1:8081] -> [127.0.0.1:9001]; x: [unix:///x] -> [127.0.0.1:9001]"},
		{"template", Words{Mappings: []string{"{{ GetPrivateIP }}:80=9001"}},
			"GetPrivateIP-80: [10.9.8.7:80] -> [127.0.0.1:9001]"},
		{"template of several", Words{Listen: []string{"tcp://{{ GetPrivateIPs }}:80"}, Backend: []string{"{{ GetPrivateIPs }}:81@2"}},
			"default: [10.9.8.7:80 [fd00::7]:80] -> [10.9.8.7:81@2 [fd00::7]:81@2]"},
		{"template in brackets", Words{Listen: []string{"[{{ GetPrivateIPs }}]:80"}, Backend: []string{"[{{ GetPrivateIPs }}]:81"}},
			"default: [10.9.8.7:80 [fd00::7]:80] -> [10.9.8.7:81 [fd00::7]:81]"},
		{"template without a port", Words{Mappings: []string{"8080={{ GetPrivateIPs }}"}},
			"8080: [127.0.0.1:8080] -> [10.9.8.7 [fd00::7]]"},
		{"template with = and ,", Words{Mappings: []string{`8080={{ GetInterfaceIP "a=b,c" }}:80,9001`}},
			"8080: [127.0.0.1:8080] -> [10.0.0.1:80 127.0.0.1:9001]"},
		{"template with = and no name", Words{Listen: []string{`{{ GetInterfaceIP "a=b,c" }}:80`}, Backend: []string{"9001"}},
			"default: [10.0.0.1:80] -> [127.0.0.1:9001]"},
		{"port that the kernel chooses, twice", Words{Listen: []string{"127.0.0.1:0", "127.0.0.1:0"}, Backend: []string{"9001"}},
			"default: [127.0.0.1:0 127.0.0.1:0] -> [127.0.0.1:9001]"},
		{"udp", Words{Mappings: []string{"udp:5353=1.1.1.1:53,8.8.8.8:53@3,db.local"}},
			"udp-5353: [udp://127.0.0.1:5353] -> [udp://1.1.1.1:53 udp://8.8.8.8:53@3 udp://db.local]"},
		{"udp flags", Words{Listen: []string{"udp://:53", "dns=udp:[::1]:54"}, Backend: []string{"udp://9001", "dns=[fd00::1]:53"}},
			"default: [udp://:53] -> [udp://127.0.0.1:9001]; dns: [udp://[::1]:54] -> [udp://[fd00::1]:53]"},
		{"tcp and udp on one port", Words{Mappings: []string{"53=9001", "udp:53=9001", ":54=9001", "udp://0.0.0.0:54=9001", "udp:[::1]:55=9001"}},
			"53: [127.0.0.1:53] -> [127.0.0.1:9001]; udp-53: [udp://127.0.0.1:53] -> [udp://127.0.0.1:9001]; " +
				"54: [:54] -> [127.0.0.1:9001]; udp-0.0.0.0-54: [udp://0.0.0.0:54] -> [udp://127.0.0.1:9001]; " +
				"udp-0-1-55: [udp://[::1]:55] -> [udp://127.0.0.1:9001]"},
		{"udp ranges", Words{Mappings: []string{"udp:1000-1099=10.0.0.1:2000-2099,10.0.0.2,10.0.0.3:9"}},
			"udp-1000-1099: [udp://127.0.0.1:1000-1099] -> [udp://10.0.0.1:2000-2099 udp://10.0.0.2 udp://10.0.0.3:9]"},
		{"udp template", Words{Mappings: []string{"udp://{{ GetPrivateIP }}:53={{ GetPrivateIPs }}:54"}},
			"udp-GetPrivateIP-53: [udp://10.9.8.7:53] -> [udp://10.9.8.7:54 udp://[fd00::7]:54]"},
		{"path with =", Words{Listen: []string{"unix:///run/a=b"}, Backend: []string{"9001"}},
			"default: [unix:///run/a=b] -> [127.0.0.1:9001]"},
		{"paths with a comma", Words{Listen: []string{"unix:///run/a,b"}, Backend: []string{"unix:///run/c,d"}},
			"default: [unix:///run/a,b] -> [unix:///run/c,d]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := parse(tt.words, machine)
			if err != nil {
				t.Fatal(err)
			}
			if got := brief(c); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	c, err := parse(Words{
		Mappings: []string{"8080=9001", "8081=9002"},
		Options: []Option{
			{"scheduler", "8081=mh"}, {"scheduler", "lc"},
			{"health", "tcp,interval=250ms,timeout=100ms,rise=1,fall=5"}, {"health", "8080=off"},
			{"fail", "8081=closed"},
			{"connect-timeout", "2s"}, {"connect-timeout", "3s"},
			{"idle-timeout", "8080=1h"}, {"idle-timeout", "8081=off"},
			{"half-close-timeout", "1m"}, {"wait", "8081=250ms"},
			{"drain-timeout", "0"}, {"max-conns", "10"}, {"workers", "3"}, {"engine", "portable"},
			{"log-format", "json"}, {"log-level", "debug"}, {"access-log", "true"},
		},
	}, machine)
	if err != nil {
		t.Fatal(err)
	}
	defaults := config.NewService("", config.TCP)
	want := &config.Config{
		Services: []*config.Service{
			{
				Name: "8080", Scheduler: config.Scheduler{Name: "lc"}, Health: config.Health{Kind: "off"},
				ConnectTimeout: 3 * time.Second, IdleTimeout: time.Hour, HalfCloseTimeout: time.Minute,
				OnDown: config.TerminationPolicy{How: "keep"}, OnDrain: config.TerminationPolicy{How: "keep"}, OnRemove: config.TerminationPolicy{How: "keep"}, Agent: defaults.Agent, Access: defaults.Access,
			},
			{
				Name: "8081", Scheduler: config.Scheduler{Name: "mh"}, FailClosed: true,
				Health:         config.Health{Kind: "tcp", Interval: 250 * time.Millisecond, Timeout: 100 * time.Millisecond, Rise: 1, Fall: 5},
				ConnectTimeout: 3 * time.Second, HalfCloseTimeout: time.Minute, Wait: 250 * time.Millisecond,
				OnDown: config.TerminationPolicy{How: "keep"}, OnDrain: config.TerminationPolicy{How: "keep"}, OnRemove: config.TerminationPolicy{How: "keep"}, Agent: defaults.Agent, Access: defaults.Access,
			},
		},
		Process: config.Process{MaxConns: 10, MaxDropped: 1000, DropTimeout: 30 * time.Second, Workers: 3, Engine: "portable", LogFormat: "json", LogLevel: "debug", AccessLog: true},
	}
	if diff := cmp.Diff(want, c, cmpopts.IgnoreFields(config.Service{}, "Listeners", "Backends"), equateAddrs); diff != "" {
		t.Error(diff)
	}
}

// equateAddrs compares addresses, whose type has fields of its own.
var equateAddrs = cmpopts.EquateComparable(config.Addr{}, config.Source{}, netip.AddrPort{}, netip.Prefix{})

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, err := parse(Words{Mappings: []string{"8080=9001"}}, machine)
	if err != nil {
		t.Fatal(err)
	}
	defaults := config.NewService("", config.TCP)
	want := &config.Config{
		Services: []*config.Service{{
			Name: "8080", Scheduler: config.Scheduler{Name: "rr"},
			Health:         config.Health{Kind: "tcp", Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3},
			ConnectTimeout: 5 * time.Second, HalfCloseTimeout: 5 * time.Minute,
			OnDown: config.TerminationPolicy{How: "keep"}, OnDrain: config.TerminationPolicy{How: "keep"}, OnRemove: config.TerminationPolicy{How: "keep"}, Agent: defaults.Agent, Access: defaults.Access,
		}},
		Process: config.DefaultProcess(),
	}
	if diff := cmp.Diff(want, c, cmpopts.IgnoreFields(config.Service{}, "Listeners", "Backends"), equateAddrs); diff != "" {
		t.Error(diff)
	}
}

func TestUDPOptions(t *testing.T) {
	t.Parallel()
	c, err := parse(Words{
		Mappings: []string{"udp:53=9001", "8080=9002", "udp:54=9003", "udp:55=9004"},
		Options: []Option{
			// Without a name it is for all services of its network.
			{"idle-timeout", "1h"}, {"udp-idle-timeout", "10s"}, {"udp-replies", "1"}, {"health", "dns:example.com,interval=1s"},
			{"udp-idle-timeout", "udp-54=2m"}, {"udp-unreplied-timeout", "udp-54=40s"}, {"udp-replies", "udp-54=0"},
			{"ops", "udp-54=true"}, {"max-flows", "1000"}, {"max-client-flows", "udp-54=7"}, {"max-client-flows", "udp-55=off"}, {"reserve", "300"}, {"reserve", "udp-54=20"},
			{"reclaim-idle", "8080=10m"}, {"on-down", "udp-54=keep"},
			{"health", `udp-54=udp:send=\x00\,a,expect=hex:FF0d,fall=1`}, {"health", "udp-55=tcp"}, {"scheduler", "udp-55=mh"},
		},
	}, machine)
	if err != nil {
		t.Fatal(err)
	}
	defaults := func(name string) *config.Service {
		network, _, _ := strings.Cut(name, "-")
		s := config.NewService(name, network)
		s.Scheduler = config.Scheduler{Name: "rr"}
		return s
	}
	want := []*config.Service{defaults("udp-53"), defaults("8080"), defaults("udp-54"), defaults("udp-55")}
	want[1].IdleTimeout = time.Hour
	// The unreplied timeout is never longer than the idle timeout.
	want[0].UDP = config.UDPOptions{IdleTimeout: 10 * time.Second, UnrepliedTimeout: 10 * time.Second, Replies: 1, MaxFlows: 1000}
	want[3].UDP = want[0].UDP
	want[3].UDP.MaxClientFlows = config.NoClientLimit
	for i := range want {
		want[i].Reserve = []int{300, 300, 20, 300}[i]
	}
	want[1].ReclaimIdle = 10 * time.Minute
	want[2].UDP = config.UDPOptions{IdleTimeout: 2 * time.Minute, UnrepliedTimeout: 40 * time.Second, OnePacket: true,
		MaxFlows: 1000, MaxClientFlows: 7}
	want[2].OnDown = config.TerminationPolicy{How: "keep"}
	want[0].Health = config.Health{Kind: "dns", Name: "example.com", Interval: time.Second, Timeout: time.Second, Rise: 2, Fall: 3}
	want[2].Health = config.Health{Kind: "udp", Send: "\x00,a", Expect: "\xff\r", Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 1}
	want[3].Scheduler, want[3].Health.Kind = config.Scheduler{Name: "mh"}, "tcp"
	if diff := cmp.Diff(want, c.Services, cmpopts.IgnoreFields(config.Service{}, "Listeners", "Backends"), equateAddrs); diff != "" {
		t.Error(diff)
	}
}

func TestUDPDefaults(t *testing.T) {
	t.Parallel()
	c, err := parse(Words{Mappings: []string{"udp:53=9001"}}, machine)
	if err != nil {
		t.Fatal(err)
	}
	s := c.Services[0]
	want := config.UDPOptions{IdleTimeout: time.Minute, UnrepliedTimeout: 30 * time.Second}
	if s.UDP != want || s.Health.Kind != "auto" || s.Scheduler.Name != "rr" {
		t.Errorf("%+v, health %s, scheduler %s", s.UDP, s.Health, s.Scheduler)
	}
}

// The real evaluator on the test's machine: every machine has a loopback interface.
func TestTemplateOnThisMachine(t *testing.T) {
	t.Parallel()
	c, err := Parse(Words{
		Listen:  []string{`{{ GetAllInterfaces | include "address" "127.0.0.1" | attr "address" }}:8080`},
		Backend: []string{"9001"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := brief(c), "default: [127.0.0.1:8080] -> [127.0.0.1:9001]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	_, err = Parse(Words{Mappings: []string{`{{ GetInterfaceIP "no-such-interface" }}:80=9001`}})
	if err == nil || !strings.Contains(err.Error(), "yields no address") {
		t.Errorf("an interface that does not exist: %v", err)
	}
}

func FuzzFlag(f *testing.F) {
	for _, seed := range []string{"web=tcp,interval=2s,rise=1", "off", "a=b=c", "{{ x=y }}=z", "tcp,fall=3,timeout=1m", "dns=1", "dns:a.b", "1,=",
		`udp:send=\x00\,,expect=hex:00ff`, `udp:expect=\x68ex:,rise=1`, "udp,fall=1", "true", "reset"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, word string) {
		name, value := splitName(word)
		if name != "" && name+"="+value != word || name == "" && value != word {
			t.Errorf("%q splits into %q and %q", word, name, value)
		}
		if h, err := config.ParseHealth(value); err == nil {
			again, err := config.ParseHealth(h.String())
			if err != nil || again != h {
				t.Errorf("%q gives %q, which gives %q, %v", value, h, again, err)
			}
		}
		for _, network := range []string{config.TCP, config.UDP} {
			s := config.NewService("web", network)
			for _, o := range config.ServiceOptions() {
				var typed *config.Error
				if err := s.Set(o.Name, word); err != nil && (!errors.As(err, &typed) || typed.Field != o.Name) {
					t.Errorf("an error of %s does not name it: %v", o.Name, err)
				}
			}
		}
	})
}

func FuzzMapping(f *testing.F) {
	for _, seed := range []string{"8080=9001,9002", ":80=a,b:1@3", "{{ a=b,c }}:80={{ d,e }}:1,2", "unix:///x=unix:///y@2", "1-2=3-4"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, word string) {
		m, err := parseMapping(word)
		if err != nil {
			return
		}
		if m.String() != word {
			t.Errorf("%q gives %q", word, m)
		}
		if config.CheckName(m.name()) != nil {
			t.Errorf("%q is named %q, which no flag can name", word, m.name())
		}
		c, err := parse(Words{Mappings: []string{word}}, machine)
		if err != nil {
			if strings.Contains(err.Error(), "%!") && !strings.Contains(word, "%!") {
				t.Errorf("%q: badly formatted error %q", word, err)
			}
			return
		}
		// A parsed plan, formatted as words and parsed again, is the same.
		s := c.Services[0]
		again := Words{}
		for _, l := range s.Listeners {
			again.Listen = append(again.Listen, s.Name+"="+l.String())
		}
		for _, b := range s.Backends {
			again.Backend = append(again.Backend, s.Name+"="+b.String())
		}
		c2, err := parse(again, machine)
		if err != nil {
			t.Fatalf("%q gives %v: %v", word, again, err)
		}
		if diff := cmp.Diff(c, c2, equateAddrs); diff != "" {
			t.Errorf("%q: %s", word, diff)
		}
	})
}
