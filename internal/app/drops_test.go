package app

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"usher/balancer"
	"usher/proxy"
	"usher/proxy/flow"
)

// newServer returns a server of one service that is bound and not started.
func newServer(o proxy.Options, service proxy.ServiceConfig) (*proxy.Server, error) {
	s, err := proxy.New(o)
	if err != nil {
		return nil, err
	}
	return s, s.Apply([]*proxy.ServiceConfig{&service})
}

func TestDropsAreToldOnce(t *testing.T) {
	t.Parallel()
	pool, err := balancer.NewPool(balancer.Options{FailClosed: true})
	if err != nil {
		t.Fatal(err)
	}
	server, err := newServer(proxy.Options{Engine: "portable"}, proxy.ServiceConfig{
		Name: "empty", Pool: pool, ConnectTimeout: time.Second,
		Listeners: []proxy.Listener{{Network: "udp", Addr: netip.MustParseAddrPort("127.0.0.1:0")}},
		UDP:       proxy.UDPConfig{IdleTimeout: time.Minute},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	core, lines := observer.New(zap.DebugLevel)
	d := newDropReporter(server.Services, zap.New(core))
	server.Start()
	service := server.Services()[0]
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(service.Config().Listeners[0].Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("nobody is there")); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for service.Dropped(flow.DropRefused) == 0 {
		if time.Now().After(deadline) {
			t.Fatal("the datagram was not counted")
		}
		time.Sleep(time.Millisecond)
	}

	d.close()
	d.report()
	all := lines.All()
	if len(all) != 2 {
		t.Fatalf("%d lines, want 2: %v", len(all), all)
	}
	if got := all[0].ContextMap(); got["service"] != "empty" || got["refused"] != uint64(1) || len(got) != 2 {
		t.Errorf("logged %v", got)
	}
	got := all[1].ContextMap()
	if got["service"] != "empty" || got["reason"] != "no-backend" || got["count"] != uint64(1) || got["remedy"] == "" || len(got) != 4 {
		t.Errorf("logged %v", got)
	}
}

// Clients that were refused at the front door are reported by reason; those that were denied are no warning.
func TestRefusedClientsAreTold(t *testing.T) {
	t.Parallel()
	service := flow.NewService("web", 0)
	service.SetSettings(flow.NewSettings(service, proxy.ServiceConfig{Name: "web"}, nil, nil))
	core, lines := observer.New(zap.DebugLevel)
	d := newDropReporter(func() []*proxy.Service { return []*proxy.Service{service} }, zap.New(core))
	var a flow.Admission
	for o := range flow.Outcomes() {
		if o.IsFrontDoor() {
			a.TurnAway(service.Settings(), flow.Origin{}, o, 0)
		}
	}
	d.close()
	reasons := make(map[string]bool)
	for _, line := range lines.All() {
		fields := line.ContextMap()
		reason := fields["reason"].(string)
		reasons[reason] = true
		_, hasRemedy := fields["remedy"]
		if isDenied := reason == "denied" || reason == "no-endpoint"; line.Message != turnedAway || fields["count"] != uint64(1) || isDenied == hasRemedy ||
			isDenied != (line.Level == zap.InfoLevel) {
			t.Errorf("logged %v %s %v", line.Level, line.Message, fields)
		}
	}
	if len(reasons) != 6 || lines.Len() != 6 {
		t.Errorf("logged %v", lines.All())
	}
}
