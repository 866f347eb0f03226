package config

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"usher/balancer"
)

// A service may have the name of a port of a Kubernetes Service; an instance, whose name is that of a file, may not.
func TestNames(t *testing.T) {
	t.Parallel()
	for name, is := range map[string]struct{ service, instance bool }{
		"web": {true, true}, "3.14": {true, true}, "a_b-c.d": {true, true},
		"default/web": {true, false}, "kube-system/kube-dns:dns-tcp/external/ipv6": {true, false}, "a:b": {true, false},
		strings.Repeat("n", 63) + "/" + strings.Repeat("s", 63) + ":" + strings.Repeat("p", 63): {true, false},
		strings.Repeat("n", 128): {true, true}, strings.Repeat("n", 129): {true, false}, strings.Repeat("n", 254): {false, false},
		"": {false, false}, "/web": {false, false}, "web/": {false, false}, "a//b": {false, false}, "a/:b": {false, false}, "a:": {false, false},
		"a/-b": {false, false}, "a/../b": {false, false}, "unix:///x": {false, false}, "[::1]:80": {false, false}, "a b": {false, false}, "a,b": {false, false}, "a=b": {false, false},
	} {
		if err := CheckServiceName(name); (err == nil) != is.service {
			t.Errorf("service %q: error %v", name, err)
		}
		if err := CheckName(name); (err == nil) != is.instance {
			t.Errorf("instance %q: error %v", name, err)
		}
	}
}

// A plan that any source makes of values is checked like one of words. The error is typed, names the service and the
// field, and spells fields for its reader.
func TestErrorsNameTheField(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		field, value string
		text         string
		change       func(*Service)
	}{
		{"connect-timeout", "-1s", `connect-timeout -1s: -1s is negative (did you mean 1s?)`, func(s *Service) { s.ConnectTimeout = -time.Second }},
		{"connect-timeout", "0s", `connect-timeout 0s: 0s is too short (at least 1ms)`, func(s *Service) { s.ConnectTimeout = 0 }},
		{"reserve", "-3", `reserve -3: -3 is out of range (1 to 1000000000)`, func(s *Service) { s.Reserve = -3 }},
		{"panic", "101%", `panic 101%: 101 is out of range (0 to 100)`, func(s *Service) { s.Panic = 101 }},
		{"on-down", "gone", `on-down gone: unknown value "gone" (have keep, fin, reset)`, func(s *Service) { s.OnDown = TerminationPolicy{How: "gone"} }},
		{"scheduler", "wlcc", `scheduler wlcc: unknown scheduler "wlcc" (did you mean "wlc"?`, func(s *Service) { s.Scheduler.Name = "wlcc" }},
		{"hash-key", "unknown", `hash-key unknown: unknown hash key "unknown"`, func(s *Service) { s.HashKey = balancer.HashKey{Of: 9} }},
		{"health", "tcp,interval=1s,timeout=2s,rise=2,fall=3", `timeout: 2s is longer than the interval of 1s`, func(s *Service) { s.Health.Interval, s.Health.Timeout = time.Second, 2*time.Second }},
		{"queue", "5,1s", `service "web": queue has nothing to wait for: no backend has a limit (backend ADDR,max=N)`, func(s *Service) { s.Queue = Queue{5, time.Second} }},
		{"slow-start", "1s", `service "web": slow-start has no effect with health off: no backend ever comes up`, func(s *Service) { s.SlowStart, s.Health = time.Second, Health{} }},
		{"scheduler", "rr", `service "web": scheduler rr has no bounded load`, func(s *Service) { s.HashBalance = 125 }},
		{"listen", "", `service "web" has no listener`, func(s *Service) { s.Listeners = nil }},
		{"listen", "127.0.0.1", `service "web": "127.0.0.1" needs a port to listen on`, func(s *Service) { s.Listeners[0].Ports = 0 }},
		{"backend", "", `service "web" listens on 127.0.0.1:80 but has no backend`, func(s *Service) { s.Backends = nil }},
		{"backend", "127.0.0.1:81", `service "web": weight -1 is out of range (0 to 2147483647)`, func(s *Service) { s.Backends[0].Weight = -1 }},
		{"listen", "127.0.0.1:80", `service "web": unknown protocol "tpc" (did you mean "tcp"? have tcp, udp, unix)`, func(s *Service) { s.Listeners[0].Network = "tpc" }},
		{"listen", "127.0.0.1:65000-65999", `service "web": 1000 ports from 65000 on end beyond 65535`, func(s *Service) { s.Listeners[0].Port, s.Listeners[0].Ports = 65000, 1000 }},
		{"backend", "unix://x", `service "web": the path of a unix socket must be absolute`, func(s *Service) { s.Backends[0].Addr = Addr{Network: Unix, Path: "x"} }},
		{"backend", "udp://127.0.0.1:81", `service "web" is tcp and cannot have the backend udp://127.0.0.1:81`, func(s *Service) { s.Backends[0].Addr.Network = UDP }},
		{"backend", "127.0.0.1:82", `service "web" has the backend 127.0.0.1:82 twice`, func(s *Service) { s.Backends[0] = s.Backends[1] }},
		{"name", "first", `there are two services "first"`, func(s *Service) { s.Name = "first" }},
		{"backend", "127.0.0.1:80", `backend 127.0.0.1:80 of service web is its own listener 127.0.0.1:80`, func(s *Service) { s.Backends[0].Addr.Port = 80 }},
	} {
		s := serving(t, "web", "80", "81", "82")
		tt.change(s)
		c := Config{Services: []*Service{serving(t, "first", "79", "9001"), s}, Process: DefaultProcess()}
		var e *Error
		if err := c.Complete(); !errors.As(err, &e) {
			t.Errorf("%s: error %v, want an *Error", tt.text, err)
			continue
		}
		if e.Service != s.Name || string(e.Field) != tt.field || e.Value != tt.value || !strings.Contains(e.Error(), tt.text) {
			t.Errorf("got  %q %q %q: %s\nwant \"web\" %q %q: %s", e.Service, e.Field, e.Value, e, tt.field, tt.value, tt.text)
		}
	}
}

