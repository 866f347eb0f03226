package doctor

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"usher/internal/config"
	"usher/proxy"
)

// TestProbe judges this machine as it is, for a service that it can have and one that it cannot.
func TestProbe(t *testing.T) {
	t.Parallel()
	s := config.NewService("web", config.TCP)
	for _, word := range []string{"127.0.0.1:8080", "192.0.2.1:8080", "localhost:8080"} {
		a, err := config.ParseListener(word)
		if err != nil {
			t.Fatal(err)
		}
		s.Listeners = append(s.Listeners, a)
	}
	f, err := Probe(t.Context(), Question{Options: proxy.Options{Engine: "portable", Workers: 3}, Services: []*config.Service{s}})
	if err != nil {
		t.Fatal(err)
	}
	if f.Forecast.Workers != 3 || f.Forecast.Engine != "portable" || f.Forecast.Listening != 3 || f.HasUDP {
		t.Errorf("%+v", f)
	}
	for i, want := range []string{"", "no interface of this machine", ""} {
		if got := f.Listeners[i]; canHave("192.0.2.1") && i == 1 {
			continue
		} else if !strings.Contains(got.Error, want) || want == "" && got.Error != "" {
			t.Errorf("%+v, want %q", got, want)
		}
	}
	for _, found := range Judge(f) {
		if found.Item == "" || found.Level != Unknown && (found.Is == "" || found.Means == "") {
			t.Errorf("%+v", found)
		}
	}
}

// canHave reports whether a socket can have an address, as with ip_nonlocal_bind.
func canHave(ip string) bool {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(ip), 0)))
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// TestProbeRefusesAQuestion that no server could have.
func TestProbeRefusesAQuestion(t *testing.T) {
	t.Parallel()
	if _, err := Probe(t.Context(), Question{Options: proxy.Options{Engine: "steam"}}); err == nil {
		t.Error("no error")
	}
}
