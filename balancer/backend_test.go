package balancer

import (
	"net/netip"
	"testing"
)

func TestEndpointString(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		e        Endpoint
		want     string
		resolved bool
	}{
		{Endpoint{Addr: netip.MustParseAddrPort("127.0.0.1:9001")}, "127.0.0.1:9001", true},
		{Endpoint{Addr: netip.MustParseAddrPort("127.0.0.1:9001"), Ports: 1}, "127.0.0.1:9001", true},
		{Endpoint{Addr: netip.MustParseAddrPort("10.0.0.1:9000"), Ports: 100}, "10.0.0.1:9000-9099", true},
		{Endpoint{Addr: netip.MustParseAddrPort("[2001:db8::1]:9000"), Ports: 2}, "[2001:db8::1]:9000-9001", true},
		{Endpoint{Addr: netip.MustParseAddrPort("10.0.0.1:65535"), Ports: 1}, "10.0.0.1:65535", true},
		{Endpoint{Addr: netip.MustParseAddrPort("10.0.0.1:1"), Ports: 65535}, "10.0.0.1:1-65535", true},
		{Endpoint{Addr: netip.MustParseAddrPort("10.0.0.1:0")}, "10.0.0.1", true},
		{Endpoint{Addr: netip.MustParseAddrPort("[2001:db8::1]:0")}, "[2001:db8::1]", true},
		{Endpoint{Path: "/run/x.sock"}, "unix:///run/x.sock", true},
		{Endpoint{Host: "db.local:5432"}, "db.local:5432", false},
		{Endpoint{}, "", false},
	} {
		if got := tt.e.String(); got != tt.want {
			t.Errorf("String of %#v = %q, want %q", tt.e, got, tt.want)
		}
		if got := tt.e.Resolved(); got != tt.resolved {
			t.Errorf("%q: Resolved = %v, want %v", tt.want, got, tt.resolved)
		}
	}
}

func TestStatusString(t *testing.T) {
	t.Parallel()
	for s, want := range []string{"unknown", "up", "down", "drain", "maint", "invalid"} {
		if got := Status(s).String(); got != want {
			t.Errorf("Status(%d) = %q, want %q", s, got, want)
		}
	}
}

func TestTried(t *testing.T) {
	t.Parallel()
	backends := newPool(t, "rr", specs(maxTried+1)).Backends()

	var none *Tried
	if none.Has(backends[0]) || none.Len() != 0 || none.Full() {
		t.Error("a nil *Tried is not empty")
	}
	var tried Tried
	for i, b := range backends[:maxTried] {
		if tried.Has(b) || tried.Len() != i || tried.Full() {
			t.Fatalf("before adding %d: Has %v, Len %d, Full %v", i, tried.Has(b), tried.Len(), tried.Full())
		}
		tried.Add(b)
		tried.Add(b)
		if !tried.Has(b) {
			t.Fatalf("added %d, but it is not there", i)
		}
	}
	last := backends[maxTried]
	tried.Add(last)
	if !tried.Full() || tried.Len() != maxTried || tried.Has(last) {
		t.Errorf("full: Full %v, Len %d, Has one more %v", tried.Full(), tried.Len(), tried.Has(last))
	}
	tried.Reset()
	if tried.Len() != 0 || tried.Has(backends[0]) {
		t.Error("Reset left something behind")
	}
}

func TestReleaseTooOften(t *testing.T) {
	t.Parallel()
	eachScheduler(t, func(t *testing.T, scheduler string) {
		p := newPool(t, scheduler, specs(1))
		b := acquire(p, client(0), nil)
		p.Release(b)
		defer func() {
			if recover() == nil {
				t.Error("a second Release of one flow went unnoticed")
			}
		}()
		p.Release(b)
	})
}
