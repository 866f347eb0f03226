package flags

import (
	"net/netip"
	"strings"
	"testing"

	"usher/internal/config"
)

func TestLoops(t *testing.T) {
	t.Parallel()
	local := func(ip netip.Addr) bool { return ip == netip.MustParseAddr("10.0.0.7") }
	for _, tt := range []struct{ words, want string }{
		{"18080=18080", "backend 127.0.0.1:18080 of service 18080 is its own listener 127.0.0.1:18080"},
		{"18080=127.0.0.1", "backend 127.0.0.1 of service 18080 is its own listener 127.0.0.1:18080"},
		{"18080=9001,18080@0", "backend 127.0.0.1:18080 of service 18080 is its own listener 127.0.0.1:18080"},
		{":18080=18080", "backend 127.0.0.1:18080 of service 18080 is its own listener :18080"},
		{":18080=127.3.2.1", "backend 127.3.2.1 of service 18080 is its own listener :18080"},
		{":18080=[::1]", "backend [::1] of service 18080 is its own listener :18080"},
		{"[::]:18080=[::1]", "backend [::1] of service 18080 is its own listener [::]:18080"},
		{"0.0.0.0:18080=127.0.0.9", "backend 127.0.0.9 of service 0.0.0.0-18080 is its own listener 0.0.0.0:18080"},
		{"0.0.0.0:18080=[::ffff:127.0.0.1]", "backend 127.0.0.1 of service 0.0.0.0-18080 is its own listener 0.0.0.0:18080"},
		{":18080=10.0.0.7", "backend 10.0.0.7 of service 18080 is its own listener :18080"},
		{"18080-18089=127.0.0.1", "backend 127.0.0.1 of service 18080-18089 is its own listener 127.0.0.1:18080-18089"},
		{"18080-18089=18085", "backend 127.0.0.1:18085 of service 18080-18089 is its own listener 127.0.0.1:18080-18089"},
		{"18080-18089=18080-18089", "backend 127.0.0.1:18080-18089 of service 18080-18089 is its own listener 127.0.0.1:18080-18089"},
		{"18080=18081 18081=18080", "backend 127.0.0.1:18080 of service 18081 leads back to its listener 127.0.0.1:18081, by way of service 18080"},
		{"18080=9001,18081 18081=18082 18082-18083=9001,18080",
			"backend 127.0.0.1:18080 of service 18082-18083 leads back to its listener 127.0.0.1:18082-18083, by way of service 18080, 18081"},
		{"unix:///x/y=unix:///x//y", "backend unix:///x//y of service x-y is its own listener unix:///x/y"},
		{"18080=unix:///x unix:///x=18080", "leads back to its listener unix:///x, by way of service 18080"},
		{"0=9001 1=2 2-3=1", "backend 127.0.0.1:1 of service 2-3 leads back to its listener 127.0.0.1:2-3, by way of service 1"},
		{"0=9001 1=9001 2-3=1,9001 18080-18089=18080,9001", "backend 127.0.0.1:18080 of service 18080-18089 is its own listener"},
		{"db.local:80=DB.local", "backend DB.local of service db.local-80 is its own listener db.local:80"},
		{"udp:18080=18080", "backend udp://127.0.0.1:18080 of service udp-18080 is its own listener udp://127.0.0.1:18080"},
		{"udp://:18080=10.0.0.7", "backend udp://10.0.0.7 of service udp-18080 is its own listener udp://:18080"},
		{"udp:18080-18089=udp:18080-18089", "of service udp-18080-18089 is its own listener udp://127.0.0.1:18080-18089"},
		{"18080=18081 udp:18080=18081 18081=9001 udp:18081=18080", "backend udp://127.0.0.1:18080 of service udp-18081 leads back to " +
			"its listener udp://127.0.0.1:18081, by way of service udp-18080"},
		{"udp:db.local:53=DB.local", "backend udp://DB.local of service udp-db.local-53 is its own listener udp://db.local:53"},

		{"18080=18081 18081=18082 18082=9001", ""},
		{"udp:18080=18081 udp:18081=18082", ""},
		// A port of tcp and the same port of udp are different.
		{"18080=18081 udp:18081=18080", ""},
		{":18080=18081 udp://:18081=18080 18081=9001 udp:18080=9001", ""},
		{"18080=[::1]", ""},
		{"18080=127.0.0.2", ""},
		{"0.0.0.0:18080=[::1]", ""},
		{":18080=10.0.0.8", ""},
		{"10.0.0.7:18080=18080", ""},
		{"18080=localhost", ""}, // it may be [::1] alone: to be asked again
		{"18080=10.0.0.1 18081=10.0.0.1,18080", ""},
		{"unix:///x=unix:///y unix:///y=9001", ""},
		// Each port leads to the next one, and the last one out.
		{"10000-59999=10001-60000", ""},
		{"19000-19001=20000-20001 20001=19000", ""},
		{"0=9001", ""},
	} {
		c, err := parse(Words{Mappings: strings.Fields(tt.words)}, machine)
		if err == nil {
			err = config.NewChecker(local).Check(c.Services)
		}
		if err == nil && tt.want != "" || err != nil && (tt.want == "" || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: error %v, want %q", tt.words, err, tt.want)
		}
	}
}