func TestErrorsOfTheProcess(t *testing.T) {
	t.Parallel()
	for field, change := range map[Field]func(*Process){
		"workers":       func(p *Process) { p.Workers = 5000 },
		"engine":        func(p *Process) { p.Engine = "steam" },
		"drain-timeout": func(p *Process) { p.DrainTimeout = time.Microsecond },
		"access-log":    func(p *Process) { p.AccessLog, p.LogLevel = true, "warn" },
	} {
		c := Config{Services: []*Service{serving(t, "web", "80", "81")}, Process: DefaultProcess()}
		change(&c.Process)
		var e *Error
		if err := c.Complete(); !errors.As(err, &e) || e.Field != field || e.Service != "" {
			t.Errorf("%s: %v", field, err)
		}
		dashed := e.Text(func(f Field) string { return "--" + string(f) })
		if !strings.HasPrefix(e.Error(), string(field)) || !strings.HasPrefix(dashed, "--"+string(field)) {
			t.Errorf("%s: %q, and as a flag %q", field, e, dashed)
		}
	}
}

// Each option reads its own text, and its default needs no word.
func TestOptionsReadWhatTheyWrite(t *testing.T) {
	t.Parallel()
	words := map[Field]string{"scheduler": "mh,ipvs", "hash-key": "dst/24", "hash-balance": "125%", "persist": "5m/24", "health": "off", "fail": "closed",
		"slow-start": "3s", "on-down": "fin,2s", "on-drain": "reset", "on-remove": "fin", "agent": "99,interval=1s,timeout=500ms", "panic": "50%", "source": "127.0.0.1+::1",
		"max-age": "1h,jitter=3%", "eject": "3,time=1s,share=5%", "queue": "5,1s", "max-client-flows": "off", "ops": "true", "abort-on-close": "true",
		"allow": "10.0.0.0/8,::1", "deny": "10.0.0.1", "client-rate": "10/m,burst=3/24/64", "rate": "7/d", "max-client-conns": "7/24",
		"accept-proxy": "127.0.0.1,fd00::/8", "accept-proxy-only": "true", "on-empty": "drop", "on-deny": "drop", "log-access": "true", "send-proxy": "v2,every", "send-proxy-id": "true"}
	for _, o := range ServiceOptions() {
		network := TCP
		if o.Network == UDP {
			network = UDP
		}
		s := NewService("web", network)
		if network == UDP {
			s.Listeners = []Addr{{Network: UDP, Port: 1, Ports: 1}}
		}
		word, ok := words[o.Name]
		if !ok {
			word = "7"
			if strings.Contains(string(o.Name), "timeout") || o.Name == "wait" || o.Name == "reclaim-idle" {
				word = "7s"
			}
		}
		if err := s.Set(o.Name, word); err != nil {
			t.Errorf("%s %s: %v", o.Name, word, err)
		} else if got := o.text(s); got != word {
			t.Errorf("%s %s is written %s", o.Name, word, got)
		}
	}
	s := NewService("web", TCP)
	if err := s.Set("schedulr", "rr"); err == nil || !strings.Contains(err.Error(), `unknown option "schedulr" (did you mean "scheduler"?`) {
		t.Error(err)
	}
}

// Only the command line mentions flags.
func TestNoTextSpeaksOfFlags(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	flag := regexp.MustCompile(`--[a-z]`)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING && flag.MatchString(l.Value) {
				t.Errorf("%s: %s", name, l.Value)
			}
			return true
		})
	}
}
