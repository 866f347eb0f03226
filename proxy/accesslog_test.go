package proxy

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"usher/balancer"
	"usher/proxy/flow"
)

// A line names the listener that the client used and the port that the backend was used at.
func TestAccessLogLine(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddrPort
	tcp := configOf(ServiceConfig{Name: "s", Listeners: []Listener{{Network: "tcp"}}})
	v6 := configOf(ServiceConfig{Name: "s", Listeners: []Listener{{Network: "tcp", Addr: addr("[::]:80"), V6Only: true, Ports: 3}}})
	udp := configOf(ServiceConfig{Name: "s", Listeners: []Listener{{Network: "udp"}}})
	backend := func(e balancer.Endpoint) *balancer.Backend {
		pool, err := balancer.NewPool(balancer.Options{Scheduler: "rr"})
		if err != nil {
			t.Fatal(err)
		}
		pool.Update([]balancer.Spec{{Endpoint: e, Weight: 1, Check: balancer.Up}}, 0)
		return pool.Backends()[0]
	}
	for _, tt := range []struct {
		record accessRecord
		want   map[string]any
	}{
		{
			accessRecord{Origin: flow.Origin{Client: addr("192.0.2.1:1000"), Local: addr("[::]:8002"), Offset: 2}, Settings: tcp, Duration: 1500 * time.Microsecond, Connect: time.Second, Backend: backend(balancer.Endpoint{Addr: addr("10.0.0.1:9000"), Ports: 10})},
			map[string]any{"client": "192.0.2.1:1000", "listener": ":8002", "backend": "10.0.0.1:9002", "network": "tcp", "connect_ms": 1000.0, "duration_ms": 1.5},
		},
		{
			accessRecord{Origin: flow.Origin{Client: addr("[fd00::9]:1000"), Local: addr("[fd00::1]:53")}, Settings: udp, Connect: -1, Duration: time.Nanosecond, Backend: backend(balancer.Endpoint{Addr: addr("[fd00::2]:0")})},
			map[string]any{"client": "[fd00::9]:1000", "listener": "[fd00::1]:53", "backend": "[fd00::2]:53", "network": "udp", "duration_ms": 0.0},
		},
		{
			accessRecord{Origin: flow.Origin{Path: "/run/in.sock"}, Settings: tcp, Connect: -1, Backend: backend(balancer.Endpoint{Path: "/run/app.sock"})},
			map[string]any{"client": "unix", "listener": "unix:///run/in.sock", "backend": "unix:///run/app.sock", "network": "unix", "duration_ms": 0.0},
		},
		{
			accessRecord{Origin: flow.Origin{Client: addr("[fd00::9]:1000"), Local: addr("[::]:82")}, Settings: v6, Connect: -1},
			map[string]any{"client": "[fd00::9]:1000", "listener": "[::]:82", "backend": "-", "network": "tcp", "duration_ms": 0.0},
		},
		{
			accessRecord{Origin: flow.Origin{Client: addr("192.0.2.1:1000"), Local: addr("127.0.0.1:80"), Via: &flow.Via{Peer: addr("10.0.0.1:2000"), ServerName: "a.test", ID: "0a"}}, Settings: tcp, Connect: -1, Outcome: flow.Denied, Others: 7},
			map[string]any{"client": "192.0.2.1:1000", "peer": "10.0.0.1:2000", "listener": "127.0.0.1:80", "backend": "-", "network": "tcp", "duration_ms": 0.0, "sni": "a.test", "id": "0a", "others": uint64(7)},
		},
		{
			accessRecord{Origin: flow.Origin{Client: addr("192.0.2.1:1000"), Local: addr("0.0.0.0:80")}, Settings: tcp, Connect: -1},
			map[string]any{"client": "192.0.2.1:1000", "listener": "0.0.0.0:80", "backend": "-", "network": "tcp", "duration_ms": 0.0},
		},
	} {
		core, lines := observer.New(zap.InfoLevel)
		tt.record.Outcome = max(tt.record.Outcome, flow.Finished)
		(&accessLog{log: zap.New(core), isFull: true}).line(tt.record)
		got := lines.All()[0].ContextMap()
		for _, same := range []string{"service", "bytes_up", "bytes_down", "tries", "end"} {
			if _, has := got[same]; !has {
				t.Errorf("%v has no %s", got, same)
			}
			delete(got, same)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Error(diff)
		}
	}
}
