package config

import (
	"fmt"
	"strings"
	"testing"
)

// serving returns a service called name with a listener and backends.
func serving(t *testing.T, name, listen string, backends ...string) *Service {
	t.Helper()
	l, err := ParseListener(listen)
	if err != nil {
		t.Fatal(err)
	}
	s := NewService(name, l.Network)
	if err := s.AddListener(l); err != nil {
		t.Fatal(err)
	}
	for _, word := range backends {
		if err := s.AddBackend(backend(t, word)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func backend(t *testing.T, word string) Backend {
	t.Helper()
	b, err := ParseBackend(word, TCP)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Routes refuse only the backend that closes a loop, and stay as they were.
func TestRoutes(t *testing.T) {
	t.Parallel()
	services := []*Service{serving(t, "a", "18080", "9001"), serving(t, "b", "18081", "9001")}
	r := NewRoutes(nil)
	routes := r.Add(services)
	set := func(service int, words string, want string) {
		t.Helper()
		var backends []Backend
		for _, word := range strings.Fields(words) {
			backends = append(backends, backend(t, word))
		}
		kept, refused, _ := r.Set(routes[service], backends)
		if got := fmt.Sprint(kept, refused); got != want {
			t.Errorf("service %d with %s:\ngot  %s\nwant %s", service, words, got, want)
		}
	}
	set(0, "18080 9001", "[127.0.0.1:9001] [backend 127.0.0.1:18080 of service a is its own listener 127.0.0.1:18080]")
	set(0, "18081", "[127.0.0.1:18081] []")
	set(1, "9001 18080 9002", "[127.0.0.1:9001 127.0.0.1:9002] "+
		"[backend 127.0.0.1:18080 of service b leads back to its listener 127.0.0.1:18081, by way of service a]")
	set(0, "9001", "[127.0.0.1:9001] []")
	set(1, "18080", "[127.0.0.1:18080] []")
	set(0, "18080 18081", "[] [backend 127.0.0.1:18080 of service a is its own listener 127.0.0.1:18080 "+
		"backend 127.0.0.1:18081 of service a leads back to its listener 127.0.0.1:18080, by way of service b]")
	if len(services[0].Backends) != 1 {
		t.Errorf("the services given are changed: %v", services[0].Backends)
	}
}

// The search for loops visits each port that leads on once, in any order of services. It looks up each backend of others
// once.
func TestRoutesOfManyAreLinear(t *testing.T) {
	t.Parallel()
	const n = 2000
	chain := make([]*Service, n) // each leads to the previous one
	for i := range chain {
		chain[i] = serving(t, fmt.Sprint("s", i), fmt.Sprint(10000+i), fmt.Sprint(9999+i), "9001")
	}
	wide := serving(t, "wide", "0.0.0.0:9998")
	for i := range n {
		wide.Backends = append(wide.Backends, backend(t, fmt.Sprintf("127.1.%d.%d:80", i/250, 1+i%250)))
	}
	services := append(chain, wide)
	r := NewRoutes(nil)
	routes := r.Add(services)
	if r.visits != n {
		t.Errorf("%d visits for a chain of %d, want %[2]d", r.visits, n)
	}
	for i, s := range services {
		if _, refused, _ := r.Set(routes[i], s.Backends); refused != nil {
			t.Error(refused)
		}
	}
	if r.visits != n {
		t.Errorf("%d visits after setting what is known, want %d", r.visits, n)
	}
	if kept := len(routes[n].onward); kept != 0 {
		t.Errorf("%d backends are kept that no way goes on from", kept)
	}
	if _, refused, _ := r.Set(routes[0], []Backend{backend(t, fmt.Sprint(9999+n))}); len(refused) != 1 {
		t.Errorf("a ring of %d services: %v", n, refused)
	}
}

// isOverlap reports whether two listeners take the same clients.
func isOverlap(a, b Addr) bool {
	switch {
	case hostOf(a) == hostOf(b) && (a.ServerName != b.ServerName || a.Protocol != b.Protocol):
		return false
	case a.Network != b.Network:
		return false
	case a.Network == Unix:
		return cleanPath(a.Path) == cleanPath(b.Path)
	case a.Port == 0 || b.Port == 0: // the kernel chooses: never the same
		return false
	case int(a.Port) >= int(b.Port)+b.Ports || int(b.Port) >= int(a.Port)+a.Ports:
		return false
	case a.IsAll() || b.IsAll():
		return true
	case a.IP.Is4() == b.IP.Is4() && a.IP.IsValid() && b.IP.IsValid() && (a.IP.IsUnspecified() || b.IP.IsUnspecified()):
		return true
	}
	return a.IP == b.IP && strings.EqualFold(a.Name, b.Name)
}

// The index finds the same overlaps as a comparison of all pairs.
func TestOverlaps(t *testing.T) {
	t.Parallel()
	words := []string{":80", "0.0.0.0:80", "[::]:80", "10.0.0.1:80", "10.0.0.1:70-90", "10.0.0.1:81", "[::1]:80", "[::1]:80-81", "db.test:80", "DB.test:80",
		":70-79", ":81-99", "0.0.0.0:1-65535", "0", ":0", "udp:80", "udp::80", "udp:10.0.0.1:80", "unix:///x", "unix:///x/", "unix:///y", "[fe80::1%a]:80", "[fe80::1%b]:80",
		":80,sni=a", ":80-90,sni=a", ":80,sni=a,alpn=h2", ":80,alpn=h2", "10.0.0.1:80,sni=b", "10.0.0.1:75-80,sni=b", "unix:///x,sni=a", "unix:///x/,sni=a", "db.test:80,sni=a"}
	for _, a := range words {
		for _, b := range words {
			services := []*Service{serving(t, "a", a), serving(t, "b", b)}
			want := isOverlap(services[0].Listeners[0], services[1].Listeners[0])
			err := NewChecker(nil).Check(services)
			if (err != nil) != want || want && !strings.Contains(err.Error(), `services "a" and "b"`) {
				t.Errorf("%s and %s: %v, want an overlap: %v", a, b, err, want)
			}
		}
	}
}

// TestSharedListeners: what listeners must agree on to have an address together, and where their ways lead.
func TestSharedListeners(t *testing.T) {
	t.Parallel()
	all := func(words ...string) (services []*Service) {
		for i, w := range words {
			listen, options, _ := strings.Cut(w, " ")
			s := serving(t, string(rune('a'+i)), listen)
			for option := range strings.FieldsSeq(options) {
				if b, ok := strings.CutPrefix(option, "->"); ok {
					s.Backends = append(s.Backends, backend(t, b))
					continue
				}
				name, value, _ := strings.Cut(option, "=")
				if err := s.Set(Field(name), value); err != nil {
					t.Fatal(err)
				}
			}
			services = append(services, s)
		}
		return services
	}
	for _, tt := range []struct {
		services []*Service
		want     string
	}{
		{all(":80-90,sni=a", ":82,sni=b", ":85-95", ":91,sni=a", ":88-92,sni=c"), ""},
		{all(":80-90,sni=a", ":82,sni=b", ":85-95", ":90-91,sni=a"), `services "a" and "d" listen on :80-90,sni=a and :90-91,sni=a, which overlap`},
		{all(":80,sni=a accept-proxy=::1,::2", ":80 accept-proxy=::2,::1", ":81"), ""},
		{all(":80-90,sni=a accept-proxy=::1", ":81,sni=b accept-proxy=::1", ":89"), `services "a" and "c" share :89 and must have the same accept-proxy and accept-proxy-only`},
		{all(":80,sni=a accept-proxy=::1 accept-proxy-only=true", ":80 accept-proxy=::1"), `must have the same accept-proxy and accept-proxy-only`},
		{all("unix:///x,mode=600,sni=a", "unix:///x,mode=600"), ""},
		{all("unix:///x,mode=600,sni=a", "unix:///x"), `services "a" and "b" share unix:///x and must say the same of its mode, user and group`},
		{all("10.0.0.1:80,sni=a", ":80,sni=b"), `services "a" and "b" listen on 10.0.0.1:80,sni=a and :80,sni=b, which overlap`},
		{all("127.0.0.1:80,sni=a ->127.0.0.1:80", "127.0.0.1:80"), `backend 127.0.0.1:80 of service a is its own listener 127.0.0.1:80,sni=a`},
		{all("127.0.0.1:80,sni=a ->127.0.0.1:81", "127.0.0.1:81,sni=a ->9001", "127.0.0.1:81 ->127.0.0.1:80"), "leads back to its listener"},
		{all("127.0.0.1:80,sni=a ->127.0.0.1:81", "127.0.0.1:81,sni=a ->9001", "127.0.0.1:81 ->9002"), ""},
	} {
		err := NewChecker(nil).Check(tt.services)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
}
