package flow

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// testRoutes returns an address that listeners share. Each is written as "name protocol", and
// is the only one of a service of that name.
func testRoutes(listeners ...string) *Binding {
	var claims []Claim
	for _, l := range listeners {
		name, protocol, _ := strings.Cut(l, " ")
		claims = append(claims, Claim{Service: testService(ServiceConfig{Name: l}), ServerName: name, Protocol: protocol})
	}
	b := new(Binding)
	b.Assign(claims...)
	return b
}

func TestDestinationOf(t *testing.T) { // not parallel: it counts allocations
	all := []string{
		" ", "a.example.com h2", "a.example.com ", "*.example.com ", "*.example.com h2", "*.b.example.com http/1.1",
		" acme-tls/1", "*.com ", "only.example.com http/1.1", "localhost ",
	}
	tests := []struct {
		listeners []string
		name      string
		protocols string // that the client offers
		want      string // "-": nobody
	}{
		{all, "a.example.com", "h2 http/1.1", "a.example.com h2"},
		{all, "a.example.com", "http/1.1", "a.example.com "},
		{all, "a.example.com", "", "a.example.com "},
		{all, "b.example.com", "", "*.example.com "},
		{all, "b.example.com", "h2", "*.example.com h2"},
		{all, "x.y.example.com", "h2", "*.example.com h2"},
		{all, "x.b.example.com", "h2 http/1.1", "*.b.example.com http/1.1"},
		{all, "x.b.example.com", "h2", "*.example.com h2"},
		{all, "x.b.example.com", "", "*.example.com "},
		{all, "example.com", "", "*.com "},
		{all, "com", "", " "},
		{all, "com", "acme-tls/1", " acme-tls/1"},
		{all, "b.example.com", "acme-tls/1", "*.example.com "},
		{all, "only.example.com", "http/1.1", "only.example.com http/1.1"},
		{all, "only.example.com", "spdy/3", "*.example.com "},
		{all, "xa.example.org", "", " "},
		{all, "localhost", "", "localhost "},
		{all, "", "", " "},
		{all, "", "acme-tls/1 h2", " acme-tls/1"},
		{all[1:4], "", "", "-"},
		{all[1:4], "a.example.org", "h2", "-"},
		{all[1:2], "a.example.com", "http/1.1", "-"},
		{all[:1], "a.example.com", "h2", " "},
		{[]string{" h2", " http/1.1"}, "any", "http/1.1 h2", " h2"}, // the order of the listeners counts
		{[]string{" http/1.1", " h2"}, "any", "h2 http/1.1", " http/1.1"},
	}
	for _, tt := range tests {
		b := testRoutes(tt.listeners...)
		offered := strings.Fields(tt.protocols)
		has := func(p string) bool { return slices.Contains(offered, p) }
		got := "-"
		if d := b.DestinationOf(tt.name, has); d != nil {
			got = d.Service.Name
		}
		if got != tt.want {
			t.Errorf("%q with protocols %q goes to %q, want %q", tt.name, tt.protocols, got, tt.want)
		}
		if n := testing.AllocsPerRun(10, func() { b.DestinationOf(tt.name, has) }); n > 0 {
			t.Errorf("%q: %v allocations", tt.name, n)
		}
	}
}

// TestDestination: who accounts for a client before it is known whose it is.
func TestDestination(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		listeners  []string
		want       string
		needsHello bool
	}{
		{[]string{" "}, " ", false},
		{[]string{"a ", " ", "b "}, " ", true},
		{[]string{"b ", "a "}, "b ", true},
		{[]string{" h2", "b "}, " h2", true},
		{[]string{"a "}, "a ", true},
	} {
		b := testRoutes(tt.listeners...)
		if got := b.Destination().Service.Name; got != tt.want || b.NeedsHello() != tt.needsHello {
			t.Errorf("%q: %q accounts, needs a hello: %v", tt.listeners, got, b.NeedsHello())
		}
	}
}

// TestRetiredBinding: its last clients get what the services had then.
func TestRetiredBinding(t *testing.T) {
	t.Parallel()
	b := testRoutes("a ", " ")
	to := b.DestinationOf("a", nil)
	before := to.Settings()
	b.Retire()
	to.Service.SetSettings(NewSettings(to.Service, ServiceConfig{Name: "a "}, nil, nil))
	if to = b.DestinationOf("a", nil); to.Settings() != before || !b.NeedsHello() {
		t.Error("it has other settings, or no names")
	}
}

func TestBindingIsRestored(t *testing.T) {
	t.Parallel()
	for _, listeners := range [][]string{{" "}, {"a h2", "*.b ", " "}} {
		b := testRoutes(listeners...)
		for range 2 { // the second time it is retired
			var n Numbers
			var services Numbering[Service]
			st := b.Save(&n, services.Of)
			if err := st.Check(len(services.All), Limits{Settings: len(n.Settings.All)}); err != nil {
				t.Fatal(err)
			}
			restored := new(Binding)
			restored.Restore(&st, services.All, &Refs{Settings: n.Settings.All})
			if !slices.Equal(restored.Destinations(), b.Destinations()) || restored.Destination().Service != b.Destination().Service ||
				restored.NeedsHello() != b.NeedsHello() || restored.isGone.Load() != b.isGone.Load() {
				t.Errorf("%q: restored as %+v", listeners, restored.Destinations())
			}
			b.Retire()
		}
	}
	st := BindingState{DestinationState: DestinationState{Service: 1}, Others: []DestinationState{{Service: 1}}}
	if err := st.Check(1, Limits{}); err == nil {
		t.Error("two listeners with the same server name and protocol")
	}
}

// TestDestinationsByPrefix: the longest prefix of the peer decides; who is in none gets the rest, or is refused.
func TestDestinationsByPrefix(t *testing.T) {
	t.Parallel()
	near, far, rest := new(Service), new(Service), new(Service)
	claims := []Claim{{Service: far, From: "10.0.0.0/8+fd00::/8"}, {Service: near, From: "10.1.0.0/16"}, {Service: rest}}
	var with, without Binding
	with.Assign(claims...)
	without.Assign(claims[:2]...)
	for peer, want := range map[string]*Service{
		"10.1.2.3": near, "10.2.0.1": far, "fd00::1": far, "fe80::1%eth0": rest, "192.0.2.1": rest,
	} {
		ip := netip.MustParseAddr(peer)
		if d, ok := with.DestinationFor(ip); !ok || d.Service != want {
			t.Errorf("%s: %+v, %v", peer, d, ok)
		}
		if d, ok := without.DestinationFor(ip); ok != (want != rest) || ok && d.Service != want || d == nil {
			t.Errorf("%s without a rest: %+v, %v", peer, d, ok)
		}
	}
	if with.Destination().Service != rest || without.Destination().Service != far || with.NeedsHello() {
		t.Error("the destination that accounts is another one")
	}
}

// TestDestinationByPrefixAllocatesNothing runs alone, since it counts allocations.
func TestDestinationByPrefixAllocatesNothing(t *testing.T) {
	var b Binding
	b.Assign(Claim{Service: new(Service), From: "10.0.0.0/8"}, Claim{Service: new(Service)})
	peer := netip.MustParseAddr("10.1.2.3")
	if n := testing.AllocsPerRun(100, func() { b.DestinationFor(peer) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
