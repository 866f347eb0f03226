package load

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	good := Config{
		Kind: CRR, Conns: 1, Size: 64, Duration: time.Second,
		Sources:  []netip.Addr{netip.MustParseAddr("127.0.0.2")},
		Backends: []netip.Addr{netip.MustParseAddr("127.0.1.1")},
	}
	if err := good.check(); err != nil {
		t.Fatalf("a good config: %v", err)
	}
	for _, tt := range []struct {
		name string
		edit func(*Config)
		want string
	}{
		{"kind", func(c *Config) { c.Kind = "flood" }, `"flood"`},
		{"no kind", func(c *Config) { c.Kind = "" }, "unknown kind"},
		{"connections", func(c *Config) { c.Conns = 0 }, "must be positive"},
		{"duration", func(c *Config) { c.Duration = 0 }, "must be positive"},
		{"warm-up", func(c *Config) { c.Warmup = -1 }, "must be positive"},
		{"empty request", func(c *Config) { c.Size = 0 }, "size 0"},
		{"huge write", func(c *Config) { c.Kind, c.Size = BulkUp, maxSize+1 }, "is not within"},
		{"huge request", func(c *Config) { c.Size = maxMessage + 1 }, "is above"},
		{"window on TCP", func(c *Config) { c.Window = 1 }, "has no window"},
		{"window to hold", func(c *Config) { c.Kind, c.Window = UDPIdle, 2 }, "has no window"},
		{"no window", func(c *Config) { c.Kind = UDP }, "a window of 0"},
		{"huge window", func(c *Config) { c.Kind, c.Window = UDP, maxWindow+1 }, "a window of"},
		{"tiny datagram", func(c *Config) { c.Kind, c.Window, c.Size = UDP, 1, stampSize-1 }, "a datagram of 11 bytes"},
		{"huge datagram", func(c *Config) { c.Kind, c.Window, c.Size = UDP, 1, maxDatagram+1 }, "a datagram of 65508 bytes"},
		{"pace of bytes", func(c *Config) { c.Kind, c.Pace = BulkUp, 1 }, "has no pace"},
		{"denied without a pace", func(c *Config) { c.Denied = c.Sources }, "need a pace"},
		{"no source", func(c *Config) { c.Sources = nil }, "needs sources"},
		{"no backend", func(c *Config) { c.Backends = nil }, "needs sources and backends"},
		{"IPv6", func(c *Config) { c.Backends = []netip.Addr{netip.IPv6Loopback()} }, "::1 is not IPv4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := good
			tt.edit(&c)
			if err := c.check(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}
