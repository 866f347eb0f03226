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
)

func TestDropsAreToldOnce(t *testing.T) {
	t.Parallel()
	pool, err := balancer.NewPool(balancer.Options{FailClosed: true, Initial: balancer.Up})
	if err != nil {
		t.Fatal(err)
	}
	server, err := proxy.New(proxy.Options{Engine: "portable"}, []proxy.ServiceConfig{{
		Name: "empty", Pool: pool, ConnectTimeout: time.Second,
		Listeners: []proxy.Listener{{Network: "udp", Addr: netip.MustParseAddrPort("127.0.0.1:0")}},
		UDP:       proxy.UDPConfig{IdleTimeout: time.Minute},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	server.Start()
	service := server.Services()[0]
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(service.Listeners[0].Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("nobody is there")); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for service.Dropped(proxy.DropRefused) == 0 {
		if time.Now().After(deadline) {
			t.Fatal("the datagram was not counted")
		}
		time.Sleep(time.Millisecond)
	}

	core, lines := observer.New(zap.DebugLevel)
	d := newDrops(server.Services(), zap.New(core))
	d.close()
	d.tell()
	all := lines.All()
	if len(all) != 1 {
		t.Fatalf("%d lines, want 1: %v", len(all), all)
	}
	got := all[0].ContextMap()
	if got["service"] != "empty" || got["refused"] != uint64(1) || len(got) != 2 {
		t.Errorf("told %v", got)
	}
}
