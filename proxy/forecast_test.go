package proxy

import (
	"net/netip"
	"slices"
	"testing"
)

// TestPredictAgreesWithAServer compares a forecast with what a server with the same listeners says of itself.
func TestPredictAgreesWithAServer(t *testing.T) {
	t.Parallel()
	eachEngine(t, func(t *testing.T, engine string) {
		all := Listener{Network: "udp", Addr: netip.MustParseAddrPort("[::]:0")}
		c := udpService(t, UDPConfig{})
		c.Listeners = []Listener{all}
		o := Options{Engine: engine, Workers: 3}
		f, err := Predict(o, []Listener{all, all}) // the second shares the address of the first
		if err != nil {
			t.Fatal(err)
		}
		s, err := newServer(o, c)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if f.Engine != s.Engine() || f.Workers != s.WorkerCount() || f.MaxConns != s.MaxConns() || f.Pipes != s.pipes*s.workers {
			t.Errorf("%+v, but a server has engine %s, %d workers, %d flows, %d pipes each", f, s.Engine(), s.WorkerCount(), s.MaxConns(), s.pipes)
		}
		if f.Listening != s.sockets {
			t.Errorf("%d descriptors listen, but those of a server are %d", f.Listening, s.sockets)
		}
		if !slices.Contains(s.Notes(), f.FlowsReason) || !slices.Contains(s.Notes(), f.EngineReason) {
			t.Errorf("%q and %q are not of %q", f.FlowsReason, f.EngineReason, s.Notes())
		}
		if _, most := s.Services()[0].Shares(); int(most) > f.UDPFlows {
			t.Errorf("%d udp flows, but a service may have %d", f.UDPFlows, most)
		}
	})
}

// TestPredictRefusesAnUnknownEngine: it has no forecast.
func TestPredictRefusesAnUnknownEngine(t *testing.T) {
	t.Parallel()
	if _, err := Predict(Options{Engine: "steam"}, nil); err == nil {
		t.Error("no error")
	}
}
